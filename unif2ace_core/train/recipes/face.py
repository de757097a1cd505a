"""Recipe `face`: distil dlib's 128-d face descriptors into the small face encoder.

    unif2ace train face --data DIR --output DIR [steps=N ...]

With z the student's and t the teacher's descriptor, centred and scaled to unit variance, D dimensions:

    L = |z - t|^2 / D  +  a * InfoNCE(-|z_i - t_j|^2 / (D tau))  +  b * (|z_i - z_j| - |t_i - t_j|)^2 / D

(regression, in-batch contrast, and relational distillation). Data: every source of the folder that has rows
in `face_descriptors.npz` and `landmarks.npz`; photos are shown shifted, turned, blurred and recoloured.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.sources import FaceRecord, PhotoStore, read_descriptors, read_records
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import crop, read_frames
from unif2ace_core.experts.face import FaceConfig, FaceEncoder
from unif2ace_core.train.options import TrainConfig, as_path
from unif2ace_core.train.processes import Part, device_of

MARGIN = 1.25  # training crops are this much larger than the encoder's region, so that they can be shifted

logger = logging.getLogger(__name__)


@dataclass
class FaceTrainConfig(TrainConfig):
    """Options of `unif2ace train face`."""

    steps: int = 3600
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.6
    weight_decay: float = 0.05
    ema: float = 0.998
    eval_every: int = 1000
    contrast: float = 0.25  # weight a of the in-batch contrast
    temperature: float = 0.15  # its tau
    relation: float = 0.5  # weight b of the relational term
    photos: int = 0  # training photos to use; 0: all


CONFIG = FaceTrainConfig


def verification(distances: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Accuracy of "same person" and the best threshold, over `(P,)` distances and truths.

    The pairs are halved by turns; each half is judged at the threshold that is best on the other.
    """

    def best(d: np.ndarray, s: np.ndarray) -> float:
        order = np.argsort(d)
        hits = np.cumsum(s[order]) + (~s).sum() - np.cumsum(~s[order])
        at = int(np.argmax(hits))
        return float((d[order[at]] + d[order[min(at + 1, len(d) - 1)]]) / 2)

    halves = [np.arange(len(same)) % 2 == h for h in (0, 1)]
    right = [((distances[b] < best(distances[a], same[a])) == same[b]).mean() for a, b in (halves, halves[::-1])]
    return float(np.mean(right)), best(distances, same)


