"""Samplers of masked diffusion: from all masks (or known codes) to a full image of codes.

A sampler is a class with one method `step`; a step goes from time t to s < t. With m the mask probability,
alpha = 1 - m and c the posterior at a masked position:

    maskgit         draw everywhere from c, keep the most confident draws (Gumbel noise on log c)
    ancestral       unmask with probability (m_t - m_s) / m_t, draw from c: the exact reverse chain
    euler           unmask with probability h (m' / m) at t, capped at 1
    first_hitting   unmask one uniformly random position per call: the law of infinitely many steps in N calls
    remdm           ancestral that also remasks visible codes with probability sigma, so it can repair errors
    halton          reveal as many as maskgit, in a fixed Halton order over the grid, drawn from c
    halton_centred  the same, with the middle of the grid earlier
    moment          choose positions by Gumbel-top-k, weight sum_v c(v)^(1+1/tau), then draw v ~ c^(1+1/tau)

Random numbers of row b come from generators[b] alone and their number does not depend on other rows, so a
row is the same whatever batch it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from unif2ace_core.diffusion.orders import centred_rank, halton_rank
from unif2ace_core.diffusion.schedule import CosineSchedule, Schedule
from unif2ace_core.errors import UserError

# x (B, N) with the mask id K at unknown positions -> logits (B, N, K), or (M, K) at the masked positions
# only, in the order of x[x == K].
Posterior = Callable[[Tensor], Tensor]
Anneal = Literal["linear", "showo", "constant"]
# Devices without float64: the posterior is computed there, all arithmetic of the samplers on the CPU.
WITHOUT_FLOAT64 = ("mps",)


@dataclass(frozen=True)
class ProgressPosterior:
    """A posterior that also depends on how far sampling is, such as one under a guidance schedule."""

    function: Callable[[Tensor, float], Tensor]  # x and the progress of `Step` -> what a Posterior gives

    def at(self, progress: float) -> Posterior:
        """The posterior of the step that ends at this progress."""
        return lambda x: self.function(x, progress)


@dataclass(frozen=True)
class Step:
    """Step number `index` of `total`, with what every sampler may need to know about the run."""

    index: int  # 0 .. total - 1
    total: int
    codes: int  # K, also the mask id
    temperature: float
    schedule: Schedule
    grid: tuple[int, int]  # rows, columns
    known: Tensor  # (B, N) bool, codes given by the caller; they never change
    greedy: bool = False  # whether the run's temperature is 0, not only this step's

    @property
    def last(self) -> bool:
        return self.index == self.total - 1

    @property
    def progress(self) -> float:
        """(j + 1) / T, the share of sampling that is done after this step; exactly 1 in the last."""
        return (self.index + 1) / self.total

    def levels(self) -> tuple[float, float]:
        """Mask probabilities (m_t, m_s) before and after this step; m_s is exactly 0 in the last."""
        times = torch.tensor([self.total - self.index, self.total - self.index - 1], dtype=torch.float64)
        m = self.schedule.mask_probability(times / self.total)
        return float(m[0]), 0.0 if self.last else float(m[1])


class RowNoise:
    """Uniform random numbers, row b from generators[b] only."""

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device) -> None:
        self.generators, self.device = generators, device

    def uniform(self, n: int) -> Tensor:
        """`(B, n)` float64 in [0, 1)."""
        rows = [torch.rand(n, generator=g, device=g.device, dtype=torch.float64) for g in self.generators]
        return torch.stack([row.to(self.device) for row in rows])

    def gumbel(self, n: int) -> Tensor:
        """`(B, n)` float64 standard Gumbel noise."""
        return -torch.log(-torch.log(self.uniform(n).clamp(min=1e-20)))


@dataclass(frozen=True)
class Sampler:
    """Base of all samplers. Options are the dataclass fields of the subclass."""

    def calls(self, steps: int, positions: int) -> int:
        """How many times the posterior is asked for `steps` requested steps."""
        return steps

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        """One step: x `(B, N)`, logits `(M, K)` at its masked positions in row-major order -> new x."""
        raise NotImplementedError


@dataclass(frozen=True)
class MaskGit(Sampler):
    """Show-o's loop. Temperature is that of the Gumbel noise on the confidence; the draws are from c itself.

    anneal: after step j of T the noise has temperature tau (1 - j/T) ("linear", default); "showo" multiplies
    these factors up as Show-o does, so at T = 16 it is 0.06 instead of 0.5 halfway; "constant" keeps tau. Under
    cooling tau is that of the step.
    At temperature 0 codes are the argmax; greedy_draws = False keeps drawing from c as Show-o does.
    """

    anneal: Anneal = "linear"
    greedy_draws: bool = True

    def __post_init__(self) -> None:
        _check_anneal(self.anneal)

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        mask = x == step.codes
        greedy = self.greedy_draws and step.greedy
        drawn, log_p = draw_codes(logits, noise.uniform(x.shape[1])[mask], 0.0 if greedy else 1.0)
        gumbel = noise.gumbel(x.shape[1])[mask]
        confidence = log_p + annealed(self.anneal, step) * gumbel
        return reveal(x, mask, drawn, highest(mask, confidence, reveal_counts(mask, step)))


@dataclass(frozen=True)
class Halton(Sampler):
    """As many positions as maskgit, in the Halton order of the grid; temperature scales the logits."""

    def rank(self, rows: int, columns: int) -> Tensor:
        """When each cell of a grid is drawn, `(rows * columns,)` int64 from 0."""
        return halton_rank(rows, columns)

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        mask = x == step.codes
        drawn, _ = draw_codes(logits, noise.uniform(x.shape[1])[mask], step.temperature)
        priority = -self.rank(*step.grid).to(x.device).expand_as(x)[mask].double()
        return reveal(x, mask, drawn, highest(mask, priority, reveal_counts(mask, step)))


@dataclass(frozen=True)
class HaltonCentred(Halton):
    """`Halton` in the order of `centred_rank`: guidance in early steps meets the middle of the face."""

    def rank(self, rows: int, columns: int) -> Tensor:
        return centred_rank(rows, columns)


@dataclass(frozen=True)
class Moment(Sampler):
    """Choose, then sample: maskgit's law for many positions without draws that are thrown away.

    Temperature is tau of the moments, annealed and cooled as in maskgit. The last step reveals all that is left, so
    nothing is selected there and the draws are from c itself, again as in maskgit.
    """

    anneal: Anneal = "linear"

    def __post_init__(self) -> None:
        _check_anneal(self.anneal)

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        mask, tau = x == step.codes, annealed(self.anneal, step)
        uniform, gumbel = noise.uniform(x.shape[1])[mask], noise.gumbel(x.shape[1])[mask]
        if tau == 0 or step.last:  # the limit tau -> 0 of tau log sum_v c^(1 + 1/tau) is log max_v c
            priority = logits.log_softmax(1).amax(1)
            drawn, _ = draw_codes(logits, uniform, 1.0 if step.last and not step.greedy else 0.0)
        else:
            powers = (1 + 1 / tau) * logits.log_softmax(1)
            priority = torch.logsumexp(powers, 1) + gumbel
            drawn, _ = draw_codes(powers, uniform, 1.0)
        return reveal(x, mask, drawn, highest(mask, priority, reveal_counts(mask, step)))


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The reverse chain itself: each masked position unmasks with probability (m_t - m_s) / m_t."""

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        m_t, m_s = step.levels()
        return unmask_independently(x, logits, (m_t - m_s) / m_t, step, noise)


