"""Likelihood bounds of masked diffusion: -log p(x_0) <= L1_T <= L2_T, and L1 at T = infinity.

    L1_T = sum_k u_k E[CE_S]        L2_T = sum_k E[CE_S]        u_k = (m_k - m_{k-1}) / m_k
    L1_inf = sum_k mean_{|S| = k} CE_S / k = mean over all orders of the autoregressive negative
    log-likelihood

Unbiased estimates of a model from random masks, by the way the masks are drawn:

    estimate_bound      exactly k positions, k ~ P             L1_inf: CE_S / (k P(k))
    estimate_in_time    every position with m(t), t uniform    L1_inf: m'/m CE_S;  limit of L2_T / T: CE_S
    estimate_chain      every position with m_k, k in 1..T     L1_T: T u_k CE_S;   L2_T: T CE_S

`N / k CE_S` with k uniform has the lowest variance and is the one to evaluate with; the arcsine law is what
training samples; independent masks are worse, their variance diverges logarithmically at t = 0. L1_inf does
not depend on the schedule. `ExactBounds` computes everything by enumeration of all subsets for images of a
few codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.diffusion.d3diff import unnormalized_penalty
from unif2ace_core.diffusion.samplers import Posterior, masked_logits
from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    Schedule,
    count_law,
    count_weights,
    counts_at,
    exact_mask,
    independent_mask,
    step_probabilities,
)
from unif2ace_core.errors import UserError

TIMES = ("uniform", "low_discrepancy")


@dataclass(frozen=True)
class BoundEstimate:
    """Draws whose mean over an image is an unbiased estimate of its bound; nats per image, not per position."""

    draws: Tensor  # (B, strata) float64

    @property
    def image_nats(self) -> Tensor:
        """`(B,)` the bound of each image."""
        return self.draws.mean(dim=1)

    @property
    def nats(self) -> float:
        """The mean over images."""
        return float(self.draws.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of `nats` over images; for one image over strata (too large); nan for one draw."""
        values = self.image_nats if self.draws.shape[0] > 1 else self.draws[0]
        return float(values.std() / math.sqrt(values.numel()))

    @classmethod
    def merged(cls, estimates: Sequence[BoundEstimate]) -> BoundEstimate:
        """One estimate over the images of several batches with the same number of strata."""
        return cls(torch.cat([estimate.draws for estimate in estimates]))


def estimate_bound(
    posterior: Posterior,
    codes: Tensor,
    generator: torch.Generator,
    *,
    mask_id: int,
    strata: int = 8,
    law: str = "uniform",
) -> BoundEstimate:
    """Estimate L1_inf of each image with stratified mask counts.

    codes `(B, N)`; the posterior is called `strata` times with all B rows. In call s each image masks
    exactly k positions, k from the s-th of `strata` equal parts of the count law ("uniform" or "arcsine");
    each draw is CE_S / (k P(k)), its mean over strata is unbiased.
    """
    _check_strata(strata)
    batch, n = codes.shape
    probabilities = count_law(law, n).to(generator.device)
    weights = count_weights(probabilities)
    draws: list[Tensor] = []
    for stratum in range(strata):
        noise = torch.rand(batch, generator=generator, device=generator.device, dtype=torch.float64)
        counts = counts_at(probabilities, (stratum + noise) / strata)
        mask = exact_mask(counts, n, generator).to(codes.device)
        ce = masked_cross_entropy(posterior, codes, mask, mask_id)
        # Strata are equally probable, so their plain mean has the right weights.
        draws.append(weights[counts - 1].to(ce.device) * ce)
    return BoundEstimate(torch.stack(draws, dim=1).cpu())


