"""Losses of pictures: pixels, features of a frozen tower, and a critic that tells them from photos.

A restored picture is held against its photo by pixels, by the differences of neighbours, and by the maps of the CLIP
expert's tower, which knows glasses and smiles. Where there is no photo to hold it against, a critic judges
(Goodfellow et al., 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from unif2ace_core.experts.tower import ConvTower

_FACE_SPREAD = 0.2  # standard deviation of the face's place, in sides of the frame
CRITIC_WIDTHS = (32, 64, 128)  # channels of the critic's layers, each of half the resolution
GAIN = 4.0  # its verdicts move so many times as far in a step, lest the decoder outruns it
SHIFT = 8  # pixels


def centre_weights(pixels: int, ratio: float) -> Tensor:
    """(pixels, pixels) of mean 1: a Gaussian bump on the face, `ratio` times as high as the border."""
    distance = (torch.arange(pixels) + 0.5) / pixels - 0.5
    bump = torch.exp(-(distance / _FACE_SPREAD).square() / 2)
    weight = 1 + (ratio - 1) * bump[:, None] * bump
    return weight / weight.mean()


def pixel_terms(restored: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted L1 (B,) on pixels, and on horizontal and vertical differences; weight is (H, W)."""
    weight, error = weight.to(target.device), restored - target
    dx = (error.diff(dim=3).abs() * weight[:, 1:]).mean((1, 2, 3))
    dy = (error.diff(dim=2).abs() * weight[1:]).mean((1, 2, 3))
    return (error.abs() * weight).mean((1, 2, 3)), dx + dy


def perceptual_tower(directory: Path) -> ConvTower:
    """The frozen image tower of a clip export."""
    from unif2ace_core.experts.clip import load_clip

    tower = load_clip(directory).tower
    return tower.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def feature_distance(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance (B,) of channel-normalised maps (B, C, h, w), over all of them."""
    apart = [(_unit(a) - _unit(b)).square().sum(1).mean((1, 2)) for a, b in zip(maps, wanted, strict=True)]
    return torch.stack(apart).mean(0)


def _unit(features: Tensor) -> Tensor:
    """Features scaled to unit length along channels."""
    return features.float() / (features.float().square().sum(1, keepdim=True) + 1e-6).sqrt()


class Critic(nn.Module):
    """Verdicts on patches of pictures (PatchGAN, Isola et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        # windows overlap: a critic of patches side by side lets through, even asks for, a grid of them
        layers = [_layer(a, b) for a, b in pairwise((3, *CRITIC_WIDTHS))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(CRITIC_WIDTHS[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> verdicts (B, 1, H/8, W/8), above 0 for photos."""
        return GAIN * self.layers(images)


def _layer(width: int, wider: int) -> nn.Module:
    """A convolution to half the resolution, its normalisation and nonlinearity."""
    convolution = nn.Conv2d(width, wider, 4, stride=2, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, wider), nn.LeakyReLU(0.2))


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) moved by up to SHIFT pixels, all alike, mirrored at the border.

    What looks at them in strides then has no places of its own, at which a picture could please it alone.
    """
    dy, dx = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    h, w = images.shape[-2:]
    return F.pad(images, (SHIFT,) * 4, mode="reflect")[:, :, dy : dy + h, dx : dx + w]


def adversarial_terms(critic: Critic, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The critic's hinge loss, and the decoder's, to which the critic is constant: one optimizer serves both.

    Args:
        critic: what judges.
        real: photos (B, 3, H, W).
        fake: pictures, with their graph.
    """
    own = 0.5 * (F.relu(1 - critic(real)).mean() + F.relu(1 + critic(fake.detach())).mean())
    constants = {name: value.detach() for name, value in critic.named_parameters()}
    return own, -functional_call(critic, constants, (fake,)).float().mean()
