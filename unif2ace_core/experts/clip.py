"""The CLIP expert F_clip(X): an image tower trained contrastively on captions, with attribute logits as a by-product.

    image (B, 3, 128, 128) -> tower -> patches (B, 16, C) -> summary (B, C) -> projection (B, E)   contrastive space
                                                                   `-> attribute logits, age       46 categories

The summary reads the patches by position (faces are aligned, so a place means something) and joins them as one more
token of F_clip(X).

The embedded tower is trained inside open_clip's `CLIP` (recipe `clip`) and needs no open_clip to run. `OpenClipTower`
wraps any model of open_clip for the larger presets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.errors import UserError
from unif2ace_core.experts.tower import ConvTower
from unif2ace_core.weights.parts import load_part


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of the embedded CLIP expert."""

    pixels: int = 128  # side of the input
    widths: tuple[int, ...] = (32, 64, 128, 256)  # tower stages at /4, /8, /16, /32
    depths: tuple[int, ...] = (1, 2, 2, 2)  # residual blocks per stage
    neck: int = 64  # channels per patch that the summary reads
    embed: int = 128  # contrastive space

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.pixels // 2 ** (len(self.widths) + 1)) ** 2

    @property
    def feature_width(self) -> int:
        """Channels of a patch."""
        return self.widths[-1]


def attribute_slices() -> dict[str, slice]:
    """Which logits belong to which category: one for a binary one (yes), one per value otherwise."""
    found, start = {}, 0
    for attribute in SCHEMA:
        width = 1 if attribute.binary else len(attribute.values)
        found[attribute.name] = slice(start, start + width)
        start += width
    return found


ATTRIBUTE_LOGITS = max(part.stop for part in attribute_slices().values())
AGE_SCALE = 50.0  # the age output is in units of this many years


@dataclass(frozen=True)
class ClipFeatures:
    """What one pass of the tower yields."""

    tokens: Tensor  # (B, patches + 1, C): what the sequence experts read; the last one is the summary
    embedding: Tensor  # (B, E), not normalised
    attributes: Tensor  # (B, ATTRIBUTE_LOGITS)
    age: Tensor  # (B,) years


class ClipEncoder(nn.Module):
    """The embedded image tower; as open_clip's `visual` its forward yields the embedding."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = ConvTower(config.widths, config.depths)
        width = config.feature_width
        self.position = nn.Parameter(torch.zeros(config.patches, width))
        self.neck = nn.Linear(width, config.neck)
        self.summary = nn.Linear(config.patches * config.neck, width)
        self.projection = nn.Linear(width, config.embed, bias=False)
        self.attributes = nn.Linear(width, ATTRIBUTE_LOGITS + 1)

    def features(self, images: Tensor) -> ClipFeatures:
        """Images (B, 3, H, W) in [-1, 1] -> all outputs."""
        patches = self.tower(images).flatten(2).transpose(1, 2) + self.position
        summary = F.silu(self.summary(self.neck(patches).flatten(1)))
        tokens = torch.cat([patches, summary.to(patches.dtype).unsqueeze(1)], 1)
        heads = self.attributes(summary)
        return ClipFeatures(tokens, self.projection(summary), heads[:, :-1], heads[:, -1].float() * AGE_SCALE)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E)."""
        return self.features(images).embedding


def read_attributes(logits: Tensor) -> dict[str, Tensor]:
    """Attribute logits (B, ATTRIBUTE_LOGITS) -> per category probabilities (B, values), no before yes."""
    found = {}
    for name, part in attribute_slices().items():
        values = logits[:, part].float()
        if values.shape[1] == 1:
            yes = torch.sigmoid(values)
            found[name] = torch.cat([1 - yes, yes], 1)
        else:
            found[name] = values.softmax(1)
    return found


def load_clip(directory: Path) -> ClipEncoder:
    """Read the embedded tower from clip.safetensors and clip.json."""
    return load_part(directory, "clip", ClipEncoder, ClipConfig)


class OpenClipTower(nn.Module):
    """Patch features of any open_clip image tower, for presets whose CLIP expert is a published model.

    Args:
        name: open_clip architecture, for example `ViT-L-14-336`.
        weights: a local checkpoint file (safetensors) or an open_clip pretrained tag.

    Raises:
        UserError: open_clip is not installed or does not know the model.
    """

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        try:
            import open_clip
        except ImportError as error:
            raise UserError("the CLIP expert needs open_clip; run 'pip install open_clip_torch'") from error
        try:
            model = open_clip.create_model(name, pretrained=weights)
        except (RuntimeError, FileNotFoundError) as error:
            raise UserError(f"open_clip cannot load {name!r} with {weights!r}: {error}") from error
        self.visual = model.visual.eval().requires_grad_(False)

    @torch.no_grad()
    def patches(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalised as the model wants -> (B, tokens, C), penultimate layer."""
        found = self.visual.forward_intermediates(images, indices=[-2], output_fmt="NLC")
        return found["image_intermediates"][0]
