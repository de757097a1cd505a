"""Recipe `locate`: train the face locator on synthetic scenes (train/scenes.py).

    unif2ace train locate --data DIR --output DIR [steps=N ...]

Loss per batch: focal loss of the score over all cells (cells near a face's centre are positive, cells a
little further count nothing), plus L1 of centre (in frame sizes), log size and (cos, sin) at positive cells.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unif2ace_core.data.sources import FaceRecord, PhotoStore, read_records
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import Frame, read_frames
from unif2ace_core.experts.locate import STRIDE, UNIT, Locator
from unif2ace_core.train.options import TrainConfig, as_path
from unif2ace_core.train.processes import Part, device_of
from unif2ace_core.train.scenes import FaceBank, Scenes, scenes

logger = logging.getLogger(__name__)


@dataclass
class LocateTrainConfig(TrainConfig):
    """Options of `unif2ace train locate`."""

    steps: int = 4200
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup: int = 100
    decay: float = 0.6
    weight_decay: float = 0.02
    ema: float = 0.998
    eval_every: int = 1000
    photos: int = 9000  # photos in the bank of faces, drawn evenly from the sources
    regression: float = 4.0  # weight of the frames' errors against the score's loss
    val_scenes: int = 200  # scenes of each kind that an evaluation looks at


CONFIG = LocateTrainConfig


def _read_bank(data: Path, records: list[FaceRecord], pixels: int = 128) -> FaceBank:
    table, store = read_frames(data), PhotoStore(data)
    photos = torch.empty(len(records), 3, pixels, pixels, dtype=torch.uint8)
    frames = torch.empty(len(records), 4)
    for index, record in enumerate(records):
        image = store.open(record)
        frame = table.frame(record.source, record.file, *image.size).scaled(1 / image.width)
        frames[index] = torch.tensor([frame.cx, frame.cy, frame.size, frame.angle])
        square = image.resize((pixels, pixels), Image.Resampling.BOX)
        photos[index] = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    aligned = torch.tensor([record.key not in table.frames for record in records])
    return FaceBank(photos, frames, aligned)


def read_bank(data: Path, split: str, count: int, seed: int = 0) -> FaceBank:
    """A bank of `count` square photos, as evenly as possible from the sources; for lfw and utkface only
    photos in which the landmark detector found a face."""
    known = read_frames(data)
    groups: dict[str, list[FaceRecord]] = {}
    for record in read_records(data, split):
        if record.source not in known.fallback or record.key in known.frames:
            groups.setdefault(record.source, []).append(record)
    rng = random.Random(seed)
    chosen: list[FaceRecord] = []
    for position, group in enumerate(sorted(groups.values(), key=len)):
        share = (count - len(chosen)) // (len(groups) - position)
        chosen += rng.sample(group, min(share, len(group)))
    if not chosen:
        raise UserError(f"{data} holds no photos of split {split!r}; mark some rows {split} in the CSV's split column")
    logger.info("reading %d %s photos", len(chosen), split)
    return _read_bank(data, chosen)


def targets(batch: Scenes, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Per cell `(B, cells^2)`: score 0/1, weight of the score, and values `(B, cells^2, 5)`.

    Values are dx, dy, log size, cos, sin as the network gives them, those of the nearest frame.
    """
    line = (torch.arange(cells, device=batch.frames.device) + 0.5) * STRIDE
    y, x = torch.meshgrid(line, line, indexing="ij")
    at = torch.stack([x.flatten(), y.flatten()], -1)  # (n, 2)
    way = batch.frames[:, None, :, :2] - at[None, :, None]  # (B, n, L, 2)
    size = batch.frames[:, None, :, 2]
    away = way.norm(dim=-1) / size.clamp(min=1)
    away = away.masked_fill(~batch.present[:, None], math.inf)
    pixels = way.abs().amax(-1).masked_fill(~batch.present[:, None], math.inf)
    nearest = away.argmin(-1)  # (B, n)
    positive = ((away < 0.13) | (pixels <= STRIDE / 2)).any(-1)
    unsure = ((away < 0.24) | (pixels <= STRIDE)).any(-1) & ~positive
    frame = batch.frames.gather(1, nearest[..., None].expand(-1, -1, 4))
    away_to = (frame[..., :2] - at) / frame[..., 2:3].clamp(min=1)
    angle = frame[..., 3:]
    log_size = (frame[..., 2:3].clamp(min=1) / UNIT).log()
    return positive.float(), (~unsure).float(), torch.cat([away_to, log_size, angle.cos(), angle.sin()], -1)


def locator_loss(outputs: Tensor, batch: Scenes, regression: float) -> tuple[Tensor, dict[str, float]]:
    """Focal loss of the scores and L1 of the frames; `outputs` `(B, 6, h, h)`."""
    positive, weight, values = (t.to(outputs.device) for t in targets(batch, outputs.shape[-1]))
    flat = outputs.float().flatten(2).transpose(1, 2)  # (B, n, 6)
    logit = flat[..., 0]
    entropy = F.binary_cross_entropy_with_logits(logit, positive, reduction="none")
    wrong = (logit.sigmoid() - positive).abs()
    # a face counts the same whether one cell or a hundred lie in its middle
    share = positive / positive.sum(1, keepdim=True).clamp(min=1) * 4 + (1 - positive)
    score = (wrong.square() * entropy * weight * share).sum() / len(flat) / 4
    error = (flat[..., 1:] - values).abs() * positive[..., None]
    error = (error * (share * positive)[..., None] / 4).sum((0, 1)) / positive.amax(1).sum().clamp(min=1)
    centre, size, angle = error[:2].sum(), error[2], error[3:].sum()
    loss = score + regression * (centre + 0.5 * size + 0.5 * angle)
    terms = {"score": score, "centre": centre, "size": size, "angle": angle}
    return loss, {name: float(term.detach()) for name, term in terms.items()}


