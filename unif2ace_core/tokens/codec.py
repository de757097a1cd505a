"""The image tokenizer: pixels <-> codes by lookup-free quantization (LFQ, MAGVIT-v2, arXiv 2310.05737).

    image (B, 3, 128, 128) -> encoder -> (B, bits, 8, 8) -> sign -> code = sum of 2^(bits-1-j) bit_j -> (B, 64)
    codes (B, 64) -> entries in {-1, +1}^bits -> decoder -> image

A bit is 1 where the encoder's value is > 0, channel 0 is the most significant bit, flattening is row-major: the
conventions of Show-o's MAGVIT-v2 (reference: showlab/Show-o). Encoder and decoder are not mirror images: the encoder
runs once per photo, the decoder decides how pictures look.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.experts.tower import Block, ConvTower


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the embedded codec."""

    pixels: int = 128  # side of the image
    bits: int = 13  # LFQ bits; 2^bits codes
    encoder_widths: tuple[int, ...] = (32, 64, 160)  # at /4, /8, /16
    encoder_depths: tuple[int, ...] = (1, 2, 2)
    decoder_widths: tuple[int, ...] = (192, 160, 96, 48)  # at /16, /8, /4, /2
    decoder_depths: tuple[int, ...] = (2, 3, 2, 1)
    grain: int = 0  # patterns of noise from which the decoder makes texture; 0: none (recipe `decoder` adds them)
    repair: float = 0.0  # share of expected entries in what is decoded; 0: none were learned (recipe `decoder`)

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return 2**self.bits

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        return self.pixels // 16, self.pixels // 16


def entries(codes: Tensor, bits: int) -> Tensor:
    """Codebook entries of codes: (...) int64 -> (..., bits) of -1.0 and +1.0, most significant bit first."""
    shifts = torch.arange(bits - 1, -1, -1, device=codes.device)
    return ((codes.unsqueeze(-1) >> shifts) & 1).float() * 2 - 1


def indices(values: Tensor) -> Tensor:
    """Inverse of `entries` for any real values: (..., bits) -> (...) int64; 0 counts as bit 0."""
    bits = values.shape[-1]
    powers = 2 ** torch.arange(bits - 1, -1, -1, device=values.device)
    return ((values > 0).long() * powers).sum(-1)


def on_grid(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Entries (B, N, bits) as the map (B, bits, h, w) that decoders take."""
    return values.transpose(1, 2).reshape(len(values), values.shape[-1], *grid)


class Decoder(nn.Module):
    """(B, bits, h, w) -> (B, 3, 16h, 16w); the last doubling is a pixel shuffle, which keeps full resolution cheap."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        widths = config.decoder_widths
        self.stem = nn.Conv2d(config.bits, widths[0], 3, padding=1)
        self.mix = GridMixer(widths[0], config.grid)
        stages: list[nn.Module] = []
        for index, (width, depth) in enumerate(zip(widths, config.decoder_depths, strict=True)):
            # 1x1 then pixel shuffle doubles the resolution without the checkerboard of transposed convolutions
            up = [nn.Conv2d(widths[index - 1], 4 * width, 1), nn.PixelShuffle(2)] if index else []
            stages.append(nn.Sequential(*up, *(Block(width) for _ in range(depth))))
        self.stages = nn.ModuleList(stages)
        self.grains = nn.ModuleList(_grain(config, width, 2**index) for index, width in enumerate(widths))
        self.norm = nn.GroupNorm(8, widths[-1])
        self.head = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        x = self.mix(self.stem(values))
        for stage, grain in zip(self.stages, self.grains, strict=True):
            x = grain(stage(x))
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), 2)


def _grain(config: CodecConfig, width: int, scale: int) -> nn.Module:
    """The grain of a stage whose map is `scale` times the codes' grid; the first stage, a map of codes, has none."""
    if not config.grain or scale == 1:
        return nn.Identity()
    rows, columns = config.grid
    return Grain(width, config.grain, (scale * rows, scale * columns))


class Grain(nn.Module):
    """Noise injection: adds to each channel of a map as much as was learned, the same noise in every picture.

    Doubling the resolution of a smooth map gives texture that repeats every few pixels and no other; hair needs what
    repeats nowhere (StyleGAN, Karras et al., 2019, arXiv:1812.04948, section 3.2). As it is fixed, codes give one
    picture.
    """

    GAIN = 8.0  # amounts move so many times as far in a step as other weights

    def __init__(self, width: int, patterns: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(1, patterns, *size))
        self.amounts = nn.Conv2d(patterns, width, 1, bias=False)
        nn.init.zeros_(self.amounts.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x + self.GAIN * self.amounts(self.noise)


class GridMixer(nn.Module):
    """One linear map over all grid positions per channel group: every code sees the whole face at little cost."""

    def __init__(self, width: int, grid: tuple[int, int], groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.GroupNorm(8, width)
        self.weight = nn.Parameter(torch.zeros(groups, grid[0] * grid[1], grid[0] * grid[1]))
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).reshape(b, self.groups, c // self.groups, h * w)
        return x + self.out(torch.einsum("bgcn,gnm->bgcm", tokens, self.weight).reshape(b, c, h, w))


class Codec(nn.Module):
    """Encoder, LFQ and decoder. Images are in [-1, 1]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvTower(config.encoder_widths, config.encoder_depths)
        self.encoder_mix = GridMixer(config.encoder_widths[-1], config.grid)
        self.to_bits = nn.Conv2d(config.encoder_widths[-1], config.bits, 1)
        self.decoder = Decoder(config)

    def project(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> values before quantization (B, bits, h, w)."""
        return self.to_bits(self.encoder_mix(self.encoder(images)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> codes (B, N) int64."""
        return indices(self.project(images).flatten(2).transpose(1, 2))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, N) -> images (B, 3, H, W) clamped to [-1, 1]."""
        return self.decode_entries(entries(codes, self.config.bits))

    @torch.no_grad()
    def decode_entries(self, values: Tensor) -> Tensor:
        """As `decode`, of entries (B, N, bits) or means of them."""
        return self.decoder(on_grid(values, self.config.grid).to(self.to_bits.weight.dtype)).clamp(-1, 1)


def quantize(values: Tensor) -> Tensor:
    """Sign with the straight-through gradient; 0 counts as -1. Shape is kept."""
    hard = torch.where(values > 0, 1.0, -1.0).to(values.dtype)
    return values + (hard - values).detach()


def entropy_terms(values: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """LFQ's entropies in nats: mean entropy of a code, and entropy of the mean code distribution.

    With p(code | z) proportional to exp(-|z - entry|^2 / (2 temperature)) the bits are independent given z, so the
    first is a sum over bits; the second needs the joint and is over (n, bits) values as given (subsample beforehand).

    Args:
        values: (n, bits) encoder outputs.
    """
    log_p = F.logsigmoid(2 * values / temperature)  # of bit 1
    log_q = F.logsigmoid(-2 * values / temperature)
    per_code = -(log_p.exp() * log_p + log_q.exp() * log_q).sum(-1).mean()
    table = entries(torch.arange(2 ** values.shape[-1], device=values.device), values.shape[-1])
    joint = torch.softmax(values @ table.t() / temperature, -1).mean(0)
    return per_code, -(joint * (joint + 1e-9).log()).sum()


def to_image_tensor(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """[-1, 1] (B, 3, H, W) -> uint8 (B, H, W, 3), rounded."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
