"""The D3Diff objective: masked cross-entropy plus a weighted score term (UniF2ace, section 3: L_D3Diff).

Per image, with CE_S the cross-entropy summed over its masked positions S, Z_i = sum_v c~_i(v) of a posterior
c~ that need not be normalised, and r = (1 - m) / m:

    base  = CE_S
    score = CE_S                                      mode "normalized"
          = sum_S (CE_i + Z_i - 1 - log Z_i)          mode "unnormalized"
          = sum_S DSE(c_i / m) / r                    mode "reference", the paper's literal ratio
    loss  = base + alpha w score,      L_D3Diff = mean over images of loss / N

DSE is the denoising score entropy `sum_v s(v) - r log s(x_0) + K(r)`, K(a) = a (log a - 1). For a softmax
posterior it equals r CE, so "normalized" needs one cross-entropy and nothing else. N is the constant number
of image codes, never the number of masked ones: a mean over masked positions would bound no likelihood. The
weight w belongs to the way the mask was drawn, see `schedule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.diffusion.schedule import (
    COUNT_LAWS,
    CosineSchedule,
    Schedule,
    count_law,
    count_weights,
    draw_counts,
    draw_times,
    exact_mask,
    independent_mask,
    step_probabilities,
)
from unif2ace_core.errors import UserError

MODES = ("normalized", "unnormalized", "reference")
TERMS = ("both", "mask", "score")
SCORE_SOURCES = ("softmax", "logits")
MASK_LAWS = (*COUNT_LAWS, "bernoulli", "discrete")


@dataclass(frozen=True)
class D3DiffConfig:
    """Which form of the objective to train with."""

    alpha: float = 0.01  # weight of the score term beside the masked cross-entropy
    mode: Literal["normalized", "unnormalized", "reference"] = "normalized"
    terms: Literal["both", "mask", "score"] = "both"  # "score" alone is w * score, without alpha
    score_source: Literal["softmax", "logits"] = "softmax"  # c~ of mode "unnormalized"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, MODES),
            ("terms", self.terms, TERMS),
            ("score_source", self.score_source, SCORE_SOURCES),
        ):
            if value not in allowed:
                raise UserError(f"unknown D3Diff {name} {value!r}; choose one of: {', '.join(allowed)}")
        if self.alpha < 0:
            raise UserError(f"D3Diff alpha must not be negative, got {self.alpha}; the paper uses 0.01")


@dataclass(frozen=True)
class D3DiffTerms:
    """Scalars in nats per position (sums over masked positions divided by N, mean over images)."""

    loss: Tensor  # (), what to minimise
    base: Tensor  # (), masked cross-entropy, detached
    score: Tensor  # (), weighted score term w * score, detached; in mode "normalized" an estimate of L1 / N
    image_ce: Tensor  # (B,), cross-entropy sum of each image, detached, for logging by mask ratio


@dataclass(frozen=True)
class MaskedCodes:
    """A batch of masked images and the weight each deserves."""

    codes: Tensor  # (B, N) int64, masked positions hold the mask id
    mask: Tensor  # (B, N) bool
    weight: Tensor  # (B,) float32
    mask_probability: Tensor  # (B,) float32, m(t), or k / N for exact counts


def draw_mask(
    codes: Tensor,
    generator: torch.Generator,
    schedule: Schedule | None = None,
    law: str = "arcsine",
    *,
    mask_id: int,
    steps: int = 0,
) -> MaskedCodes:
    """Mask a batch of codes `(B, N)` for training; the input is not modified.

    law: "arcsine" or "uniform" mask exactly k positions, k drawn from that law; "bernoulli" masks every
    position with m(t), t uniform; "discrete" with m(k / steps), k uniform in 1..steps. Only the last two use
    `schedule` (cosine by default) and may leave an image without any mask. Random numbers are drawn on the
    generator's device, so a CPU generator gives the same masks for every device of the codes.
    """
    batch, n = codes.shape
    if law in COUNT_LAWS:
        probabilities = count_law(law, n)
        counts = draw_counts(probabilities, batch, generator)
        weight = count_weights(probabilities).to(counts.device)[counts - 1]
        level, mask = counts / n, exact_mask(counts, n, generator)
    else:
        level, weight = _draw_level(schedule or CosineSchedule(), law, steps, batch, generator)
        mask = independent_mask(level, n, generator)
    mask = mask.to(codes.device)
    return MaskedCodes(
        codes=codes.masked_fill(mask, mask_id),
        mask=mask,
        weight=weight.to(codes.device, torch.float32),
        mask_probability=level.to(codes.device, torch.float32),
    )


def _draw_level(
    schedule: Schedule, law: str, steps: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mask probability and weight of each image, both `(B,)`, for independent masking."""
    if law == "bernoulli":
        t = draw_times(batch, generator)
        return schedule.mask_probability(t), schedule.weight(t)
    if law == "discrete":
        m, u = step_probabilities(schedule, steps)
        k = torch.randint(steps, (batch,), generator=generator, device=generator.device)
        return m.to(k.device)[k], (steps * u).to(k.device)[k]
    raise UserError(f"unknown mask law {law!r}; choose one of: {', '.join(MASK_LAWS)}")


