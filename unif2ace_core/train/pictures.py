"""Losses of pictures: pixels, features of a frozen tower, and a critic that tells them from photos.

A restored picture is held against its photo by pixels, by the differences of neighbours, and by the maps of the CLIP
expert's tower, which knows glasses and smiles. Where there is no photo to hold it against, a critic judges
(Goodfellow et al., 2014): its own convolutions see patches sharply, and heads on the frozen tower's coarse maps
(Sauer et al., 2021, arXiv:2111.01007) see the whole face softly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from unif2ace_core.evaluate.metrics import psnr
from unif2ace_core.experts.tower import ConvTower
from unif2ace_core.tokens.codec import Codec, to_image_tensor
from unif2ace_core.train.processes import device_of

_FACE_SPREAD = 0.2  # standard deviation of the face's place, in sides of the frame
CRITIC_WIDTHS = (32, 64, 128)  # channels of the critic's layers, each of half the resolution
HEAD_WIDTH = 64  # channels of its heads on the tower's maps
COARSE = 2  # of the tower's maps, the last so many have heads
GAIN = 4.0  # its verdicts move so many times as far in a step, lest the decoder outruns it
SHIFT = 8  # pixels
BATCH = 64  # photos restored at once


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


@torch.inference_mode()
def restoration(codec: Codec, photos: np.ndarray) -> tuple[Tensor, Tensor]:
    """PSNR (n,) in dB of photos (n, P, P, 3) uint8 from their codes alone, and these (n, N)."""
    errors, seen = [], []
    for part in torch.from_numpy(np.array(photos)).split(BATCH):
        target = to_image_tensor(part).to(device_of(codec))
        codes = codec.encode(target)
        errors.append(psnr(codec.decode(codes), target))
        seen.append(codes)
    return torch.cat(errors), torch.cat(seen)


def feature_distance(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance (B,) of channel-normalised maps (B, C, h, w), over all of them."""
    apart = [(_unit(a) - _unit(b)).square().sum(1).mean((1, 2)) for a, b in zip(maps, wanted, strict=True)]
    return torch.stack(apart).mean(0)


def _unit(features: Tensor) -> Tensor:
    """Features scaled to unit length along channels."""
    return features.float() / (features.float().square().sum(1, keepdim=True) + 1e-6).sqrt()


class Critic(nn.Module):
    """Verdicts on pictures: by patches (PatchGAN, Isola et al., 2017), and by heads on a frozen tower's coarse maps."""

    def __init__(self, widths: Sequence[int] = ()) -> None:
        """`widths` of all of the tower's maps; none without a tower."""
        super().__init__()
        # windows overlap: a critic of patches side by side lets through, even asks for, a grid of them
        layers = [_layer(a, b, 4, 2) for a, b in pairwise((3, *CRITIC_WIDTHS))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(CRITIC_WIDTHS[-1], 1, 3, padding=1))
        self.heads = nn.ModuleList(
            nn.Sequential(_layer(width, HEAD_WIDTH, 1), _layer(HEAD_WIDTH, HEAD_WIDTH, 3), nn.Conv2d(HEAD_WIDTH, 1, 1))
            for width in widths[-COARSE:]
        )

    def forward(self, images: Tensor, maps: Sequence[Tensor] = ()) -> list[Tensor]:
        """Pictures (B, 3, H, W) and the tower's maps of them, softened -> verdicts (B, 1, h, w), above 0 for photos."""
        seen = zip(self.heads, maps[-COARSE:], strict=True)
        return [GAIN * verdict for verdict in (self.layers(images), *(head(m) for head, m in seen))]


def _layer(width: int, wider: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution, its normalisation and nonlinearity."""
    convolution = nn.Conv2d(width, wider, kernel, stride=stride, padding=(kernel - 1) // 2)
    return nn.Sequential(convolution, nn.GroupNorm(8, wider), nn.LeakyReLU(0.2))


def softened(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) blurred by about 1.4 pixels.

    The tower sees patches of 4 pixels side by side, and a picture made to please it sharply is woven of them: at
    that period 4% is left, so whoever looks through this cannot ask for it.
    """
    for _ in range(3):
        images = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) moved by up to SHIFT pixels, all alike, mirrored at the border.

    What looks at them in strides then has no places of its own, at which a picture could please it alone.
    """
    dy, dx = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    h, w = images.shape[-2:]
    return F.pad(images, (SHIFT,) * 4, mode="reflect")[:, :, dy : dy + h, dx : dx + w]


def adversarial_terms(
    critic: Critic, real: Tensor, fake: Tensor, real_maps: Sequence[Tensor] = (), fake_maps: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """The critic's hinge loss, and the decoder's, to which the critic is constant: one optimizer serves both.

    Args:
        critic: what judges.
        real: photos (B, 3, H, W).
        fake: pictures, with their graph.
        real_maps: the tower's maps of the photos, softened, for a critic with heads.
        fake_maps: of the pictures, with their graph.
    """
    seen = critic(real, real_maps), critic(fake.detach(), [m.detach() for m in fake_maps])
    hinges = [0.5 * (F.relu(1 - r).mean() + F.relu(1 + f).mean()) for r, f in zip(*seen, strict=True)]
    constants = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = functional_call(critic, constants, (fake, fake_maps))
    return torch.stack(hinges).mean(), -torch.stack([verdict.float().mean() for verdict in fooled]).mean()
