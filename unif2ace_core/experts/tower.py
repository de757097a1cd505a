"""A small convolutional tower, shared by the embedded experts and the perceptual loss.

image (B, 3, H, W) -> stem /4 -> stage 1 -> /2 -> stage 2 -> /2 -> stage 3 ... -> map (B, C, H/16, W/16)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def resized(images: Tensor, side: int) -> Tensor:
    """Square images (B, 3, H, H) at another side; as they are where they have it."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)


class Block(nn.Module):
    """Pre-norm residual block of two 3x3 convolutions. Shape is kept: (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)  # each block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class ConvTower(nn.Module):
    """Images in [-1, 1] to a feature map at a sixteenth of the resolution (with three widths)."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128), depths: Sequence[int] = (1, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 4, stride=4)
        stages: list[nn.Module] = []
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            down = [nn.Conv2d(widths[index - 1], width, 2, stride=2)] if index else []
            stages.append(nn.Sequential(*down, *(Block(width) for _ in range(depth))))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.GroupNorm(8, widths[-1])

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps after every stage, finest first; the last one is normalised."""
        x, found = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return [*found[:-1], F.silu(self.norm(x))]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[-1], H / 4 / 2^(stages-1), ...)."""
        return self.maps(images)[-1]
