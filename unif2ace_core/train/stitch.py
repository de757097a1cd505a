"""A model that was trained with one CLIP expert starts to read another one (model stitching, Bansal et al. 2021).

The resampler's keys and values are linear in its normalised tokens. Least squares over training photos find the maps
under which the new tokens give the keys and values that the former ones gave, as nearly as maps can.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.model.resampler import Resampler

PHOTOS = 4096  # that the maps are fitted on
RIDGE = 1e-3  # of the mean square of the inputs


def sampled(features: np.ndarray) -> Tensor:
    """Tokens (R, T, C) fp32 of photos at even distances, from cached features (R, VIEWS, T, C)."""
    return torch.from_numpy(features[:: max(1, len(features) // PHOTOS), 0].astype("float32"))


@torch.no_grad()
def stitch(resampler: Resampler, former: np.ndarray, present: np.ndarray) -> float:
    """Let a resampler read `present` features (R, VIEWS, T, C) as it read `former` ones of the same photos.

    The last token, which most of the attention goes to, counts as much as all patches together. Returns the share of
    the last token's keys and values that is kept (R^2).
    """
    before, now = sampled(former), sampled(present)
    old = resampler.norm(before)
    wanted = torch.cat([resampler.k(old), resampler.v(old)], -1)  # (R, T, 2 d)
    inputs = F.layer_norm(now, now.shape[-1:], eps=resampler.norm.eps)
    inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1)
    weight = torch.full(inputs.shape[1:2], 1 / max(1, inputs.shape[1] - 1))
    weight[-1] = 1.0
    x, y = ((weight.sqrt()[:, None] * each).flatten(0, 1).double() for each in (inputs, wanted))
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    fitted = torch.linalg.solve(gram + ridge, x.T @ y).float()  # (C + 1, 2 d)
    maps, offset = fitted[:-1].T, fitted[-1]
    keys, values = maps.chunk(2)
    resampler.k.weight.copy_(keys)
    resampler.v.weight.copy_(values)
    resampler.norm.weight.fill_(1.0)
    # W (n + b) = W n + offset
    resampler.norm.bias.copy_(torch.linalg.lstsq(maps, offset[:, None], driver="gelsd").solution[:, 0])
    read = resampler.norm(now[:, -1])
    given = torch.cat([resampler.k(read), resampler.v(read)], -1)
    target = wanted[:, -1]
    return float(1 - (given - target).square().sum() / (target - target.mean(0)).square().sum())
