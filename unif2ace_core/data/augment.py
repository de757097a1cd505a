"""Photo augmentation on batches of tensors: what cameras, light, crops and a slightly wrong alignment do to a face."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def jitter_geometry(
    images: Tensor, generator: torch.Generator, shift: float = 0.05, zoom: float = 0.12, degrees: float = 8
) -> Tensor:
    """Mirror half of the images; shift, zoom and turn all a little. (B, 3, H, W) -> the same shape."""
    count = len(images)
    scale = torch.exp(_uniform(count, -zoom, zoom, generator))
    angle = _uniform(count, -degrees, degrees, generator) * math.pi / 180
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    dx, dy = (2 * _uniform(count, -shift, shift, generator) for _ in range(2))
    matrix = torch.stack([torch.stack([cos * flip, -sin, dx], 1), torch.stack([sin * flip, cos, dy], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def jitter_colour(images: Tensor, generator: torch.Generator, strength: float = 0.3) -> Tensor:
    """Brightness, contrast, saturation and white balance, some images grey. Images in [-1, 1]."""
    count = len(images)
    brightness = _uniform(count, -strength, strength, generator).view(-1, 1, 1, 1)
    contrast = torch.exp(_uniform(count, -strength, strength, generator)).view(-1, 1, 1, 1)
    saturation = torch.exp(_uniform(count, -strength, strength, generator)).view(-1, 1, 1, 1)
    saturation[torch.rand(count, generator=generator) < 0.08] = 0
    balance = 1 + _uniform(count * 3, -0.06, 0.06, generator).view(-1, 3, 1, 1)
    grey = images.mean(1, keepdim=True)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = grey + (images - grey) * saturation
    return ((images * balance - mean) * contrast + mean + brightness).clamp(-1, 1)


def dim(images: Tensor, generator: torch.Generator, share: float = 0.15) -> Tensor:
    """Make a share of the images dark: pixel values, from black, times 0.2 to 0.8. Images in [-1, 1]."""
    light = _uniform(len(images), 0.2, 0.8, generator)
    light[torch.rand(len(images), generator=generator) >= share] = 1
    return (images + 1) * light.view(-1, 1, 1, 1) - 1


def degrade(images: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Make a share of the images blurred, as if scaled down to 24..64 pixels and up again."""
    for side in (24, 32, 48, 64):
        chosen = torch.rand(len(images), generator=generator) < share / 4
        if chosen.any():
            small = F.interpolate(images[chosen], size=(side, side), mode="bilinear", antialias=True)
            images[chosen] = F.interpolate(small, size=images.shape[2:], mode="bilinear")
    return images


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """All of the above, for training encoders. (B, 3, H, W) in [-1, 1] -> the same."""
    coloured = jitter_colour(jitter_geometry(images, generator), generator)
    return degrade(dim(coloured, generator), generator)
