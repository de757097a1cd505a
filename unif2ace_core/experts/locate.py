"""Finds faces in arbitrary photos: off-centre, small, tilted, several.

A small fully convolutional network looks at the photo at two sizes and then once more, closely, at every
face it found:

    photo -> 160 px long side --.
          -> 448 px long side --+-> cells of 8 px: score, centre, size, angle -> merge -> coarse frames
    2.2x crop about each frame --> 160 px -> the same network -> refined frame and score

Per cell the network gives six numbers: a face's log-odds; the way from the cell to the frame's
centre, in frame sizes; the log of the frame's size in 32 px; cos and sin of its angle.
The geometry is in experts/align.py, the training scenes in train/scenes.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unif2ace_core.experts.align import Frame, crop
from unif2ace_core.timing import phase
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.weights.parts import load_part, save_part

STRIDE = 8  # pixels of the network's input per cell
UNIT = 32.0  # pixels; sizes are predicted as log(size / UNIT)
OUTPUTS = 6  # score, dx, dy, log size, cos, sin


@dataclass(frozen=True)
class LocatorConfig:
    """What an exported locator needs to know."""

    pixels: int = 160  # long side of the coarse view and side of the close-up
    scales: tuple[int, ...] = (160, 448)  # long sides of the views in which faces are looked for
    widths: tuple[int, ...] = (32, 48, 64, 80)  # channels at strides 4, 8, 16, 32
    close_up: float = 2.2  # side of the close-up in frame sizes
    coarse_threshold: float = 0.25  # score from which a cell is looked at closely
    threshold: float = 0.57  # geometric mean of coarse and close-up score from which it is a face
    smallest: float = 16.0  # frames of fewer pixels of the photo are too small to be of use
    most: int = 24  # faces looked at closely in one photo


@dataclass(frozen=True)
class Face:
    """A face in a photo: its training frame in pixels of the photo, and the locator's score in 0..1."""

    frame: Frame
    score: float


class _Block(nn.Module):
    """Residual block of two 3x3 convolutions; batch norm, so that a view's size changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))))


def _join(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride) // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class LocatorNetwork(nn.Module):
    """Down to stride 32 and back up to stride 8: `(B, 3, H, W)` in [-1, 1] -> `(B, 6, H/8, W/8)`."""

    def __init__(self, widths: Sequence[int] = (32, 48, 64, 80)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = _join(3, a, 8, 4)
        self.down4, self.down8 = _Block(a), nn.Sequential(_join(a, b, 2, 2), _Block(b))
        self.down16 = nn.Sequential(_join(b, c, 2, 2), _Block(c))
        self.down32 = nn.Sequential(_join(c, d, 2, 2), _Block(d))
        self.up16, self.up8 = _join(d, c, 1, 1), _join(c, b, 1, 1)
        self.mix16, self.mix8 = _join(c, c, 1, 1), _Block(b)
        self.head = nn.Conv2d(b, OUTPUTS, 1)
        self.head.bias = nn.Parameter(torch.tensor([-4.0, 0, 0, 0, 1, 0]))  # few cells are faces

    def forward(self, images: Tensor) -> Tensor:
        """`H` and `W` are multiples of 32."""
        x8 = self.down8(self.down4(F.silu(self.stem(images))))
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        x16 = F.silu(self.mix16(x16 + F.interpolate(self.up16(x32), scale_factor=2.0)))
        x8 = self.mix8(x8 + F.interpolate(self.up8(x16), scale_factor=2.0))
        return self.head(x8)


def read_cells(outputs: Tensor) -> Tensor:
    """Network outputs `(B, 6, h, w)` as `(B, h * w, 5)`: score 0..1, cx, cy, size in input pixels, angle."""
    height, width = outputs.shape[2:]
    score, dx, dy, log_size, cos, sin = outputs.float().flatten(2).unbind(1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = ((v.flatten().to(outputs.device) + 0.5) * STRIDE for v in (x, y))
    size = UNIT * log_size.clamp(-3, 4).exp()
    return torch.stack([score.sigmoid(), x + dx * size, y + dy * size, size, torch.atan2(sin, cos)], -1)


def peaks(cells: np.ndarray, threshold: float) -> list[Face]:
    """Clusters cells `(n, 5)` of one view into faces, best first.

    Cells that mean about the same frame as the best one left are averaged, weighted by their scores.
    """
    cells = cells[cells[:, 0] >= threshold]
    cells = cells[np.argsort(-cells[:, 0], kind="stable")]
    found: list[Face] = []
    while len(cells):
        best = cells[0]
        away = np.hypot(cells[:, 1] - best[1], cells[:, 2] - best[2])
        same = away < 0.35 * np.maximum(best[3], cells[:, 3])
        voters = cells[same & (cells[:, 0] > 0.6 * best[0]) & (np.abs(np.log(cells[:, 3] / best[3])) < 0.4)]
        weight = voters[:, 0] ** 2 / (voters[:, 0] ** 2).sum()
        angle = math.atan2(weight @ np.sin(voters[:, 4]), weight @ np.cos(voters[:, 4]))
        size = math.exp(weight @ np.log(voters[:, 3]))
        frame = Frame(float(weight @ voters[:, 1]), float(weight @ voters[:, 2]), size, angle)
        found.append(Face(frame, float(best[0])))
        cells = cells[~same]
    return found


def distinct(faces: Sequence[Face]) -> list[Face]:
    """Keeps the best of faces that lie on one another (nearer than 0.35 of the larger frame)."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_apart(face.frame, other.frame) for other in kept):
            kept.append(face)
    return kept


