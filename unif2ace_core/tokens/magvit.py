"""MAGVIT-v2 as Show-o uses it: the image tokenizer at full size (13 bits, 16 times smaller grid, 95 M parameters).

    image (B, 3, H, W) -> encoder -> (B, bits, H/16, W/16) -> sign -> codes (B, N), row-major
    codes (B, N) -> entries in {-1, +1}^bits -> decoder -> image

    encoder   conv_in, levels 0..4 of residual blocks with a halving between levels, mid, conv_out, quant_conv
    decoder   post_quant_conv, conv_in, mid, levels 4..0 with a doubling between levels, conv_out
    mid       residual block, attention over all positions, residual block

Paper: arXiv 2310.05737. Bits, order and state-dict keys are those of the checkpoint that Show-o publishes (reference:
showlab/Show-o): its tensors load one to one, without the two buffers `quantize.embedding` and `quantize.power_vals`,
which are the table of `entries` and the powers of two of `indices`. Any image whose sides are multiples of the
downsampling factor has codes; encoder and decoder are not mirror images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.tokens.codec import entries, indices, on_grid

KIND = "magvit-v2"  # the `kind` that codec.json states
EPS = 1e-6  # of the group norms


@dataclass(frozen=True)
class MagvitConfig:
    """Sizes; the published codec is the default. Levels are counted from full resolution (0) down."""

    kind: str = KIND  # tells codec.json of this codec from that of the embedded one
    pixels: int = 256  # side of the image
    bits: int = 13  # LFQ bits; 2^bits codes
    channels: int = 128  # at multiplier 1
    groups: int = 32  # of every norm; divides all widths
    encoder_multipliers: tuple[int, ...] = (1, 2, 2, 4, 4)  # channels per level
    encoder_blocks: tuple[int, ...] = (4, 3, 4, 3, 4)  # residual blocks per level
    decoder_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_blocks: tuple[int, ...] = (4, 4, 3, 4, 3)

    def __post_init__(self) -> None:
        """Raise `ValueError` for sizes that no codec can have."""
        levels = (self.encoder_multipliers, self.encoder_blocks, self.decoder_multipliers, self.decoder_blocks)
        if len({len(level) for level in levels}) != 1 or min(map(min, levels), default=0) < 1:
            raise ValueError(f"multipliers and blocks per level are {levels}")
        if self.kind != KIND or not 1 <= self.bits <= 62 or min(self.channels, self.groups) < 1:
            raise ValueError(f"kind {self.kind!r}, bits {self.bits}, channels {self.channels}, groups {self.groups}")
        if self.channels % self.groups:
            raise ValueError(f"channels {self.channels} are not divisible by groups {self.groups}")
        if self.pixels < 1 or self.pixels % self.factor:
            raise ValueError(f"pixels {self.pixels} are no multiple of {self.factor}")

    @property
    def factor(self) -> int:
        """Pixels per code along a side."""
        return int(2 ** (len(self.encoder_blocks) - 1))

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return int(2**self.bits)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of an image of `pixels`."""
        return self.pixels // self.factor, self.pixels // self.factor


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))) with x * sigmoid(x); a 1x1 convolution on x where widths differ."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=EPS)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if width != out:
            self.nin_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, out, h, w)."""
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttentionBlock(nn.Module):
    """One head over all positions of the map, added to x; the projections are 1x1 convolutions."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); the scale is C^-0.5."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x + self.proj_out(mixed.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Middle(nn.Module):
    """The blocks at the coarsest level."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width, groups)
        self.attn_1 = AttentionBlock(width, groups)
        self.block_2 = ResidualBlock(width, width, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Shape is kept: (B, C, h, w)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Halves the map: 3x3, stride 2, one row of zeros below and one column at the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h/2, w/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the map: nearest neighbour, then 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, and the way to the next one (absent after the last)."""

    def __init__(self, width: int, out: int, blocks: int, groups: int) -> None:
        super().__init__()
        widths = [width] + [out] * blocks
        self.block = nn.ModuleList(ResidualBlock(widths[i], out, groups) for i in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, out, h', w')."""
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class MagvitEncoder(nn.Module):
    """Image to values before quantization."""

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in (1, *config.encoder_multipliers)]
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        for i, blocks in enumerate(config.encoder_blocks):
            level = Level(widths[i], widths[i + 1], blocks, config.groups)
            if i < len(config.encoder_blocks) - 1:
                level.downsample = Downsample(widths[i + 1])
            self.down.append(level)
        self.mid = Middle(widths[-1], config.groups)
        self.norm_out = nn.GroupNorm(config.groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.bits, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.bits, config.bits, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, bits, H/factor, W/factor)."""
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        return self.quant_conv(self.conv_out(F.silu(self.norm_out(self.mid(x)))))


class MagvitDecoder(nn.Module):
    """Codebook entries to image."""

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.decoder_multipliers]
        self.post_quant_conv = nn.Conv2d(config.bits, config.bits, 1)
        self.conv_in = nn.Conv2d(config.bits, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config.groups)
        self.up = nn.ModuleList()
        for i, blocks in enumerate(config.decoder_blocks):
            level = Level([*widths, widths[-1]][i + 1], widths[i], blocks, config.groups)
            if i > 0:
                level.upsample = Upsample(widths[i])
            self.up.append(level)
        self.norm_out = nn.GroupNorm(config.groups, widths[0], eps=EPS)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """(B, bits, h, w) -> (B, 3, factor * h, factor * w)."""
        x = self.mid(self.conv_in(self.post_quant_conv(values)))
        for level in reversed(list(self.up)):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class MagvitV2(nn.Module):
    """Encoder, LFQ and decoder, used like `tokens.codec.Codec`. Images are in [-1, 1]."""

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = MagvitEncoder(config), MagvitDecoder(config)

    def project(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> values before quantization (B, bits, h, w).

        Raises:
            ValueError: a side is no multiple of the factor.
        """
        if any(side % self.config.factor for side in images.shape[-2:]):
            sides = tuple(images.shape[-2:])
            raise ValueError(f"images of {sides} pixels; crop the sides to multiples of {self.config.factor}")
        return self.encoder(images.to(self.encoder.conv_in.weight.dtype))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> codes (B, N) int64."""
        return indices(self.project(images).flatten(2).transpose(1, 2))

    @torch.no_grad()
    def decode(self, codes: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
        """Codes (B, N) -> images (B, 3, factor * h, factor * w) clamped to [-1, 1].

        Args:
            codes: ids outside 0..codes-1 are clamped to that range.
            shape: rows and columns (h, w) of the codes; the config's grid where absent.

        Raises:
            ValueError: the codes do not fill the shape.
        """
        h, w = shape or self.config.grid
        if codes.shape[1] != h * w:
            raise ValueError(f"{codes.shape[1]} codes do not fill {h} x {w}; give shape=(rows, columns)")
        return self.decode_entries(entries(codes.clamp(0, self.config.codes - 1), self.config.bits), (h, w))

    @torch.no_grad()
    def decode_entries(self, values: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
        """As `decode`, of entries (B, N, bits) or means of them, which fill the shape."""
        x = on_grid(values, shape or self.config.grid)
        return self.decoder(x.to(self.decoder.conv_in.weight.dtype)).clamp(-1, 1)