def estimate_in_time(
    posterior: Posterior,
    codes: Tensor,
    generator: torch.Generator,
    *,
    mask_id: int,
    schedule: Schedule | None = None,
    strata: int = 8,
    times: str = "low_discrepancy",
) -> tuple[BoundEstimate, BoundEstimate]:
    """Estimate (L1_inf, limit of L2_T / T) of each image with independent masks at random times.

    codes `(B, N)`; the posterior is called `strata` times with all B rows; cosine schedule by default. The
    second bound's limit is the integral of E[CE_S], the masked term of D3Diff; L2_T itself grows without
    limit. times: see `time_quantiles`.
    """
    schedule = schedule or CosineSchedule()
    draws: list[tuple[Tensor, Tensor]] = []
    for quantiles in time_quantiles(codes.shape[0], strata, generator, times).unbind(1):
        t = 1 - quantiles  # in (0, 1]: the weight is infinite at 0
        ce = _independently_masked(posterior, codes, schedule.mask_probability(t), generator, mask_id)
        draws.append((schedule.weight(t).cpu() * ce, ce))
    return _pair(draws)


def estimate_chain(
    posterior: Posterior,
    codes: Tensor,
    generator: torch.Generator,
    *,
    mask_id: int,
    schedule: Schedule,
    steps: int,
    strata: int = 8,
    times: str = "low_discrepancy",
) -> tuple[BoundEstimate, BoundEstimate]:
    """Estimate (L1_T, L2_T) of each image for a chain of T = `steps` steps.

    codes `(B, N)`; the posterior is called `strata` times with all B rows, each masked independently with
    m_k, k uniform in 1..T. times: see `time_quantiles`.
    """
    m, u = step_probabilities(schedule, steps)
    draws: list[tuple[Tensor, Tensor]] = []
    for quantiles in time_quantiles(codes.shape[0], strata, generator, times).unbind(1):
        k = (quantiles * steps).long().clamp(max=steps - 1).cpu()
        ce = _independently_masked(posterior, codes, m[k], generator, mask_id)
        draws.append((steps * u[k] * ce, steps * ce))
    return _pair(draws)


def time_quantiles(batch: int, strata: int, generator: torch.Generator, times: str) -> Tensor:
    """`(batch, strata)` float64 in [0, 1), uniform; equally spaced in a row from one random start if
    "low_discrepancy", independent if "uniform". The mean over a row of any function of them is unbiased."""
    _check_strata(strata)
    if times not in TIMES:
        raise UserError(f"unknown way to draw times {times!r}; choose one of: {', '.join(TIMES)}")
    columns = strata if times == "uniform" else 1
    noise = torch.rand(batch, columns, generator=generator, device=generator.device, dtype=torch.float64)
    if times == "uniform":
        return noise
    return (torch.arange(strata, device=noise.device) + noise) / strata


def _check_strata(strata: int) -> None:
    if strata < 1:
        raise UserError(f"the bound needs at least 1 stratum, got {strata}; 8 is a good number")


def _independently_masked(
    posterior: Posterior, codes: Tensor, m: Tensor, generator: torch.Generator, mask_id: int
) -> Tensor:
    """CE_S of each image, every position masked with m `(B,)`; `(B,)` float64 on the CPU."""
    mask = independent_mask(m, codes.shape[1], generator).to(codes.device)
    return masked_cross_entropy(posterior, codes, mask, mask_id).cpu()


def _pair(draws: Sequence[tuple[Tensor, Tensor]]) -> tuple[BoundEstimate, BoundEstimate]:
    first, second = (BoundEstimate(torch.stack(column, dim=1)) for column in zip(*draws))
    return first, second


@torch.no_grad()
def masked_cross_entropy(posterior: Posterior, codes: Tensor, mask: Tensor, mask_id: int) -> Tensor:
    """CE_S of each image: codes and mask `(B, N)` -> `(B,)` float64, nats summed over masked positions."""
    logits = masked_logits(posterior, codes.masked_fill(mask, mask_id), mask_id)
    ce = F.cross_entropy(logits, codes[mask], reduction="none").double()
    image = mask.nonzero()[:, 0]
    return ce.new_zeros(codes.shape[0]).index_add(0, image, ce)


