"""The CLIP expert F_clip(X): an image tower trained contrastively on captions, with attribute logits as a by-product.

    image (B, 3, 128, 128) -> tower -> patches (B, 16, C) -> summary (B, C) -> projection (B, E)   contrastive space
                                                                   `-> attribute logits, age       46 categories

The summary reads the patches by position (faces are aligned, so a place means something) and joins them as one more
token of F_clip(X). A wider summary (recipe `reader`) joins as its evidence: what the head says, each output scaled to
unit spread over training photos. So straight hair takes as much room there as make-up, and is as easily read.

The embedded tower is trained inside open_clip's `CLIP` (recipe `clip`) and needs no open_clip to run. The other kind of
expert is a published tower of open_clip (experts/open_clip_tower.py); `kind` in clip.json says which a folder holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.errors import UserError
from unif2ace_core.experts.tower import ConvTower, resized
from unif2ace_core.timing import phase
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.parts import load_part, part_kind

if TYPE_CHECKING:
    from unif2ace_core.experts.open_clip_tower import OpenClipConfig

OPEN_CLIP = "open_clip"  # the `kind` that clip.json of a published tower states


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of the embedded CLIP expert."""

    pixels: int = 128  # side of the input
    widths: tuple[int, ...] = (32, 64, 128, 256)  # tower stages at /4, /8, /16, /32
    depths: tuple[int, ...] = (1, 2, 2, 2)  # residual blocks per stage
    neck: int = 64  # channels per patch that the summary reads
    summary: int = 0  # units of a summary whose evidence is the last token; 0: a patch's width, it is the last token
    embed: int = 128  # contrastive space

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.pixels // 2 ** (len(self.widths) + 1)) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of F_clip(X): the patches and their summary."""
        return self.patches + 1

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
    """What one pass of a tower yields; a published one knows no attributes and no age."""

    tokens: Tensor  # (B, T, C): what the sequence experts read
    embedding: Tensor  # (B, E), contrastive space, not normalised
    attributes: Tensor | None  # (B, ATTRIBUTE_LOGITS)
    age: Tensor | None  # (B,) years

    @property
    def pooled(self) -> Tensor:
        """One vector an image (B, D), to compare sets of pictures by: the mean patch beside the embedding."""
        return torch.cat([self.tokens.mean(1), self.embedding], 1)


@dataclass(frozen=True)
class LabelledFeatures(ClipFeatures):
    """What one pass of the embedded tower yields; the last token is the summary, or its evidence."""

    attributes: Tensor
    age: Tensor

    @property
    def pooled(self) -> Tensor:
        """Mean patch and last token (B, 2 C)."""
        return torch.cat([self.tokens[:, :-1].mean(1), self.tokens[:, -1]], 1)


