"""A task of the training loop that needs no files: the joint objective on invented codes and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.model.sequence_moe import Exploration
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet
from unif2ace_core.train.mixture import Mixture, MixtureConfig
from unif2ace_core.train.objectives import ObjectiveConfig, joint_loss
from unif2ace_core.train.options import TrainConfig
from unif2ace_core.train.processes import Part
from unif2ace_core.weights.store import save_tensors

LABELS = {"Male": "no", "Smiling": "yes", "Eyeglasses": "no", "Blond_Hair": "yes", "Young": "yes", "Wearing_Hat": "no"}


@dataclass
class TinyTask:
    """The joint objective on invented codes and features: everything random, nothing on disk."""

    model: UniF2ace
    mixture: Mixture
    objective: ObjectiveConfig
    name: str = "model"
    shardable: bool = True

    def modules(self) -> nn.Module:
        return self.model

    def batch(self, step: int, part: Part) -> Any:
        return self.mixture.draw(4, part.common, part.index, part.count)

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return joint_loss(self.model, batch, self.objective, Exploration(0.5, draws=batch.exploration))

    def evaluate(self) -> dict[str, float]:
        loss, _ = joint_loss(self.model, self.mixture.draw(4, torch.Generator().manual_seed(5)), self.objective)
        return {"held_out": float(loss)}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        save_tensors(directory / "model.safetensors", self.model.folded(weights))


def tiny_task(config: ModelConfig, balance: float = 0.01) -> TinyTask:
    """Three pictures to generate and one to understand in a step, so that halves of it differ in both."""
    records = [FaceRecord("celebahq", f"{i}.webp", "train", LABELS, None, None) for i in range(12)]
    tokenizer = TextTokenizer.train(["a smiling woman with blond hair", "is she wearing a hat? no."], 300)
    sizes = ModelConfig(**{**vars(config), "text_vocabulary": tokenizer.size, "text_length": 60})
    g = torch.Generator().manual_seed(0)
    data = EncodedSet(
        torch.randint(config.codes, (12, 2, config.positions), generator=g).short().numpy(),
        torch.randn(12, 2, 6, config.clip_width, generator=g).half().numpy(),
        torch.randn(12, 2, config.face_width, generator=g).half().numpy(),
    )
    model = UniF2ace(sizes).initialise(torch.Generator().manual_seed(0))
    objective = ObjectiveConfig(balance_t2i=balance, balance_mmu=balance)
    return TinyTask(model, Mixture(records, data, tokenizer, sizes, MixtureConfig(t2i_share=0.75)), objective)


def settings(**values: Any) -> TrainConfig:
    return TrainConfig(**{"steps": 6, "batch_size": 4, "warmup": 2, "precision": "fp32", "save_every": 3, **values})
