"""Recipe `reader`: what the CLIP expert says of its patches, learned anew while its tower stays as it is.

    unif2ace train reader --data DATA --output runs/reader init=unif2ace_core/assets/mini

The patches are computed once (train/encode.py), so that a step costs a thousandth of one of recipe `clip`, and the
summary can be wide and see every photo many times. The contrastive embedding is held near that of the start, whose text
tower goes along where it is there. The export's last token is the summary's evidence (experts/clip.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.labels import attribute_loss, label_matrix
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipEncoder, LabelledFeatures, load_clip
from unif2ace_core.train.encode import encode_kind
from unif2ace_core.train.options import TrainConfig, as_path, check_range
from unif2ace_core.train.processes import Part, device_of
from unif2ace_core.train.recipes.clip import TEXT_TOKENIZER, TEXT_WEIGHTS, features_report, label_factors
from unif2ace_core.train.records import split_records
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.store import copy_into

SAMPLE = 8192  # most photos that spreads are measured on
BATCH = 1024  # photos read together where nothing is learned


@dataclass
class ReaderTrainConfig(TrainConfig):
    """Settings of the reader recipe."""

    steps: int = 4000
    batch_size: int = 256
    learning_rate: float = 1e-3
    decay: float = 0.9
    weight_decay: float = 0.1
    ema: float = 0.99
    neck: int = 128  # channels per patch that the summary reads
    summary: int = 512  # its units
    dropout: float = 0.3  # of what the summary reads, and of the summary
    patch_dropout: float = 0.1  # patches hidden
    age_weight: float = 0.7
    learn_more: tuple[str, ...] = ()  # NAME:FACTOR, attributes whose labels count so many times in the loss
    embed_weight: float = 0.1  # of the likeness to the start's embedding

    def __post_init__(self) -> None:
        super().__post_init__()
        label_factors(self.learn_more)
        check_range(self, ("neck", "summary"), 1)
        check_range(self, ("dropout", "patch_dropout"), 0, 0.9)

    def missing(self) -> list[str]:
        return [] if self.init else ["init"]


CONFIG = ReaderTrainConfig


def widened(start: ClipEncoder, config: ReaderTrainConfig) -> ClipEncoder:
    """The start's tower, frozen, under a summary of these sizes: the start's own one where it has them."""
    sizes = replace(start.config, neck=config.neck, summary=config.summary)
    encoder = ClipEncoder(sizes)
    known, own = start.state_dict(), encoder.state_dict()
    whole = sizes == start.config
    encoder.load_state_dict({k: known[k] if whole or k.startswith(("tower.", "position")) else own[k] for k in own})
    encoder.tower.requires_grad_(False)
    encoder.position.requires_grad_(False)
    encoder.dropout.p = config.dropout
    return encoder


class ReaderTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "reader"
    shardable = False

    def __init__(self, config: ReaderTrainConfig, data: Path) -> None:
        directory = as_path(config.init)
        if directory is None:
            raise UserError("recipe reader needs init=DIR, an export of recipe clip or a model's folder")
        self.config, self.directory = config, directory
        self.factors = label_factors(config.learn_more)
        self.start = load_clip(directory).requires_grad_(False)
        self.encoder = widened(self.start, config)
        self.records, self.held_out = split_records(data, "train"), split_records(data, "val")
        self.patches, self.val_patches = (
            encode_kind("clip", data, records, directory, self.start.config.pixels)[:, :, :-1]
            for records in (self.records, self.held_out)
        )
        self.values, self.ages = label_matrix(self.records)
        self.val_values, self.val_ages = label_matrix(self.held_out)
        if self.encoder.config != self.start.config:
            scale_neck(self.encoder.neck, tensor(self.sample()))

    def sample(self) -> np.ndarray:
        """Patches (R, P, C) of training photos at even distances."""
        return self.patches[:: -(-len(self.patches) // SAMPLE), 0]

    def modules(self) -> nn.Module:
        return self.encoder

    def batch(self, step: int, part: Part) -> dict[str, Tensor]:
        count = part.rows(self.config.batch_size)
        rows = torch.randint(len(self.patches), (count,), generator=part.own)
        views = torch.randint(self.patches.shape[1], (count,), generator=part.own)
        return {
            "patches": tensor(self.patches[rows.numpy(), views.numpy()]),
            "values": self.values[rows],
            "ages": self.ages[rows],
        }

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        patches, hidden = batch["patches"], self.config.patch_dropout
        seen = torch.rand(patches.shape[:2], generator=generator).to(patches.device) >= hidden
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))  # dropout's draws
            found = self.encoder.read(patches * seen.unsqueeze(-1) / (1 - hidden))
        labels, age = attribute_loss(found.attributes, found.age, batch["values"], batch["ages"], self.factors)
        with torch.no_grad():
            wanted = self.start.to(patches.device).read(patches).embedding
        apart = 1 - F.cosine_similarity(found.embedding.float(), wanted.float()).mean()
        total = labels + self.config.age_weight * age + self.config.embed_weight * apart
        return total, {"attributes": float(labels.detach()), "age": float(age.detach()), "apart": float(apart.detach())}

    def evaluate(self) -> dict[str, float]:
        """As of recipe `clip`: balanced accuracy at threshold one half, emotion, gender and age error on val."""
        return features_report(self.seen(self.val_patches[:, 0]), self.held_out, self.val_values, self.val_ages)

    @torch.no_grad()
    def seen(self, patches: np.ndarray) -> Iterator[LabelledFeatures]:
        """What the encoder makes of cached patches (R, P, C), in batches."""
        for start in range(0, len(patches), BATCH):
            yield self.encoder.read(tensor(patches[start : start + BATCH]).to(device_of(self.encoder)))

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        self.encoder.measure_evidence(self.seen(self.sample()))
        save_part(directory, "clip", self.encoder, self.encoder.config)
        for name in (TEXT_WEIGHTS, TEXT_TOKENIZER):  # recipe `clip` goes on with them
            if (self.directory / name).exists():
                copy_into(directory, self.directory / name)


def tensor(rows: np.ndarray) -> Tensor:
    """Rows of a cached array as fp32."""
    return torch.from_numpy(rows.astype("float32"))


@torch.no_grad()
def scale_neck(neck: nn.Linear, patches: Tensor) -> None:
    """Let a fresh neck read patches (R, P, C) as if each of their channels were centred and of unit spread."""
    mean, spread = patches.mean((0, 1)), patches.std((0, 1)).clamp_min(1e-3)
    neck.weight.div_(spread)
    neck.bias.sub_(neck.weight @ mean)


def build(config: ReaderTrainConfig, data: Path, output: Path) -> ReaderTask:
    """The loop's task for this recipe."""
    torch.manual_seed(config.seed)  # fresh weights
    return ReaderTask(config, data)
