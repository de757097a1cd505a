"""What pictures are held against: pixels, features of a frozen tower, photos' spectrum, and a critic.

A restored picture is held against its photo by pixels, by the differences of neighbours, and by the maps of the CLIP
expert's tower, which knows glasses and smiles. Where there is no photo to hold it against, a critic judges
(Goodfellow et al., 2014), by patches of several sizes, and no pattern may repeat every 8 pixels or oftener.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
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
SCALES = (1, 2, 4)  # the critic looks at pictures this many times as small; patches are of 38 pixels there
GAIN = 4.0  # its verdicts move so many times as far in a step, lest the decoder outruns it
SHIFT = 8  # pixels
WINDOW = 64  # pixels a side in which frequencies are told apart
PERIOD = 8  # pixels: patterns are looked for that repeat so often, or a whole number of times in it
LEAK = 2  # frequencies to the next that a pattern does not leak into through the window
MARGIN = 0.2  # nats by which a few pictures may be above photos by chance
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
def reconstruction(codec: Codec, photos: np.ndarray) -> tuple[Tensor, Tensor]:
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
    """Verdicts on patches of pictures (PatchGAN, Isola et al., 2017) of several sizes (Wang et al., 2018).

    Small patches tell skin and hair, large ones whole faces (arXiv:1711.11585, section 3.2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_patches() for _ in SCALES)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures (B, 3, H, W) -> verdicts (B, 1, H/8/s, W/8/s) for each scale s, above 0 for photos."""
        seen = zip(self.scales, SCALES, strict=True)
        return [GAIN * layers(F.avg_pool2d(images, scale)) for layers, scale in seen]


def _patches() -> nn.Module:
    """Layers that judge patches of 38 pixels; they overlap, else they would ask for a grid of them."""
    layers: list[nn.Module] = []
    for width, wider in pairwise((3, *CRITIC_WIDTHS)):
        convolution = nn.Conv2d(width, wider, 4, stride=2, padding=1)
        layers += [convolution, nn.GroupNorm(8, wider), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(CRITIC_WIDTHS[-1], 1, 3, padding=1))


def power_spectrum(images: Tensor) -> Tensor:
    """Mean power (side, side) of frequencies of the brightness of images (B, 3, H, W), in windows of `side`."""
    side = min(WINDOW, *images.shape[-2:])
    fade = torch.hann_window(side, device=images.device)
    windows = images.float().mean(1).unfold(1, side, side // 2).unfold(2, side, side // 2)
    centred = windows - windows.mean((-2, -1), keepdim=True)
    return torch.fft.fft2(centred * fade * fade[:, None]).abs().square().mean((0, 1, 2))


def spectral_excess(images: Tensor, photos: Tensor) -> Tensor:
    """By how much patterns stand out more in images (B, 3, H, W) than in photos, mean over their frequencies, in nats.

    Patterns are what repeats every `PERIOD` pixels, or a whole number of times in them.

    A frequency is held against those around it, for pictures may be louder than photos, or smoother, on the whole; and
    that against photos, whose `power_spectrum` is given. Doubling the resolution leaves patterns that repeat every few
    pixels, which a critic of patches is slow to resent (Durall et al., 2020, arXiv:2003.01826).
    """
    ratio = (power_spectrum(images) + 1e-8).log() - (photos.to(images.device) + 1e-8).log()
    ways = [way for way in product((-LEAK, 0, LEAK), repeat=2) if any(way)]
    around = torch.stack([ratio.roll(way, (0, 1)) for way in ways]).mean(0)
    step = max(1, len(ratio) // PERIOD)
    # Pictures shall lose the pattern, not get noise beside it. Of the mean brightness there is nothing to say.
    above = (ratio - around.detach())[::step, ::step].flatten()[1:]
    return F.relu(above - MARGIN).mean()


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
    seen = zip(critic(real), critic(fake.detach()), strict=True)
    hinges = [0.5 * (F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean()) for r, f in seen]
    constants = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = functional_call(critic, constants, (fake,))
    return torch.stack(hinges).mean(), -torch.stack([verdict.float().mean() for verdict in fooled]).mean()