@dataclass(frozen=True)
class Euler(Sampler):
    """First-order step of the reverse process; what survives the last step is drawn in one final call."""

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        t = torch.tensor((step.total - step.index) / step.total, dtype=torch.float64)
        probability = min(1.0, float(step.schedule.weight(t)) / step.total)
        return unmask_independently(x, logits, probability, step, noise)


@dataclass(frozen=True)
class FirstHitting(Sampler):
    """One uniformly random masked position per call; always N calls, whatever the number of steps."""

    def calls(self, steps: int, positions: int) -> int:
        return positions

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        mask = x == step.codes
        drawn, _ = draw_codes(logits, noise.uniform(x.shape[1])[mask], step.temperature)
        one = torch.ones_like(x[:, 0])
        return reveal(x, mask, drawn, highest(mask, noise.uniform(x.shape[1])[mask], one))


@dataclass(frozen=True)
class ReMDM(Sampler):
    """Ancestral with remasking; the marginals stay 1 - m for every sigma, sigma = 0 is ancestral.

    sigma = eta sigma_max ("rescale") or min(eta, sigma_max) ("cap"); sigma_max = min(1, m_s / alpha_t).
    """

    eta: float = 0.1
    rule: Literal["rescale", "cap"] = "rescale"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1 or self.rule not in ("rescale", "cap"):
            raise UserError(
                f"remdm got eta={self.eta}, rule={self.rule!r}; eta must be in 0..1, rule 'rescale' or 'cap'"
            )

    def probabilities(self, m_t: float, m_s: float) -> tuple[float, float]:
        """(sigma, probability that a masked position is unmasked) of a step from m_t to m_s."""
        alpha_t, alpha_s = 1 - m_t, 1 - m_s
        largest = min(1.0, m_s / alpha_t) if alpha_t > 0 else 1.0
        sigma = self.eta * largest if self.rule == "rescale" else min(self.eta, largest)
        return sigma, 1.0 if m_s == 0 else (alpha_s - (1 - sigma) * alpha_t) / m_t

    def step(self, x: Tensor, logits: Tensor, step: Step, noise: RowNoise) -> Tensor:
        sigma, probability = self.probabilities(*step.levels())
        visible = (x != step.codes) & ~step.known
        x = unmask_independently(x, logits, probability, step, noise)
        if sigma == 0:  # no noise to draw: eta = 0 is ancestral number for number
            return x
        return x.masked_fill(visible & (noise.uniform(x.shape[1]) < sigma), step.codes)