def d3diff_loss(
    logits: Tensor,
    targets: Tensor,
    image: Tensor,
    weight: Tensor,
    n: int,
    config: D3DiffConfig | None = None,
    *,
    log_total: Tensor | None = None,
    mask_probability: Tensor | None = None,
) -> D3DiffTerms:
    """L_D3Diff of a batch whose masked positions were flattened to M rows.

    logits `(M, K)`: code logits at masked positions, float32 or float64. targets `(M,)`: the true codes.
    image `(M,)`: row of the batch each position belongs to. weight `(B,)`: w of each image. n: codes per
    image. log_total `(M,)`: logsumexp of the logits over all rows of the output layer, codes and others;
    needed by mode "unnormalized" with score_source "softmax" only. mask_probability `(B,)`: m of each image
    for mode "reference"; masked count / n where absent.
    """
    config = config or D3DiffConfig()
    batch = weight.shape[0]
    ce = F.cross_entropy(logits, targets, reduction="none")
    image_ce = _sum_by_image(ce, image, batch)
    if config.mode == "normalized":
        image_score = image_ce
    elif config.mode == "unnormalized":
        log_z = _log_z(logits, log_total, config)
        image_score = _sum_by_image(ce + unnormalized_penalty(log_z), image, batch)
    else:
        m = _reference_probability(image, batch, n, mask_probability, ce)
        image_score = _sum_by_image(_reference_score(logits, targets, m[image]), image, batch)
    base = image_ce.sum() / (batch * n)
    score = (weight.to(ce.dtype) * image_score).sum() / (batch * n)
    return D3DiffTerms(_combine(base, score, config), base.detach(), score.detach(), image_ce.detach())


def masked_mean_cross_entropy(logits: Tensor, targets: Tensor, log_total: Tensor | None = None) -> Tensor:
    """Show-o's loss, for parity with it only: the mean cross-entropy over all masked positions of a batch; `()`.

    It bounds no likelihood: images with many masks dominate it, and the number of masked positions divides
    it. Train with `d3diff_loss`. logits `(M, K)`, targets `(M,)`. log_total `(M,)`: logsumexp of the logits
    over all rows of the output layer, for Show-o's softmax over codes and text alike.
    """
    if log_total is None:
        return F.cross_entropy(logits, targets)
    return (log_total - logits.gather(1, targets[:, None]).squeeze(1)).mean()


def _combine(base: Tensor, score: Tensor, config: D3DiffConfig) -> Tensor:
    if config.terms == "mask":
        return base
    return score if config.terms == "score" else base + config.alpha * score


def unnormalized_penalty(log_z: Tensor) -> Tensor:
    """Z - 1 - log Z per position: what an unnormalised posterior pays beyond CE; >= 0, zero only at Z = 1."""
    return torch.expm1(log_z) - log_z


def denoising_score_entropy(score: Tensor, targets: Tensor, ratio: Tensor) -> Tensor:
    """DSE by the full sum over codes: score `(M, K)` > 0, targets `(M,)`, ratio r > 0 `(M,)` -> `(M,)`."""
    at_target = score.gather(1, targets[:, None]).squeeze(1)
    return score.sum(dim=1) - ratio * at_target.log() + ratio * (ratio.log() - 1)


def _log_z(logits: Tensor, log_total: Tensor | None, config: D3DiffConfig) -> Tensor:
    if config.score_source == "logits":
        return torch.logsumexp(logits, dim=1)
    if log_total is None:
        raise UserError(
            "mode 'unnormalized' with score_source 'softmax' needs log_total, the logsumexp over all rows; "
            "pass it or set score_source to 'logits'"
        )
    return torch.logsumexp(logits, dim=1) - log_total


def _reference_probability(image: Tensor, batch: int, n: int, mask_probability: Tensor | None, like: Tensor) -> Tensor:
    """m of each image `(B,)`, kept below 1 - 1/(2N) because the ratio r = (1 - m) / m must not vanish."""
    if mask_probability is None:
        mask_probability = torch.bincount(image, minlength=batch).to(like.dtype) / n
    return mask_probability.to(like.dtype).clamp(max=1 - 1 / (2 * n))


def _reference_score(logits: Tensor, targets: Tensor, m: Tensor) -> Tensor:
    """DSE / r of the score c / m, the paper's ratio taken literally; `(M,)`."""
    ratio = (1 - m) / m
    score = logits.softmax(dim=1) / m[:, None]
    return denoising_score_entropy(score, targets, ratio) / ratio


def _sum_by_image(values: Tensor, image: Tensor, batch: int) -> Tensor:
    return values.new_zeros(batch).index_add(0, image, values)