class ClipExpert(nn.Module):
    """F_clip(X), of either kind."""

    labelled: bool = False  # whether its features have attributes and age

    def features(self, images: Tensor) -> ClipFeatures:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> all outputs."""
        raise NotImplementedError

    def seen_twice(self, images: Tensor) -> ClipFeatures:
        """As `features`, for reading photos: a tower that names attributes may look at the mirror images too."""
        return self.features(images)


class ClipEncoder(ClipExpert):
    """The embedded image tower; as open_clip's `visual` its forward yields the embedding."""

    labelled = True
    evidence_mean: Tensor  # of the head's outputs over training photos
    evidence_spread: Tensor  # their standard deviations

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = ConvTower(config.widths, config.depths)
        width = config.feature_width
        units = config.summary or width
        self.position = nn.Parameter(torch.zeros(config.patches, width))
        self.neck = nn.Linear(width, config.neck)
        self.summary = nn.Linear(config.patches * config.neck, units)
        self.projection = nn.Linear(units, config.embed, bias=False)
        self.attributes = nn.Linear(units, ATTRIBUTE_LOGITS + 1)
        self.dropout = nn.Dropout(0.0)  # of what the summary reads and of itself; recipe `reader` raises it
        if config.summary:
            if width <= ATTRIBUTE_LOGITS:
                raise ValueError(f"a token of {width} channels has no room for {ATTRIBUTE_LOGITS + 1} outputs")
            self.register_buffer("evidence_mean", torch.zeros(ATTRIBUTE_LOGITS + 1))
            self.register_buffer("evidence_spread", torch.ones(ATTRIBUTE_LOGITS + 1))

    def patches(self, images: Tensor) -> Tensor:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> patches (B, P, C)."""
        return self.tower(resized(images, self.config.pixels)).flatten(2).transpose(1, 2) + self.position

    def read(self, patches: Tensor) -> LabelledFeatures:
        """Patches (B, P, C) -> all outputs."""
        h = self.neck(patches)
        h = self.dropout(F.silu(h) if self.config.summary else h)
        summary = self.dropout(F.silu(self.summary(h.flatten(1))))
        heads = self.attributes(summary)
        last = self.evidence(heads) if self.config.summary else summary
        tokens = torch.cat([patches, last.to(patches.dtype).unsqueeze(1)], 1)
        return LabelledFeatures(tokens, self.projection(summary), heads[:, :-1], heads[:, -1].float() * AGE_SCALE)

    def evidence(self, heads: Tensor) -> Tensor:
        """Outputs of the head (B, ATTRIBUTE_LOGITS + 1) -> (B, C), zeros behind them."""
        scaled = (heads - self.evidence_mean) / self.evidence_spread
        return F.pad(scaled, (0, self.config.feature_width - scaled.shape[-1]))

    @torch.no_grad()
    def measure_evidence(self, found: Iterable[ClipFeatures]) -> None:
        """Let the evidence be of unit spread over photos of which this encoder makes these features."""
        heads = self.heads(torch.cat([each.tokens[:, -1] for each in found]))
        self.evidence_mean.copy_(heads.mean(0))
        self.evidence_spread.copy_(heads.std(0, correction=0).clamp_min(1e-3))

    def heads(self, last: Tensor) -> Tensor:
        """The last token (..., C) of F_clip(X) -> the head's outputs (..., ATTRIBUTE_LOGITS + 1), age at the end."""
        if not self.config.summary:
            return self.attributes(last)
        return last[..., : ATTRIBUTE_LOGITS + 1] * self.evidence_spread + self.evidence_mean

    def features(self, images: Tensor) -> LabelledFeatures:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> all outputs."""
        return self.read(self.patches(images))

    def seen_twice(self, images: Tensor) -> LabelledFeatures:
        """As `features`; evidence, attributes and age are means over images (B, 3, H, H) and their mirror images.

        Patches and embedding are those of the images alone, as is a last token that is no evidence, and all with it.
        """
        found = self.features(images)
        if not self.config.summary:
            return found
        mirrored = self.features(images.flip(3))
        evidence = (found.tokens[:, -1:] + mirrored.tokens[:, -1:]) / 2
        return LabelledFeatures(
            torch.cat([found.tokens[:, :-1], evidence], 1),
            found.embedding,
            (found.attributes + mirrored.attributes) / 2,
            (found.age + mirrored.age) / 2,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E)."""
        return self.features(images).embedding


def read_attributes(logits: Tensor | None) -> dict[str, Tensor]:
    """Attribute logits (B, ATTRIBUTE_LOGITS) -> probabilities (B, values) by category, no before yes; {} from None."""
    found: dict[str, Tensor] = {}
    if logits is None:
        return found
    for name, part in attribute_slices().items():
        values = logits[:, part].float()
        if values.shape[1] == 1:
            yes = torch.sigmoid(values)
            found[name] = torch.cat([1 - yes, yes], 1)
        else:
            found[name] = values.softmax(1)
    return found


def load_clip(directory: Path) -> ClipEncoder:
    """Read the embedded tower from clip.safetensors and clip.json.

    Raises:
        UserError: a file is missing, damaged, or of the other kind.
    """
    if part_kind(directory, "clip", (OPEN_CLIP,)):
        raise UserError(f"{directory} holds a published CLIP tower; give an export of recipe clip")
    return load_part(directory, "clip", ClipEncoder, ClipConfig)


def read_clip_config(directory: Path) -> ClipConfig | OpenClipConfig:
    """Sizes of the expert in a folder, of either kind, without reading its weights.

    Raises:
        UserError: clip.json is missing, malformed, or of an unknown kind.
    """
    if part_kind(directory, "clip", (OPEN_CLIP,)):
        from unif2ace_core.experts.open_clip_tower import OpenClipConfig

        return read_config(directory / "clip.json", OpenClipConfig)
    return read_config(directory / "clip.json", ClipConfig)


def clip_width(directory: Path) -> int:
    """Channels of a token of the expert in a folder, of either kind, without reading its weights."""
    return read_clip_config(directory).feature_width


@phase("weights: experts")
def load_clip_expert(directory: Path) -> ClipExpert:
    """The expert in a folder, of either kind, in fp32, frozen.

    Raises:
        UserError: a file is missing, damaged or foreign, or open_clip is needed and not installed.
    """
    if part_kind(directory, "clip", (OPEN_CLIP,)):
        from unif2ace_core.experts.open_clip_tower import OpenClipConfig, OpenClipTower

        return load_part(directory, "clip", OpenClipTower, OpenClipConfig)
    return load_clip(directory)
