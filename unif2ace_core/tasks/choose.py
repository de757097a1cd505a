"""The best of several pictures of one prompt, as the model's own CLIP expert reads them.

    prompt -> what it says of the face (data/parse.py);  pictures -> log-probability of all of that -> the likeliest

A prompt in which nothing can be read leaves the first picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.parse import parse
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import read_attributes
from unif2ace_core.timing import phase

if TYPE_CHECKING:
    from unif2ace_core.weights.resolve import LoadedModel

STRIDE = 0x9E3779B97F4A7C15 >> 1  # between the seeds of candidates, so that those of neighbouring pictures differ


def check_best_of(model: LoadedModel, count: int) -> None:
    """Raise `UserError` for a choice among less than one picture, or by a model that cannot choose."""
    if count < 1:
        raise UserError(f"--best-of {count} is below 1; use 2 to 8")
    if count > 1 and (model.clip is None or not model.clip.labelled):
        raise UserError(f"model {model.name!r} has no CLIP expert that reads attributes; leave --best-of out")


def candidate_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the pictures to choose from; the first is the picture's own."""
    return [(seed + number * STRIDE) % 2**63 for number in range(count)]


@phase("compute: choose")
def best_row(model: LoadedModel, prompt: str, pictures: Tensor) -> int:
    """Which of the pictures (B, 3, H, W) in [-1, 1] shows best what the prompt says."""
    if model.clip is None:
        return 0
    return int(match(read_attributes(model.clip.features(pictures).attributes), parse(prompt)).argmax())


def match(found: dict[str, Tensor], wanted: dict[str, str]) -> Tensor:
    """Log-probability (B,) of the wanted values under readings (B, values) by attribute."""
    rows = len(next(iter(found.values())))
    total = torch.zeros(rows)
    for name, value in wanted.items():
        if name in found:
            column = BY_NAME[name].values.index(value)
            total = total + found[name][:, column].clamp_min(1e-6).log().cpu()
    return total
