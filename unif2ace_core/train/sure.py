"""Which labels of a training photo its CLIP expert sees too: what a description may say of it.

People label what a small tower cannot see. A model that learns to say all of it learns to guess; one that learns to
say what its expert gives a probability of at least p says what is true in about the mean of those probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import load_clip, read_attributes


class SureLabels:
    """Keeps of a row's labels those that the tower in a folder is sure of, by its cached features."""

    def __init__(self, directory: Path, features: np.ndarray | None, least: float) -> None:
        """Features (R, VIEWS, T, C), the summary last; `least` is the probability that a label must have.

        Raises:
            UserError: the tower is a published one, which knows no attributes, or it learns, so nothing is cached.
        """
        if features is None:
            raise UserError("describe_sure asks a frozen CLIP expert; leave clip out of train_experts")
        self.head, self.features, self.least = load_clip(directory).attributes, features, least

    @torch.no_grad()
    def keep(self, row: int, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels of row `row` that the tower is sure of."""
        summary = torch.from_numpy(self.features[row, 0, -1].astype("float32"))
        chances = read_attributes(self.head(summary)[None, :-1])
        return {
            name: value
            for name, value in labels.items()
            if float(chances[name][0, BY_NAME[name].values.index(value)]) >= self.least
        }
