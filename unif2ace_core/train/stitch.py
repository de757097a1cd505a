"""A model that was trained with one CLIP expert starts to read another one (model stitching, Bansal et al. 2021).

    keys      k' n(F') ~ k n(F)               so that queries look where they looked
    values    v' n(F') = the last token's principal components, of equal spread, such that P' has columns of unit length
    layers    P' = P M + g Q, where M v' ~ v  what a layer added to the span, and as much of everything, drawn

M is fitted by least squares on the last token of training photos, which has most of the attention; Q is orthogonal and
drawn. The model has to learn after it: the patches' values and the part of Q are new to its later layers.

Values of one spread let weights of all components learn at one rate. Without Q, what the former expert did not say
would be nowhere in the span, no later layer could learn to read it, and so no layer would learn to add it.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import OPEN_CLIP, read_clip_config
from unif2ace_core.model.resampler import Resampler
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.weights.parts import fingerprint, part_kind

PHOTOS = 4096  # that the maps are fitted on
ROOM = 1.0  # spread of what Q adds, by that of what P M adds
RIDGE = 1e-3  # of the mean square of the inputs


def sampled(features: np.ndarray) -> Tensor:
    """Tokens (R, T, C) fp32 of photos at even distances, from cached features (R, VIEWS, T, C)."""
    return torch.from_numpy(features[:: -(-len(features) // PHOTOS), 0].astype("float32"))


def solved(x: Tensor, y: Tensor, weight: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Map (m, n) and offset (m,) with map x + offset ~ y, of rows x (..., n), y (..., m) and their weight (..., 1)."""
    x = (weight * torch.cat([x, torch.ones_like(x[..., :1])], -1)).flatten(0, -2).double()
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram + ridge, x.T @ (weight * y).flatten(0, -2).double()).float()
    return found[:-1].T, found[-1]


def components(x: Tensor, count: int) -> Tensor:
    """Map (count, n) of rows x (R, n) to their largest principal components, each of unit spread; zeros beyond."""
    values, vectors = torch.linalg.eigh(torch.cov(x.double().T))
    kept = [i for i in range(len(values) - 1, -1, -1) if values[i] > RIDGE * values[-1]][:count]
    found = torch.zeros(count, x.shape[1])
    found[: len(kept)] = (vectors[:, kept] / values[kept].sqrt()).T.float()
    return found


def projections(model: UniF2ace) -> list[nn.Linear]:
    """Each layer's projection of what the resampler reads from the CLIP expert."""
    ending = "groups.mmu.projections.clip"
    return [cast("nn.Linear", module) for name, module in model.named_modules() if name.endswith(ending)]


def check_stitch(former: Path, start: Path, present: Path, sizes: ModelConfig) -> None:
    """Refuse experts that a start cannot be taken from and to.

    Raises:
        UserError: one is a published tower, their tokens differ, the start has read another one or, by its sizes, none,
            or both are the same.
    """
    if "clip" not in sizes.sequence_mmu:
        raise UserError(f"the model of init={start} has no CLIP expert to read; leave former_clip out")
    if any(part_kind(folder, "clip", (OPEN_CLIP,)) for folder in (former, present)):
        raise UserError(
            "former_clip goes between embedded experts, and one of these is a published tower; leave it out"
        )
    own, new, read = (fingerprint(folder, "clip") for folder in (former, present, start))
    if own == new:
        raise UserError(f"former_clip={former} is the expert of clip= too; leave former_clip out")
    if own != read:
        raise UserError(f"init={start} has not read the expert in {former}; give former_clip={start}")
    before, after = read_clip_config(former), read_clip_config(present)
    if (before.tokens, before.feature_width) != (after.tokens, after.feature_width):
        raise UserError(f"the experts in {former} and {present} differ in tokens or their width; train a fresh model")


@torch.no_grad()
def stitch(model: UniF2ace, former: np.ndarray, present: np.ndarray) -> float:
    """Fit a model that has read `former` CLIP features (R, VIEWS, T, C) to `present` ones of the same photos.

    Returns R^2 of M: the share of the variance of the last token's former values that the present ones hold.
    """
    resampler = cast("Resampler", model.resamplers["clip"])
    old, now = resampler.norm(sampled(former)), sampled(present)
    keys, values = resampler.k(old), resampler.v(old)[:, -1]
    resampler.norm.weight.fill_(1.0)
    resampler.norm.bias.zero_()
    weight = torch.full((now.shape[1], 1), 1 / max(1, now.shape[1] - 1)).sqrt()  # of all patches as much as of the last
    weight[-1] = 1.0
    tokens = resampler.norm(now)
    resampler.k.weight.copy_(solved(tokens, keys, weight)[0])  # an offset of all keys would change nothing
    resampler.v.weight.copy_(components(tokens[:, -1], len(resampler.v.weight)))
    read = resampler.v(tokens[:, -1])
    maps, offset = solved(read, values)
    layers, generator = projections(model), torch.Generator().manual_seed(0)
    for layer in layers:
        layer.bias.add_(layer.weight @ offset)
        whole = layer.weight @ maps
        other = torch.linalg.qr(torch.randn(whole.shape, generator=generator))[0]
        gain = ROOM * (read @ whole.T).std(0).norm() / (read @ other.T).std(0).norm()
        layer.weight.copy_(whole + gain * other)
        layer.bias.sub_(gain * other @ read.mean(0))
    length = torch.stack([layer.weight.norm(dim=0) for layer in layers]).mean()
    resampler.v.weight.mul_(length)
    for layer in layers:
        layer.weight.div_(length)
    left = (read @ maps.T + offset - values).square().sum()
    return float(1 - left / (values - values.mean(0)).square().sum())
