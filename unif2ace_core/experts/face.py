"""The face expert F_face(X): the embedded encoder, and which of the two kinds a folder holds.

Both take faces in the training frame (experts/align.py) and return one descriptor per face. The embedded
encoder is distilled from dlib's 128-d descriptors (train/recipes/face.py):

    aligned face -> middle two thirds -> 96 px -> ConvTower -> 1x1 -> flatten -> linear -> (B, 128)

The other kind is a recognition model of insightface (experts/insightface_model.py); `kind` in face.json says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.experts.tower import ConvTower
from unif2ace_core.timing import phase
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.parts import load_part, part_kind, save_part

if TYPE_CHECKING:
    from unif2ace_core.experts.insightface_model import InsightFaceEncoder

INSIGHTFACE = "insightface"  # the `kind` that face.json of a user's recognition model states


@dataclass(frozen=True)
class FaceConfig:
    """What an exported face encoder needs to know."""

    pixels: int = 96  # side of the network's input; a multiple of 16
    region: float = 0.66  # side of the face region, as a fraction of the training frame
    region_y: float = 0.55  # height of the region's middle in the training frame
    widths: tuple[int, ...] = (32, 64, 128)  # channels of the tower's stages
    depths: tuple[int, ...] = (2, 3, 2)  # blocks of the tower's stages
    neck: int = 32  # channels kept at each of the (pixels / 16)^2 places before the linear layer
    dimension: int = 128  # length of a descriptor
    scale: float = 0.1  # a distance of descriptors times `scale` is a distance of dlib descriptors
    threshold: float = 0.6  # dlib distance below which two photos show one person


def cut_region(images: Tensor, size: float, y: float, pixels: int) -> Tensor:
    """The square of side `size` about `(0.5, y)` (fractions) of `(B, 3, H, H)`, resized to `pixels`."""
    side = images.shape[-1]
    length = max(1, round(size * side))
    top, left = round(y * side - length / 2), round(side / 2 - length / 2)
    part = images[..., max(0, top) : top + length, max(0, left) : left + length]
    return F.interpolate(part.float(), (pixels, pixels), mode="bilinear", antialias=True)


class FaceEncoder(nn.Module):
    """Descriptors of aligned faces: every dimension has about mean 0 and variance 1 over people."""

    def __init__(self, config: FaceConfig | None = None) -> None:
        super().__init__()
        self.config = config or FaceConfig()
        places = (self.config.pixels // (4 * 2 ** (len(self.config.widths) - 1))) ** 2
        self.tower = ConvTower(self.config.widths, self.config.depths)
        self.neck = nn.Conv2d(self.config.widths[-1], self.config.neck, 1)
        self.head = nn.Linear(places * self.config.neck, self.config.dimension)

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return self.config.dimension

    def encode_region(self, faces: Tensor) -> Tensor:
        """Face regions `(B, 3, pixels, pixels)` in [-1, 1] to descriptors `(B, dimension)`."""
        return self.head(self.neck(self.tower(faces)).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Aligned faces `(B, 3, H, H)` in [-1, 1], of any size, to descriptors `(B, dimension)`."""
        config = self.config
        return self.encode_region(cut_region(images, config.region, config.region_y, config.pixels))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of descriptors `(..., D)` on dlib's scale; below `config.threshold`: one person."""
        return (a.float() - b.float()).norm(dim=-1) * self.config.scale

    def save(self, directory: Path) -> None:
        """Write `face.safetensors` in fp16 and `face.json`."""
        save_part(directory, "face", self, self.config)

    @classmethod
    def load(cls, directory: Path) -> FaceEncoder:
        """Read an exported module in fp32, frozen. Raises `UserError` where files are missing or foreign."""
        if part_kind(directory, "face", (INSIGHTFACE,)):
            raise UserError(f"{directory} names a recognition model of insightface; give an export of recipe face")
        return load_part(directory, "face", cls, FaceConfig)


def face_width(directory: Path) -> int:
    """Length of the descriptors of the expert in a folder, of either kind, without reading its weights.

    Raises:
        UserError: face.json is missing, malformed, or of an unknown kind.
    """
    if part_kind(directory, "face", (INSIGHTFACE,)):
        from unif2ace_core.experts.insightface_model import InsightFaceConfig

        return read_config(directory / "face.json", InsightFaceConfig).dimension
    return read_config(directory / "face.json", FaceConfig).dimension


@phase("weights: experts")
def load_face_expert(directory: Path) -> FaceEncoder | InsightFaceEncoder:
    """The expert in a folder, of either kind, frozen.

    Raises:
        UserError: a file is missing, damaged or foreign, or insightface is needed and not installed.
    """
    if part_kind(directory, "face", (INSIGHTFACE,)):
        from unif2ace_core.experts.insightface_model import load_insightface

        return load_insightface(directory)
    return FaceEncoder.load(directory)