SAMPLERS: dict[str, type[Sampler]] = {
    "maskgit": MaskGit,
    "ancestral": Ancestral,
    "euler": Euler,
    "first_hitting": FirstHitting,
    "remdm": ReMDM,
    "halton": Halton,
    "halton_centred": HaltonCentred,
    "moment": Moment,
}


def sample(
    name: str,
    posterior: Posterior | ProgressPosterior,
    *,
    codes: int,
    positions: int,
    generators: Sequence[torch.Generator],
    steps: int,
    temperature: float = 1.0,
    cooling: float = 0.0,
    known: Tensor | None = None,
    grid: tuple[int, int] | None = None,
    schedule: Schedule | None = None,
    options: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw one image of codes per generator: `(B, N)` int64 in 0..codes-1, without any mask left.

    name: a key of SAMPLERS. codes: K, which is also the mask id. positions: N. steps: T >= 1, the number of
    posterior calls (first_hitting always makes N; euler may add one, at progress 1). temperature: the Gumbel
    temperature of maskgit and tau of moment; the other samplers divide the logits by it; at 0 every code is the argmax.
    cooling: 0 to 1; see `cooled`. known: `(B, N)` codes to keep, K where unknown (inpainting). grid: (rows,
    columns) of the N positions, square where absent. schedule: cosine where absent. options: fields of the
    sampler's class, such as {"anneal": "showo"} or {"eta": 0.05}. on_step(done, total) is told after each step.
    device: where the posterior takes and gives tensors; where absent, that of `known` or of the generators.
    """
    sampler = build_sampler(name, options)
    grid = _checked(codes, positions, generators, steps, temperature, cooling, known, grid)
    if device is None:
        device = generators[0].device if known is None else known.device
    home = torch.device(device)
    at = posterior.at if isinstance(posterior, ProgressPosterior) else lambda progress: posterior
    final, device = with_float64(at(1.0), home)
    x = torch.full((len(generators), positions), codes, dtype=torch.int64, device=device)
    if known is not None:
        x = known.to(device, torch.int64, copy=True)
    given, noise, total = x != codes, RowNoise(generators, x.device), sampler.calls(steps, positions)
    for index in range(total):
        now = cooled(temperature, cooling, index, total)
        step = Step(index, total, codes, now, schedule or CosineSchedule(), grid, given, greedy=temperature == 0)
        current, _ = with_float64(at(step.progress), home)
        x = sampler.step(x, masked_logits(current, x, codes), step, noise)
        if on_step is not None:
            on_step(index + 1, total)
    return _finish(x, final, codes, cooled(temperature, cooling, total - 1, total), noise).to(home)


def cooled(temperature: float, cooling: float, index: int, total: int) -> float:
    """The temperature of a step: (1 + cooling) of the run's in the first, (1 - cooling) in the last, a line between.

    Early codes decide what a face is like, and heat makes faces differ; late ones have to fit to what is there.
    """
    return temperature * (1 + cooling * (1 - 2 * index / (total - 1))) if total > 1 else temperature


def with_float64(posterior: Posterior, device: torch.device) -> tuple[Posterior, torch.device]:
    """The posterior of a device and where to sample from it: on the CPU for a device without float64."""
    if device.type not in WITHOUT_FLOAT64:
        return posterior, device
    return lambda x: posterior(x.to(device)).cpu(), torch.device("cpu")


def fixed_rank(name: str, grid: tuple[int, int]) -> Tensor | None:
    """When a sampler draws each of the N cells of a grid, `(N,)` int64 from 0; None if that is not fixed."""
    sampler = build_sampler(name)
    return sampler.rank(*grid) if isinstance(sampler, Halton) else None


def build_sampler(name: str, options: Mapping[str, Any] | None = None) -> Sampler:
    """The named sampler with its options; raises UserError for an unknown name or option."""
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler {name!r}; choose one of: {', '.join(SAMPLERS)}")
    allowed = [field.name for field in fields(SAMPLERS[name])]
    for option in options or {}:
        if option not in allowed:
            known = ", ".join(allowed) or "none"
            raise UserError(f"sampler {name!r} has no option {option!r}; it has: {known}")
    return SAMPLERS[name](**(options or {}))


def _checked(
    codes: int,
    positions: int,
    generators: Sequence[torch.Generator],
    steps: int,
    temperature: float,
    cooling: float,
    known: Tensor | None,
    grid: tuple[int, int] | None,
) -> tuple[int, int]:
    """Raise UserError for arguments that cannot work; returns the grid."""
    if steps < 1:
        raise UserError(f"sampling needs at least 1 step, got {steps}; ask for 1 or more")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature must be a finite number of at least 0, got {temperature}; try 1.0")
    if not 0 <= cooling <= 1:
        raise UserError(f"cooling must be a share of the temperature from 0 to 1, got {cooling}; try 0.2")
    if not generators:
        raise UserError("sampling needs one generator per image, got none; pass at least one")
    side = math.isqrt(positions)
    grid = grid or ((side, side) if side * side == positions else (1, positions))
    if grid[0] * grid[1] != positions:
        raise UserError(f"a grid of {grid[0]} x {grid[1]} does not hold {positions} codes; correct one")
    if known is not None:
        if known.shape != (len(generators), positions):
            raise UserError(
                f"known codes have shape {tuple(known.shape)}; give one row per image, {(len(generators), positions)}"
            )
        if bool(((known < 0) | (known > codes)).any()):
            raise UserError(f"known codes must be in 0..{codes - 1}, or {codes} where unknown; correct them")
    return grid


def _finish(x: Tensor, posterior: Posterior, codes: int, temperature: float, noise: RowNoise) -> Tensor:
    """One full draw at positions that are still masked; no posterior call if there are none."""
    mask = x == codes
    if not bool(mask.any()):
        return x
    logits = masked_logits(posterior, x, codes)
    drawn, _ = draw_codes(logits, noise.uniform(x.shape[1])[mask], temperature)
    return reveal(x, mask, drawn, mask)


def masked_logits(posterior: Posterior, x: Tensor, codes: int) -> Tensor:
    """Logits `(M, K)` at the M masked positions of x, float32 or float64; the posterior gets a copy of x."""
    mask = x == codes
    masked = int(mask.sum())
    if masked == 0:
        return torch.empty(0, codes, device=x.device)
    logits = posterior(x.clone())
    if logits.dim() == 3:
        logits = logits[mask]
    if logits.shape != (masked, codes):
        raise ValueError(
            f"the posterior gave shape {tuple(logits.shape)} at {masked} masked positions of {codes} codes; "
            "return (B, N, K), or (M, K) at masked positions"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def draw_codes(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One code per row by inversion of the distribution function: one random number per position, not K.

    logits `(M, K)`, uniform `(M,)` in [0, 1) -> codes `(M,)` int64 and their log probability `(M,)`, both
    under softmax(logits / temperature); the argmax at temperature 0. A code of probability 0 is never drawn.
    """
    if temperature == 0:
        log_p, best = logits.log_softmax(dim=1).max(dim=1)
        return best, log_p
    p = (logits if temperature == 1 else logits / temperature).softmax(dim=1)
    cumulative = p.cumsum(dim=1)
    total = cumulative[:, -1:]
    if not bool(total.isfinite().all()):
        raise UserError("the model's logits are not finite; run it in float32 or bfloat16")
    # Rounding may lift u * total to total itself, beyond the last code.
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform[:, None].to(p.dtype) * total, below)
    drawn = torch.searchsorted(cumulative, target, right=True)
    return drawn.squeeze(1), p.gather(1, drawn).squeeze(1).log()


