"""Records whose noisy labels give way to what the CLIP expert reads: distillation of its head into the answers.

People disagree about straight hair and bushy eyebrows, and one label a photo is all that there is. The expert has seen
all photos and reads them alike, so an answer that follows its reading can be learned exactly, from few questions. How
sure it is goes along as a soft target (Hinton et al., 2015): a photo says then how straight hair is, not only whether.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.labels import binary_labels
from unif2ace_core.data.rows import Rows
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.experts.clip import attribute_slices
from unif2ace_core.train.sure import Head

CHUNK = 4096  # photos read together
SHARPNESS = 2.0  # what distances from the threshold are multiplied by, in nats; much more makes answers hard


@torch.no_grad()
def readings(head: Head, features: np.ndarray, names: Sequence[str]) -> Tensor:
    """The head's logits (R, names) by cached features (R, VIEWS, T, C), mean over the views."""
    columns = [attribute_slices()[name].start for name in names]
    found = []
    for start in range(0, len(features), CHUNK):
        last = torch.from_numpy(features[start : start + CHUNK, :, -1].astype("float32"))
        found.append(head(last)[..., columns].mean(1))
    return torch.cat(found)


def best_threshold(scores: Tensor, truth: Tensor) -> float:
    """The threshold at which scores (R,) have the best balanced accuracy against bools (R,); 0 where one is missing."""
    order = scores.argsort(descending=True)
    yes = truth[order].double()
    if not 0 < float(yes.sum()) < len(yes):
        return 0.0
    gain = yes.cumsum(0) / yes.sum() - (1 - yes).cumsum(0) / (1 - yes).sum()
    last = int(gain.argmax())  # of those that are called yes
    return float(scores[order[last : last + 2]].mean())


class TaughtRecords(Rows[FaceRecord]):
    """Records in which known labels of some yes/no attributes say what the expert reads.

    Yes and no part where they agree best with the labels in balanced accuracy.
    """

    def __init__(self, records: Sequence[FaceRecord], head: Head, features: np.ndarray, names: Sequence[str]) -> None:
        self.records, self.names = records, tuple(names)
        scores, labels = readings(head, features, names), binary_labels(records, names)
        thresholds = [best_threshold(s[t >= 0], t[t >= 0] == 1) for s, t in zip(scores.T, labels.T, strict=True)]
        margins = scores - torch.tensor(thresholds)
        self.yes = (margins > 0).numpy()
        self.doubts = torch.sigmoid(-SHARPNESS * margins.abs()).numpy()

    def taught(self, row: int, record: FaceRecord) -> FaceRecord:
        """The record of a row as the expert reads it."""
        labels = dict(record.labels)
        for name, yes in zip(self.names, self.yes[row], strict=True):
            if name in labels:
                labels[name] = "yes" if yes else "no"
        return replace(record, labels=labels)

    def doubt(self, row: int, name: str) -> float:
        """Probability of the other value of an attribute than the row's record has, with even odds at the threshold.

        0 for an attribute that is not taught.
        """
        return float(self.doubts[row, self.names.index(name)]) if name in self.names else 0.0

    def __len__(self) -> int:
        return len(self.records)

    def row(self, number: int) -> FaceRecord:
        return self.taught(number, self.records[number])

    def __iter__(self) -> Iterator[FaceRecord]:
        for row, record in enumerate(self.records):
            yield self.taught(row, record)
