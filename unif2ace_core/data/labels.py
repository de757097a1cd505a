"""Labels as tensors: per category the index of its value, -1 where it is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.experts.clip import AGE_SCALE, attribute_slices


def label_matrix(records: Sequence[FaceRecord]) -> tuple[Tensor, Tensor]:
    """Values (R, 46) int64 with -1 for unknown, and ages (R,) in years with NaN for unknown."""
    rows = [
        [a.values.index(record.labels[a.name]) if a.name in record.labels else -1 for a in SCHEMA] for record in records
    ]
    ages = [float("nan") if record.age is None else float(record.age) for record in records]
    return torch.tensor(rows), torch.tensor(ages)


def binary_labels(records: Sequence[FaceRecord], names: Sequence[str]) -> Tensor:
    """(R, names) int8 of binary attributes: 1 yes, 0 no, -1 unknown."""
    column = {attribute.name: index for index, attribute in enumerate(SCHEMA)}
    return label_matrix(records)[0][:, [column[name] for name in names]].to(torch.int8)


def attribute_loss(
    logits: Tensor, age: Tensor, values: Tensor, ages: Tensor, factors: Mapping[str, float] | None = None
) -> tuple[Tensor, Tensor]:
    """Mean over known labels of the (weighted) cross-entropy, and the mean absolute age error / AGE_SCALE.

    Shapes: logits (B, ATTRIBUTE_LOGITS), age (B,) years, values (B, 46), ages (B,). `factors`: categories whose labels
    count so many times, in a sum over as many labels as before.
    """
    total, count = logits.new_zeros(()), 0
    for column, (name, part) in enumerate(attribute_slices().items()):
        target = values[:, column]
        known = target >= 0
        if not known.any():
            continue
        scores = logits[known, part].float()
        if scores.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(scores[:, 0], target[known].float(), reduction="sum")
        else:
            loss = F.cross_entropy(scores, target[known], reduction="sum")
        total = total + (factors or {}).get(name, 1.0) * loss
        count += int(known.sum())
    known = ~ages.isnan()
    error = (age[known] - ages[known]).abs().sum() / AGE_SCALE / max(1, int(known.sum()))
    return total / max(1, count), error