def person_pairs(persons: Sequence[str | None], limit: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Up to `limit` pairs of one person and as many of two: `(P, 2)` indices and `(P,)` truths, shuffled."""
    rng = random.Random(seed)
    groups: dict[str, list[int]] = {}
    for index, person in enumerate(persons):
        if person:
            groups.setdefault(person, []).append(index)
    same: list[tuple[int, int]] = []
    for members in groups.values():  # at most 30 pairs a person, or the most photographed ones would decide
        pairs = [(a, b) for i, a in enumerate(members) for b in members[i + 1 :]]
        same += rng.sample(pairs, min(30, len(pairs)))
    rng.shuffle(same)
    same = same[:limit]
    known = [index for members in groups.values() for index in members]
    other: list[tuple[int, int]] = []
    while len(groups) > 1 and len(other) < len(same):
        a, b = rng.sample(known, 2)
        if persons[a] != persons[b]:
            other.append((a, b))
    mixed = [(p, True) for p in same] + [(p, False) for p in other]
    rng.shuffle(mixed)
    return np.array([p for p, _ in mixed]).reshape(-1, 2), np.array([s for _, s in mixed], dtype=bool)


def _uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def augment(faces: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Random views `(B, 3, pixels, pixels)` of uint8 crops `(B, 3, S, S)` that reach `MARGIN` further."""
    count = len(faces)
    turn = _uniform(generator, count, -0.14, 0.14)
    zoom = _uniform(generator, count, 0.93, 1.08) / MARGIN
    flip = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    cos, sin = turn.cos() * zoom, turn.sin() * zoom
    dx, dy = _uniform(generator, count, -0.06, 0.06), _uniform(generator, count, -0.06, 0.06)
    theta = torch.stack([torch.stack([cos * flip, -sin, dx], 1), torch.stack([sin * flip, cos, dy], 1)], 1)
    grid = F.affine_grid(theta, [count, 3, pixels, pixels], align_corners=False)
    x = F.grid_sample(faces.float() / 127.5 - 1, grid, padding_mode="reflection", align_corners=False)
    return recolour(soften(x, generator), generator)


def soften(x: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the batch is shown at a resolution down to a third, as small faces and blurs are."""
    size = int(torch.randint(x.shape[-1] // 3, x.shape[-1] * 3 // 4, (), generator=generator))
    rows = torch.rand(len(x), generator=generator) < 0.33
    if not rows.any():
        return x
    small = F.interpolate(x[rows], (size, size), mode="bilinear", antialias=True)
    x = x.clone()
    x[rows] = F.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)
    return x


def recolour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast, tint, greyscale and noise on `(B, 3, H, W)`."""
    count = len(x)
    gain = _uniform(generator, count, 0.65, 1.35)[:, None, None, None]
    shift = _uniform(generator, count, -0.25, 0.25)[:, None, None, None]
    tint = _uniform(generator, count * 3, -0.08, 0.08).view(count, 3, 1, 1)
    grey = (torch.rand(count, generator=generator) < 0.12)[:, None, None, None]
    x = torch.where(grey, x.mean(1, keepdim=True).expand_as(x), x)
    level = _uniform(generator, count, 0, 0.06)[:, None, None, None]
    noise = torch.randn(x.shape, generator=generator)
    return (x * gain + shift + tint + noise * level).clamp(-1, 1)


def _crops(data: Path, records: Sequence[FaceRecord], enlarge: float, y: float, pixels: int) -> Tensor:
    """uint8 `(N, 3, pixels, pixels)`: the squares of `enlarge` frames about `(0.5, y)` of the frame."""
    logger.info("reading %d photos", len(records))
    frames, store = read_frames(data), PhotoStore(data)
    out = torch.empty(len(records), 3, pixels, pixels, dtype=torch.uint8)
    for index, record in enumerate(records):
        image = store.open(record)
        frame = frames.frame(record.source, record.file, *image.size)
        down = (y - 0.5) * frame.size
        frame = frame.shifted(-math.sin(frame.angle) * down, math.cos(frame.angle) * down).enlarged(enlarge)
        out[index] = torch.from_numpy(np.array(crop(image, frame, pixels))).permute(2, 0, 1)
    return out


def start_encoder(start: Path | None, scale: float) -> FaceEncoder:
    """A fresh encoder or that of an earlier export, whose distances times `scale` are the teacher's."""
    if start is None:
        return FaceEncoder(FaceConfig(scale=scale))
    encoder = FaceEncoder.load(start).requires_grad_(True)
    encoder.config = dataclasses.replace(encoder.config, scale=scale)
    return encoder


class FaceTask:
    """Distillation of descriptors; see the file's docstring."""

    name = "face"
    shardable = False

    def __init__(self, config: FaceTrainConfig, data: Path) -> None:
        self.config = config
        teacher, hits = read_descriptors(data), read_frames(data).frames
        records = [r for r in read_records(data) if r.key in teacher and r.key in hits]
        train = [r for r in records if r.split == "train"]
        self.val = [r for r in records if r.split == "val" and r.person]
        if not train:
            raise UserError(f"{data} has no training photo in face_descriptors.npz and landmarks.npz")
        random.Random(config.seed).shuffle(train)
        train = train[: config.photos or None]
        targets = torch.from_numpy(np.stack([teacher[r.key] for r in train]))
        self.mean, self.scale = targets.mean(0), float(targets.var(0).mean().sqrt())
        self.targets = (targets - self.mean) / self.scale
        self.encoder = start_encoder(as_path(config.init), self.scale).to(memory_format=torch.channels_last)
        face = self.encoder.config
        pixels = round(face.pixels * MARGIN)
        self.faces = _crops(data, train, face.region * MARGIN, face.region_y, pixels)
        self.val_faces = _crops(data, self.val, 1.0, 0.5, 128)
        self.val_targets = np.stack([teacher[r.key] for r in self.val]) if self.val else np.zeros((0, 128))
        self.pairs, self.same = person_pairs([r.person for r in self.val], 4000)
        self.threshold: float | None = None  # measured by `evaluate`

    def modules(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def batch(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
        """Augmented face regions `(B, 3, S, S)` and their targets `(B, D)`."""
        index = torch.randint(len(self.faces), (part.rows(self.config.batch_size),), generator=part.own)
        views = augment(self.faces[index], self.encoder.config.pixels, part.own)
        return views.contiguous(memory_format=torch.channels_last), self.targets[index]

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Regression + contrast + relation, each per dimension."""
        faces, t = batch
        z = self.encoder.encode_region(faces).float()
        size = z.shape[1]
        regression = (z - t).square().mean()
        distance = torch.cdist(z, t).square() / (size * self.config.temperature)
        contrast = F.cross_entropy(-distance, torch.arange(len(z), device=z.device))
        apart = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        relation = (torch.cdist(z, z)[apart] - torch.cdist(t, t)[apart]).square().mean() / size
        loss = regression + self.config.contrast * contrast + self.config.relation * relation
        terms = {"regression": regression, "contrast": contrast, "relation": relation}
        return loss, {name: float(term.detach()) for name, term in terms.items()}

    @torch.no_grad()
    def describe(self, faces: Tensor) -> Tensor:
        """Descriptors `(N, D)` of uint8 aligned faces, in batches."""
        device = device_of(self.encoder)
        return torch.cat([self.encoder(f.to(device) / 127.5 - 1).cpu() for f in faces.split(128)])

    def evaluate(self) -> dict[str, float]:
        """On the val photos with a person: cosine to the teacher, verification of both, distances."""
        if not len(self.pairs):
            return {}
        z = self.describe(self.val_faces).numpy()
        t = (self.val_targets - self.mean.numpy()) / self.scale
        a, b = self.pairs.T
        student = np.linalg.norm(z[a] - z[b], axis=1)
        accuracy, threshold = verification(student, self.same)
        teacher, _ = verification(np.linalg.norm(t[a] - t[b], axis=1), self.same)
        norms = np.linalg.norm(z, axis=1) * np.linalg.norm(t, axis=1)
        self.threshold = round(threshold * self.scale, 4)
        return {
            "cosine": float(((z * t).sum(1) / norms).mean()),
            "verification": accuracy,
            "teacher_verification": teacher,
            "threshold": self.threshold,
            "pairs": float(len(self.same)),
        }

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """`face.safetensors` (fp16) and `face.json`, with the threshold that is best on val where there are pairs."""
        if self.threshold is None:  # a finished run that was resumed has not evaluated
            self.evaluate()
        if self.threshold is not None:
            self.encoder.config = dataclasses.replace(self.encoder.config, threshold=self.threshold)
        self.encoder.save(directory)


def build(config: FaceTrainConfig, data: Path, output: Path) -> FaceTask:
    """The task; reads every photo once."""
    torch.manual_seed(config.seed)
    return FaceTask(config, data)
