"""Recipe `clip`: the CLIP expert, contrastive on captions and supervised on attributes and ages.

    unif2ace train clip --data DATA --output runs/clip

The towers sit in open_clip's `CLIP` with its contrastive loss; the image tower is exported for inference, the text
tower beside it so that training can go on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unif2ace_core.data.attributes import SCHEMA, VISIBLE_20
from unif2ace_core.data.augment import augment
from unif2ace_core.data.captions import caption
from unif2ace_core.data.labels import attribute_loss, label_matrix
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.metrics import balanced_accuracy, known_mean
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, LabelledFeatures, attribute_slices, load_clip
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.options import TrainConfig, as_path, factors_of
from unif2ace_core.train.processes import Part, device_of
from unif2ace_core.train.records import split_records, training_pixels
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.store import load_module, load_tensors, save_tensors

TEXT_WEIGHTS, TEXT_TOKENIZER = "clip_text.safetensors", "clip_tokenizer.json"  # beside the image tower
CONTEXT = 48  # text tokens of a caption
MEASURED = 2048  # most photos on which the spread of the evidence is measured


@dataclass
class ClipTrainConfig(TrainConfig):
    """Settings of the clip recipe."""

    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    vocabulary: int = 1024  # entries of the text tower's own tokenizer
    contrastive_weight: float = 0.2
    age_weight: float = 1.0
    learn_more: tuple[str, ...] = ()  # NAME:FACTOR, attributes whose labels count so many times in the loss
    text_width: int = 128  # text tower
    text_layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        label_factors(self.learn_more)
        if self.accumulation > 1:
            raise UserError(
                f"accumulation={self.accumulation} would tell each picture from fewer captions; give accumulation=1"
            )


CONFIG = ClipTrainConfig


def label_factors(words: Sequence[str]) -> dict[str, float]:
    """The setting `learn_more`; see `factors_of`."""
    return factors_of(words, "learn_more", attribute_slices(), "attribute", "Wearing_Hat:2")


def build_open_clip(config: ClipTrainConfig, vocabulary: int, end: int, encoder: ClipEncoder) -> nn.Module:
    """open_clip's CLIP with our image tower in place of its own."""
    try:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    except ImportError as error:
        raise UserError("recipe clip needs open_clip; run 'pip install open_clip_torch'") from error
    vision = CLIPVisionCfg(layers=1, width=64, head_width=64, patch_size=64, image_size=64)  # replaced below
    text = CLIPTextCfg(
        context_length=CONTEXT,
        vocab_size=vocabulary,
        width=config.text_width,
        heads=config.text_width // 32,
        layers=config.text_layers,
        pool_type="eos",
        eos_id=end,
        pad_id=end,
    )
    model = CLIP(encoder.config.embed, vision, text)
    model.visual = encoder
    return model


class ClipTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "clip"
    shardable = False

    clip: Any  # open_clip's CLIP, which carries no types

    def __init__(self, config: ClipTrainConfig, data: Path) -> None:
        self.config, self.factors = config, label_factors(config.learn_more)
        self.records, self.held_out = split_records(data, "train"), split_records(data, "val")
        start = as_path(config.init)
        self.tokenizer = self.text_tokenizer(start)
        encoder = (load_clip(start) if start else ClipEncoder(ClipConfig())).train().requires_grad_(True)
        self.clip = build_open_clip(config, self.tokenizer.size, self.tokenizer.end, encoder)
        if start and (start / TEXT_WEIGHTS).exists() and (start / TEXT_TOKENIZER).exists():
            path = start / TEXT_WEIGHTS
            visual = {f"visual.{name}": value for name, value in encoder.state_dict().items()}
            load_module(self.clip, visual | load_tensors(path), path)
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.pixels = training_pixels(data, self.records)
        self.values, self.ages = label_matrix(self.records)
        self.val_pixels = training_pixels(data, self.held_out)
        self.val_values, self.val_ages = label_matrix(self.held_out)

    def text_tokenizer(self, start: Path | None) -> TextTokenizer:
        """The text tower's tokenizer: that of the start, or a new one trained on captions."""
        path = start / TEXT_TOKENIZER if start else None
        if path and path.exists():
            return TextTokenizer.load(path)
        rng = random.Random(self.config.seed)
        texts = (caption(record, rng) for record in self.records)
        return TextTokenizer.train(texts, self.config.vocabulary)

    def modules(self) -> nn.Module:
        return self.clip

    def batch(self, step: int, part: Part) -> dict[str, Tensor]:
        rows = torch.randint(len(self.pixels), (part.rows(self.config.batch_size),), generator=part.own)
        images = to_image_tensor(torch.from_numpy(self.pixels[rows.numpy()]))
        rng = random.Random(int(torch.randint(2**62, (1,), generator=part.own)))
        texts = [caption(self.records[row], rng, "mixed") for row in rows.tolist()]
        return {
            "images": augment(images, part.own).contiguous(memory_format=torch.channels_last),
            "texts": self.tokens(texts),
            "values": self.values[rows],
            "ages": self.ages[rows],
        }

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (B, CONTEXT), each closed and padded with the end token."""
        table = torch.full((len(texts), CONTEXT), self.tokenizer.end)
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(text)[: CONTEXT - 1]
            table[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        return table

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        found = self.encoder.features(batch["images"])
        image = nn.functional.normalize(found.embedding.float(), dim=-1)
        text = self.clip.encode_text(batch["texts"], normalize=True).float()
        logits = image @ text.t() * self.clip.logit_scale.exp().clamp(max=100)
        target = torch.arange(len(logits), device=logits.device)
        contrast = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.t(), target)) / 2
        labels, age = attribute_loss(found.attributes, found.age, batch["values"], batch["ages"], self.factors)
        total = labels + self.config.contrastive_weight * contrast + self.config.age_weight * age
        return total, {
            "attributes": float(labels.detach()),
            "contrastive": float(contrast.detach()),
            "age": float(age.detach()),
        }

    def evaluate(self) -> dict[str, float]:
        """Balanced accuracy per source at threshold one half, emotion, gender and age error on val."""
        return features_report(self.seen(np.array(self.val_pixels)), self.held_out, self.val_values, self.val_ages)

    @torch.no_grad()
    def seen(self, pixels: np.ndarray) -> Iterator[LabelledFeatures]:
        """What the encoder makes of photos (R, P, P, 3), in batches."""
        device = device_of(self.encoder)
        for images in torch.from_numpy(pixels).split(128):
            yield self.encoder.features(to_image_tensor(images).to(device))

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        if self.encoder.config.summary:
            chosen = np.array(self.pixels[:: -(-len(self.pixels) // MEASURED)])
            self.encoder.measure_evidence(self.seen(chosen))
        save_part(directory, "clip", self.encoder, self.encoder.config)
        text = {name: value.half() for name, value in self.clip.state_dict().items() if not name.startswith("visual.")}
        save_tensors(directory / TEXT_WEIGHTS, text)
        self.tokenizer.save(directory / TEXT_TOKENIZER)


def rows_of(source: str, records: Sequence[FaceRecord]) -> Tensor:
    """(R,) bool: the rows of a source whose labels people gave; all rows where that source is not there."""
    rows = torch.tensor([record.source == source for record in records])
    return rows if rows.any() else ~rows


def features_report(
    found: Iterable[LabelledFeatures], records: Sequence[FaceRecord], values: Tensor, ages: Tensor
) -> dict[str, float]:
    """`attribute_report` of what a tower makes of the records' photos, batch by batch."""
    heads = [(each.attributes.cpu(), each.age.cpu()) for each in found]
    logits, age = (torch.cat(parts) for parts in zip(*heads, strict=True))
    return attribute_report(logits, age, records, values, ages)


def attribute_report(
    logits: Tensor, age: Tensor, records: Sequence[FaceRecord], values: Tensor, ages: Tensor
) -> dict[str, float]:
    """Balanced accuracies of the attribute head against known labels, and the mean absolute age error in years.

    What the labels can't tell is left out.
    """
    column = {attribute.name: index for index, attribute in enumerate(SCHEMA)}
    slices = attribute_slices()
    human = rows_of("celebahq", records)
    scores = []
    for name in VISIBLE_20:
        truth = values[:, column[name]]
        chosen = human & (truth >= 0)
        scores.append(balanced_accuracy(logits[chosen, slices[name].start] > 0, truth[chosen] == 1))
    emotion = values[:, column["Emotion"]]
    lfw = rows_of("lfw", records) & ((emotion == 0) | (emotion == 1))
    happy = logits[lfw, slices["Emotion"]][:, :2].argmax(1) == 1
    gender = values[:, column["Male"]]
    known = ~ages.isnan()
    found = {
        "visible_20": round(known_mean(scores), 4),
        "happiness_neutral": round(balanced_accuracy(happy, emotion[lfw] == 1), 4),
        "gender": round(balanced_accuracy(logits[gender >= 0, slices["Male"].start] > 0, gender[gender >= 0] == 1), 4),
        "age_mae": round(float((age[known] - ages[known]).abs().mean()), 2),
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def build(config: ClipTrainConfig, data: Path, output: Path) -> ClipTask:
    """The loop's task for this recipe."""
    torch.manual_seed(config.seed)  # fresh weights
    return ClipTask(config, data)