def _photo(image: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] as a PIL image."""
    array = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array)


def frame_errors(found: Frame, truth: Frame) -> tuple[float, float, float]:
    """Centre error and size error in sizes of the true frame, angle error in degrees."""
    centre = math.hypot(found.cx - truth.cx, found.cy - truth.cy) / truth.size
    turn = math.remainder(found.angle - truth.angle, 2 * math.pi)
    return centre, abs(found.size / truth.size - 1), abs(math.degrees(turn))


def overlap(a: Frame, b: Frame) -> float:
    """Intersection over union of two frames, taken as upright."""
    width = min(a.cx + a.size / 2, b.cx + b.size / 2) - max(a.cx - a.size / 2, b.cx - b.size / 2)
    height = min(a.cy + a.size / 2, b.cy + b.size / 2) - max(a.cy - a.size / 2, b.cy - b.size / 2)
    both = max(0.0, width) * max(0.0, height)
    return both / (a.size**2 + b.size**2 - both)


class LocateTask:
    """Training on scenes; see the file's docstring."""

    name = "locate"
    shardable = False

    def __init__(self, config: LocateTrainConfig, data: Path) -> None:
        self.config, self.data = config, data
        start = as_path(config.init)
        locator = Locator.load(start).requires_grad_(True) if start else Locator()
        self.locator = locator.to(memory_format=torch.channels_last)
        self.bank = read_bank(data, "train", config.photos, config.seed)
        self.val = read_bank(data, "val", 800, config.seed)

    def modules(self) -> nn.Module:
        """The locator."""
        return self.locator

    def batch(self, step: int, part: Part) -> Scenes:
        """Scenes of the close-up's size."""
        return scenes(self.bank, part.rows(self.config.batch_size), self.locator.config.pixels, part.own)

    def loss(self, batch: Scenes, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Focal loss and frame errors."""
        images = batch.images.to(device_of(self.locator), memory_format=torch.channels_last)
        return locator_loss(self.locator.network(images), batch, self.config.regression)

    def evaluate(self) -> dict[str, float]:
        """Val scenes (recall, false alarms, median errors), empty scenes, and val photos as they are."""
        count = self.config.val_scenes
        result = self._evaluate_scenes(scenes(self.val, count, 160, torch.Generator().manual_seed(1)))
        empty = scenes(self.val, count, 160, torch.Generator().manual_seed(2), faces=False)
        alarms = sum(len(self.locator.find(_photo(image))) for image in empty.images)
        return {**result, "empty_false_alarms": alarms / count, **self._evaluate_photos(count)}

    def _evaluate_scenes(self, batch: Scenes) -> dict[str, float]:
        hits, total, alarms, errors = 0, 0, 0, []
        for image, frames, present in zip(batch.images, batch.frames, batch.present, strict=True):
            found = [face.frame for face in self.locator.find(_photo(image))]
            true = [Frame(*frame) for frame in frames[present].tolist()]
            total += len(true)
            for truth in true:
                best = max(found, key=lambda f: overlap(f, truth), default=None)
                if best is not None and overlap(best, truth) > 0.5:
                    hits += 1
                    errors.append(frame_errors(best, truth))
                    found.remove(best)
            alarms += len(found)
        rates = {"recall": hits / max(1, total), "false_alarms": alarms / len(batch.images)}
        return {**rates, **_medians(errors)}

    def _evaluate_photos(self, count: int) -> dict[str, float]:
        hits, errors = 0, []
        picked = range(0, len(self.val.photos), max(1, len(self.val.photos) // count))
        for index in picked:
            photo = self.val.photos[index]
            truth = Frame(*self.val.frames[index].tolist()).scaled(photo.shape[-1])
            found = self.locator.find(_photo(photo.float() / 127.5 - 1))
            if found and overlap(found[0].frame, truth) > 0.5:
                hits += 1
                errors.append(frame_errors(found[0].frame, truth))
        return {"photo_recall": hits / len(picked), **_medians(errors, "photo_")}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """`locator.safetensors` (fp16) and `locator.json`."""
        self.locator.save(directory)


def _medians(errors: list[tuple[float, float, float]], prefix: str = "") -> dict[str, float]:
    """Median and 90th percentile of centre, size and angle errors."""
    if not errors:
        return {}
    values = {}
    for name, column in zip(("centre", "size", "angle"), np.array(errors).T, strict=True):
        values[f"{prefix}{name}_error"] = float(np.median(column))
        values[f"{prefix}{name}_error_90"] = float(np.percentile(column, 90))
    return values


def build(config: LocateTrainConfig, data: Path, output: Path) -> LocateTask:
    """The task; reads the bank of photos once."""
    torch.manual_seed(config.seed)
    return LocateTask(config, data)