def reveal(x: Tensor, mask: Tensor, drawn: Tensor, chosen: Tensor) -> Tensor:
    """x `(B, N)` with the draws `(M,)` of its masked positions put in where `chosen` `(B, N)`."""
    filled = x.clone()
    filled[mask] = drawn
    return torch.where(chosen, filled, x)


def unmask_independently(x: Tensor, logits: Tensor, probability: float, step: Step, noise: RowNoise) -> Tensor:
    """Each masked position becomes a draw from the posterior with the given probability."""
    mask, n = x == step.codes, x.shape[1]
    drawn, _ = draw_codes(logits, noise.uniform(n)[mask], step.temperature)
    return reveal(x, mask, drawn, mask & (noise.uniform(n) < probability))


def highest(mask: Tensor, priority: Tensor, counts: Tensor) -> Tensor:
    """Choose the counts[b] masked positions of row b with the highest priority `(M,)`; -> `(B, N)` bool.

    Ranks, not a threshold: ties never change how many are chosen.
    """
    keys = torch.full(mask.shape, -math.inf, dtype=torch.float64, device=mask.device)
    keys[mask] = priority.double().clamp(min=-1e300)
    ranks = keys.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return mask & (ranks < counts[:, None])


def masks_kept(masked: Tensor, step: Step) -> Tensor:
    """How many masks stay after a step: floor(N m(1 - progress)) of the N positions, but at least one fewer
    than now, at least one while steps remain, and none after the last. masked `(B,)` -> `(B,)`.

    The floor is taken in float32, as Show-o does: 256 cos(pi / 3) gives 127 there and 128 in float64.
    """
    if step.last:
        return torch.zeros_like(masked)
    progress = torch.tensor((step.index + 1) / step.total, dtype=torch.float32)
    positions = step.grid[0] * step.grid[1]
    scheduled = int(torch.floor(positions * step.schedule.remaining(progress)))
    return (masked - 1).clamp(max=max(1, scheduled), min=0)


def reveal_counts(mask: Tensor, step: Step) -> Tensor:
    """How many positions of each row maskgit, both haltons and moment reveal in this step; `(B, N)` -> `(B,)`."""
    masked = mask.sum(dim=1)
    return masked - masks_kept(masked, step)


def annealed(anneal: Anneal, step: Step) -> float:
    """Temperature after the annealing rule of a step: see MaskGit."""
    if anneal == "constant":
        return step.temperature
    first = step.index if anneal == "linear" else 0
    factors = (1 - (i + 1) / step.total for i in range(first, step.index + 1))
    return step.temperature * math.prod(factors)


def _check_anneal(anneal: str) -> None:
    if anneal not in get_args(Anneal):
        raise UserError(f"unknown annealing {anneal!r}; choose one of: {', '.join(get_args(Anneal))}")
