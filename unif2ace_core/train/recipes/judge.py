"""Recipe `judge`: the attribute classifier that reads generated faces, apart from the model (evaluate/judge.py).

    unif2ace train judge --data DATA --output runs/judge

Photos that people labelled teach it: CelebA-HQ's where there are some, else all of the folder. Yes and no of an
attribute weigh alike in its binary cross-entropy, so that its balanced accuracy is best at one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.attributes import VISIBLE_20, VISIBLE_30
from unif2ace_core.data.augment import augment
from unif2ace_core.data.labels import binary_labels
from unif2ace_core.data.sets import preferred_sources
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.judge import Judge, JudgeConfig
from unif2ace_core.evaluate.metrics import balanced_accuracy, extract, known_mean
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.train.options import TrainConfig, as_path
from unif2ace_core.train.processes import Part
from unif2ace_core.train.records import split_records, training_pixels
from unif2ace_core.weights.parts import load_part, save_part

HUMAN = ("celebahq",)  # sources whose attributes people labelled
MOST = 10.0  # a label of a rare value counts at most this many times as much as it would unweighted


@dataclass
class JudgeTrainConfig(TrainConfig):
    """Settings of the judge recipe."""

    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    decay: float = 0.6
    weight_decay: float = 0.05


CONFIG = JudgeTrainConfig


def balancing(labels: Tensor) -> Tensor:
    """Weights (2, A) of a no and of a yes of each attribute, under which both have half of the weight, up to `MOST`."""
    counts = torch.stack([(labels == value).sum(0) for value in (0, 1)]).float()
    return (counts.sum(0) / (2 * counts.clamp_min(1))).clamp(max=MOST)


class JudgeTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "judge"
    shardable = False

    def __init__(self, config: JudgeTrainConfig, data: Path) -> None:
        self.config = config
        start = as_path(config.init)
        judge = load_part(start, "judge", Judge, JudgeConfig) if start else Judge(JudgeConfig())
        self.judge = judge.train().requires_grad_(True).to(memory_format=torch.channels_last)
        sources = preferred_sources(data, HUMAN)
        train, held_out = (split_records(data, split, sources) for split in ("train", "val"))
        self.pixels, self.val_pixels = training_pixels(data, train), training_pixels(data, held_out)
        names = judge.config.attributes
        self.labels, self.val_labels = binary_labels(train, names), binary_labels(held_out, names)
        if not (self.labels >= 0).any():
            raise UserError(f"no training photo in {data} has a label to learn; add columns such as {names[0]}")
        self.weights = balancing(self.labels)

    def modules(self) -> nn.Module:
        return self.judge

    def batch(self, step: int, part: Part) -> dict[str, Tensor]:
        rows = torch.randint(len(self.pixels), (part.rows(self.config.batch_size),), generator=part.own)
        images = augment(to_image_tensor(torch.from_numpy(self.pixels[rows.numpy()])), part.own)
        return {"images": images.contiguous(memory_format=torch.channels_last), "labels": self.labels[rows]}

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        logits, labels = self.judge(batch["images"]).float(), batch["labels"]
        no, yes = self.weights.to(logits.device)
        weights = torch.where(labels == 1, yes, no) * (labels >= 0)
        losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).float(), weights, reduction="sum")
        return losses / weights.sum().clamp_min(1), {}

    def evaluate(self) -> dict[str, float]:
        """Mean balanced accuracy over the 20 and the 30 visible attributes, on val."""
        seen = extract(self.val_pixels, self.judge) > 0
        scores = {
            name: balanced_accuracy(seen[known, index], self.val_labels[known, index] == 1)
            for index, name in enumerate(self.judge.config.attributes)
            if (known := self.val_labels[:, index] >= 0).any()
        }
        found = {"visible_20": VISIBLE_20, "visible_30": VISIBLE_30}
        return {key: round(known_mean([scores[n] for n in names if n in scores]), 4) for key, names in found.items()}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        save_part(directory, "judge", self.judge, self.judge.config)


def build(config: JudgeTrainConfig, data: Path, output: Path) -> JudgeTask:
    """The loop's task for this recipe."""
    torch.manual_seed(config.seed)  # fresh weights
    return JudgeTask(config, data)
