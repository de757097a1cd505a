"""Mask schedules, count laws and random masks for masked diffusion over image codes.

A schedule is the mask probability m(t) with m(0) = 0 and m(1) = 1. Two ways of masking an image:

    independently   every position with probability m(t)              weight m'(t) / m(t)
                    or with m(k/T), k uniform in 1..T                 weight T u_k
    exact count     k positions, k ~ P, a uniformly random subset     weight 1 / (k P(k))

Each weight w makes `w * CE_S` (CE_S: cross-entropy summed over the masked positions S) an unbiased estimate
of the likelihood bound of the masked diffusion (L1 at T = infinity, or at T for the second line). The
arcsine count law is that of `k = max(1, round(N cos(pi t / 2)))` with t uniform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from unif2ace_core.errors import UserError


class Schedule:
    """A mask probability m(t), increasing from m(0) = 0 to m(1) = 1. All methods are elementwise."""

    def mask_probability(self, t: Tensor) -> Tensor:
        """m(t), the probability that a position is masked at time t in [0, 1]."""
        raise NotImplementedError

    def derivative(self, t: Tensor) -> Tensor:
        """m'(t)."""
        raise NotImplementedError

    def weight(self, t: Tensor) -> Tensor:
        """m'(t) / m(t), the weight of an independently masked image; infinite at t = 0."""
        return self.derivative(t) / self.mask_probability(t)

    def remaining(self, progress: Tensor) -> Tensor:
        """m(1 - progress): mask ratio after that fraction of generation, which runs from t = 1 to 0."""
        return self.mask_probability(1 - progress)


class CosineSchedule(Schedule):
    """m(t) = sin(pi t / 2); seen from generation the ratio after progress p is cos(pi p / 2)."""

    def mask_probability(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def derivative(self, t: Tensor) -> Tensor:
        return (math.pi / 2) * torch.cos(t * (math.pi / 2))

    def weight(self, t: Tensor) -> Tensor:
        return (math.pi / 2) / torch.tan(t * (math.pi / 2))

    def remaining(self, progress: Tensor) -> Tensor:
        return torch.cos(progress * math.pi * 0.5)


class LinearSchedule(Schedule):
    """m(t) = t."""

    def mask_probability(self, t: Tensor) -> Tensor:
        return t

    def derivative(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def weight(self, t: Tensor) -> Tensor:
        return 1 / t


def step_probabilities(schedule: Schedule, steps: int) -> tuple[Tensor, Tensor]:
    """Mask and unmask probabilities of a T-step chain.

    Returns m_k and u_k = (m_k - m_{k-1}) / m_k for k = 1..T, both `(T,)` float64; u_1 is exactly 1.
    """
    if steps < 1:
        raise UserError(f"a chain needs at least 1 step, got {steps}; ask for 1 or more")
    m = schedule.mask_probability(torch.arange(steps + 1, dtype=torch.float64) / steps)
    return m[1:], (m[1:] - m[:-1]) / m[1:]


def arcsine_law(n: int) -> Tensor:
    """P(k) of k = max(1, round(n cos(pi t / 2))), t uniform in (0, 1); `(n,)` float64, P(k) at k - 1."""
    k = torch.arange(1, n + 1, dtype=torch.float64)
    upper = torch.asin(torch.clamp((k + 0.5) / n, max=1.0))
    lower = torch.asin((k - 0.5) / n)
    lower[0] = 0.0  # everything that rounds to 0 is lifted to one mask
    return (2 / math.pi) * (upper - lower)


def uniform_law(n: int) -> Tensor:
    """P(k) = 1/n, the lowest-variance law for evaluation; `(n,)` float64."""
    return torch.full((n,), 1.0 / n, dtype=torch.float64)


COUNT_LAWS: dict[str, Callable[[int], Tensor]] = {"arcsine": arcsine_law, "uniform": uniform_law}


@lru_cache(maxsize=64)
def count_law(name: str, n: int) -> Tensor:
    """P(k), k = 1..n, of the named count law; `(n,)` float64, shared between callers: do not modify."""
    if name not in COUNT_LAWS:
        raise UserError(f"unknown count law {name!r}; choose one of: {', '.join(COUNT_LAWS)}")
    if n < 1:
        raise UserError(f"a count law needs at least 1 position, got {n}; give the number of image codes")
    return COUNT_LAWS[name](n)


def count_weights(law: Tensor) -> Tensor:
    """w(k) = 1 / (k P(k)) for k = 1..n; `law` and result `(n,)`."""
    return 1 / (torch.arange(1, law.shape[0] + 1, dtype=law.dtype) * law)


def counts_at(law: Tensor, quantiles: Tensor) -> Tensor:
    """Inverse distribution function of a count law: quantiles in [0, 1), any shape -> counts in 1..n."""
    below = torch.searchsorted(law.cumsum(0), quantiles.to(law.dtype), right=True)
    return below.clamp(max=law.shape[0] - 1) + 1  # the rounded cumulative sum may end below 1


def draw_counts(law: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """`(batch,)` int64 independent counts k ~ law, on the generator's device."""
    return counts_at(law.to(generator.device), _uniform((batch,), generator))


def exact_mask(counts: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Mask exactly counts[b] positions of row b, all subsets equally likely; `(B,)` -> `(B, n)` bool."""
    ranks = _uniform((counts.shape[0], n), generator).argsort(dim=1).argsort(dim=1)
    return ranks < counts.to(ranks.device)[:, None]


def ordered_mask(counts: Tensor, rank: Tensor) -> Tensor:
    """Mask the counts[b] positions that come last in an order, as a sampler with that order leaves them.

    Subsets are not equally likely then, so no weight makes the loss a likelihood bound.
    counts `(B,)`, rank `(n,)` of each position from 0 -> `(B, n)` bool.
    """
    return rank.to(counts.device) >= len(rank) - counts[:, None]


def independent_mask(probability: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Mask every position of row b with probability[b], independently; `(B,)` -> `(B, n)` bool."""
    draws = _uniform((probability.shape[0], n), generator)
    return draws < probability.to(draws.device)[:, None]


def draw_times(batch: int, generator: torch.Generator) -> Tensor:
    """`(batch,)` float64 times, uniform in (0, 1]."""
    return 1 - _uniform((batch,), generator)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