def _apart(a: Frame, b: Frame) -> bool:
    return math.hypot(a.cx - b.cx, a.cy - b.cy) >= 0.35 * max(a.size, b.size)


def to_input(images: Sequence[Image.Image]) -> Tensor:
    """RGB images of one size as `(B, 3, H, W)` in [-1, 1], padded with grey to multiples of 32."""
    array = np.stack([np.asarray(image) for image in images])
    tensor = to_image_tensor(torch.from_numpy(array))
    return F.pad(tensor, (0, -tensor.shape[3] % 32, 0, -tensor.shape[2] % 32))


class Locator(nn.Module):
    """The network with what turns its cells into frames."""

    def __init__(self, config: LocatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or LocatorConfig()
        self.network = LocatorNetwork(self.config.widths)

    def find(self, image: Image.Image) -> list[Face]:
        """All faces of a photo of any size, the largest first; empty where there is none."""
        image = image.convert("RGB")
        coarse = distinct([face for side in self._sides(image) for face in self._view(image, side)])
        fine = self.refine(image, coarse[: self.config.most])
        return sorted(distinct(fine), key=lambda f: -f.frame.size)

    def _sides(self, image: Image.Image) -> list[int]:
        """Long sides of the views: the smallest always, larger ones as far as the photo has the pixels."""
        longest, scales = max(image.size), sorted(self.config.scales)
        return scales[:1] + [min(s, longest) for s in scales[1:] if longest > 1.5 * scales[0]]

    @torch.no_grad()
    def _cells(self, images: Sequence[Image.Image]) -> np.ndarray:
        device = self.network.head.weight.device
        return read_cells(self.network(to_input(images).to(device))).cpu().numpy()

    def _view(self, image: Image.Image, side: int) -> list[Face]:
        """Faces in the view whose long side has `side` pixels, in pixels of the photo."""
        factor = side / max(image.size)
        width, height = (max(8, round(v * factor)) for v in image.size)
        view = image.resize((width, height), Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC)
        found = peaks(self._cells([view])[0], self.config.coarse_threshold)
        return [Face(f.frame.scaled(1 / factor), f.score) for f in found]

    def refine(self, image: Image.Image, faces: Sequence[Face]) -> list[Face]:
        """Looks at each face closely and drops what is none; the score is the mean of both looks."""
        side = self.config.pixels
        refined: list[Face | None] = []
        views = [face.frame.enlarged(self.config.close_up) for face in faces]
        for start in range(0, len(views), 8):
            part = views[start : start + 8]
            for view, cells in zip(part, self._cells([crop(image, v, side) for v in part]), strict=True):
                expected = side / self.config.close_up
                found = [f for f in peaks(cells, 0.1) if _near(f.frame, side, expected)]
                best = max(found, key=lambda f: f.score, default=None)
                refined.append(best and Face(view.compose(best.frame, side), best.score))
        both = [Face(f.frame, math.sqrt(f.score * c.score)) for f, c in zip(refined, faces, strict=True) if f]
        least, smallest = self.config.threshold, self.config.smallest
        return [face for face in both if face.score >= least and face.frame.size >= smallest]

    def save(self, directory: Path) -> None:
        """Write `locator.safetensors` in fp16 and `locator.json`."""
        save_part(directory, "locator", self, self.config)

    @classmethod
    @phase("weights: experts")
    def load(cls, directory: Path) -> Locator:
        """Read an exported module in fp32, frozen. Raises `UserError` where files are missing or foreign."""
        return load_part(directory, "locator", cls, LocatorConfig)


def _near(frame: Frame, side: int, expected: float) -> bool:
    """Whether a frame found in a close-up can be the one that the close-up was made for."""
    off = math.hypot(frame.cx - side / 2, frame.cy - side / 2)
    return off < 0.5 * expected and 0.45 < frame.size / expected < 2.2