class ExactBounds:
    """All bounds of one small image `(N,)`, N <= 10, by enumeration of its 2^N masked subsets, in float64.

    With `unnormalized` the score term is that of c~ = exp(logits): it adds Z - 1 - log Z per masked position.
    """

    def __init__(self, posterior: Posterior, codes: Tensor, mask_id: int) -> None:
        n = codes.shape[0]
        if n > 10:
            raise UserError(f"exact bounds enumerate 2^N subsets, N = {n} is too many; use estimate_bound")
        self.n = n
        # Row s is the subset whose bit i says that position i is masked.
        self.subsets = (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1 == 1
        self.sizes = self.subsets.sum(dim=1)
        images = codes.expand(2**n, n)
        logits = masked_logits(posterior, images.masked_fill(self.subsets, mask_id), mask_id).double()
        log_c = logits.log_softmax(dim=1).gather(1, images[self.subsets][:, None]).squeeze(1)
        self.log_c = self._at_subsets(log_c)
        self.ce = -self.log_c.sum(dim=1)
        self.penalty = self._at_subsets(unnormalized_penalty(logits.logsumexp(dim=1))).sum(dim=1)

    def _at_subsets(self, values: Tensor) -> Tensor:
        table = torch.zeros(self.subsets.shape, dtype=torch.float64)
        table[self.subsets] = values
        return table

    def _terms(self, unnormalized: bool) -> Tensor:
        return self.ce + self.penalty if unnormalized else self.ce

    def discrete(self, schedule: Schedule, steps: int, unnormalized: bool = False) -> tuple[float, float]:
        """(L1_T, L2_T); `unnormalized` changes the first only."""
        m, u = step_probabilities(schedule, steps)
        law = m[:, None] ** self.sizes * (1 - m[:, None]) ** (self.n - self.sizes)  # (T, 2^N)
        return float(u @ law @ self._terms(unnormalized)), float((law @ self.ce).sum())

    def mean_by_count(self, unnormalized: bool = False) -> Tensor:
        """Mean of CE_S over the subsets of each size; `(N,)`, entry k - 1 for |S| = k."""
        terms = self._terms(unnormalized)
        return torch.stack([terms[self.sizes == k].mean() for k in range(1, self.n + 1)])

    def infinite(self, unnormalized: bool = False) -> float:
        """L1_inf."""
        return float((self.mean_by_count(unnormalized) / torch.arange(1, self.n + 1)).sum())

    def chain_nll(self, schedule: Schedule, steps: int) -> float:
        """-log p(x_0) of the T-step ancestral chain, by a forward pass over subsets that stay masked."""
        kept = (self.subsets[None] & self.subsets[:, None]) == self.subsets[None]
        inside = kept.all(dim=2)  # [S, S']: S' is a subset of S
        leaving = self.subsets[:, None] & ~self.subsets[None]
        moves = torch.where(inside, (self.log_c[:, None] * leaving).sum(dim=2).exp(), 0.0)
        left, stay = leaving.sum(dim=2), self.sizes[None]
        law = torch.zeros(2**self.n, dtype=torch.float64)
        law[-1] = 1.0  # all masked
        for u in step_probabilities(schedule, steps)[1].flip(0):
            law = law @ (moves * u**left * (1 - u) ** stay)
        return -float(law[0].log())

    def any_order_nll(self) -> float:
        """-log of the mean over all N! orders of exp(-NLL of the order): -log p(x_0) at T = infinity."""
        likelihood = [1.0]
        for subset in range(1, 2**self.n):  # the removal of a bit always leads to a smaller number
            inside = [i for i in range(self.n) if subset >> i & 1]
            total = sum(math.exp(self.log_c[subset, i]) * likelihood[subset ^ (1 << i)] for i in inside)
            likelihood.append(total / len(inside))
        return -math.log(likelihood[-1])
