"""The face experts of F(X): the embedded encoder and an adapter for insightface recognition models.

Both take faces in the training frame (experts/align.py) and return one descriptor per face. The embedded
encoder is distilled from dlib's 128-d descriptors (train/recipes/face.py):

    aligned face -> middle two thirds -> 96 px -> ConvTower -> 1x1 -> flatten -> linear -> (B, 128)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.experts.tower import ConvTower
from unif2ace_core.weights.parts import load_part, save_part


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
        return load_part(directory, "face", cls, FaceConfig)


class InsightFaceEncoder(nn.Module):
    """Any recognition model of insightface (for example AntelopeV2's glintr100), from the user's ONNX file.

    Nothing of it is bundled. The training frame is mapped to the five-point template of ArcFace: its eyes are
    31.5% of the width apart at 46.1% of the height, so it is the square of side 0.795 about y = 0.511.
    """

    region, region_y = 0.795, 0.511

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist; give the .onnx file of an insightface recognition model")
        try:
            from insightface.model_zoo import get_model
        except ImportError as error:
            raise UserError("insightface is missing; run: pip install insightface onnxruntime") from error
        try:
            self.model = get_model(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own kinds, which are not exported
            raise UserError(f"{path} cannot be read by insightface ({error}); give its .onnx file") from error
        if getattr(self.model, "taskname", None) != "recognition":
            raise UserError(f"{path} is not a recognition model; give for example glintr100.onnx")
        self.model.prepare(ctx_id=-1)
        self.pixels, self.dimension = int(self.model.input_size[0]), int(self.model.output_shape[-1])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Aligned faces `(B, 3, H, H)` RGB in [-1, 1] to descriptors of unit length `(B, dimension)`."""
        cut = cut_region(images, self.region, self.region_y, self.pixels).clamp(-1, 1)
        bytes_ = ((cut + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        found = self.model.get_feat([face[..., ::-1] for face in bytes_])  # insightface counts in BGR
        return F.normalize(torch.from_numpy(found).float(), dim=-1).to(images.device)
