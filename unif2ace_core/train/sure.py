"""Which labels of a training photo its CLIP expert sees too: what a description may say of it.

People label what a small tower cannot see. A model that learns to say all of it learns to guess; one that learns to
say what its expert is sure of is right about as often as the expert is, there where the expert is as sure. (On the
expert's own training photos that is more often than elsewhere; suite `descriptions` measures the rest.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import OPEN_CLIP, load_clip, read_attributes
from unif2ace_core.weights.parts import part_kind

Head = Callable[[Tensor], Tensor]  # last token (..., C) -> logits (..., ATTRIBUTE_LOGITS + 1)


def attribute_head(directory: Path, learning: Sequence[str], wanted: str = "describe_sure") -> Head:
    """The head of the tower in a folder, for the setting `wanted`.

    Raises:
        UserError: the tower is a published one, which knows no attributes, or it is among the experts that learn.
    """
    if "clip" in learning:
        raise UserError(f"{wanted} asks a frozen CLIP expert; leave clip out of train_experts")
    if part_kind(directory, "clip", (OPEN_CLIP,)):
        raise UserError(f"{wanted} asks for attributes, which the published tower in {directory} does not know")
    return load_clip(directory).heads


class SureLabels:
    """Keeps of a row's labels those that the tower is sure of, by its cached features."""

    def __init__(self, head: Head, features: np.ndarray, least: float) -> None:
        """Features (R, VIEWS, T, C), what the head reads last; `least` is the probability that a label must have."""
        self.head, self.features, self.least = head, features, least

    @torch.no_grad()
    def keep(self, row: int, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels of row `row` that the tower is sure of."""
        last = torch.from_numpy(self.features[row, 0, -1].astype("float32"))
        chances = read_attributes(self.head(last)[None, :-1])
        return {
            name: value
            for name, value in labels.items()
            if float(chances[name][0, BY_NAME[name].values.index(value)]) >= self.least
        }
