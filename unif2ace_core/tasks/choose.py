"""The best of several pictures of one prompt, as the model's own CLIP expert reads them.

    prompt -> what it says of the face (data/parse.py);  picture -> sum of the log-probabilities of all that

A prompt in which nothing can be read leaves the first picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import read_attributes
from unif2ace_core.timing import phase

if TYPE_CHECKING:
    from unif2ace_core.weights.resolve import LoadedModel

STRIDE = 0x9E3779B97F4A7C15 >> 1  # between the seeds of candidates, so that those of neighbouring pictures differ


def check_best_of(model: LoadedModel, count: int) -> None:
    """Raise `UserError` for a choice among less than one picture, or by a model that cannot choose."""
    if count < 1:
        raise UserError(f"--best-of {count} is below 1; use 2 to 8, or 1 for no choice")
    if count > 1 and not (model.clip and model.clip.labelled):
        raise UserError(f"model {model.name!r} has no CLIP expert loaded that reads attributes; leave --best-of out")


def candidate_seed(seed: int, number: int) -> int:
    """Seed of a picture to choose from; the first one's, number 0, is the picture's own."""
    return (seed + number * STRIDE) % 2**63


@phase("compute: choose")
def scores(model: LoadedModel, prompts: Sequence[str], pictures: Tensor) -> list[float]:
    """How well each of the pictures (B, 3, H, W) in [-1, 1] shows its prompt; more is better.

    Raises:
        UserError: the model reads no attributes.
    """
    from unif2ace_core.data.parse import parse  # slow to import, and only a choice needs it

    if model.clip is None:
        raise UserError(f"model {model.name!r} has no CLIP expert loaded; load it too")
    found = read_attributes(model.clip.features(pictures).attributes)
    rows = [{name: values[row] for name, values in found.items()} for row in range(len(pictures))]
    return [match(row, parse(prompt)) for row, prompt in zip(rows, prompts, strict=True)]


def match(found: Mapping[str, Tensor], wanted: Mapping[str, str]) -> float:
    """Sum of the log-probabilities of the wanted values of known attributes; probabilities (values,) by attribute."""
    known = [(found[name], BY_NAME[name].values.index(value)) for name, value in wanted.items() if name in found]
    return sum(float(values[index].clamp_min(1e-6).log()) for values, index in known)
