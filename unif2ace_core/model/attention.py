"""Multi-head attention with per-head layer norm on queries and keys and partial rotary embedding (as in Show-o).

Reference: showlab/Show-o, models/phi.py (interface only); rotary on the first dimensions of a head, half-split pairing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.model.cache import LayerCache

ROTARY_BASE = 10000.0


def rotary_angles(positions: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, L, dimensions / 2) in fp32 for positions (B, L)."""
    exponents = torch.arange(0, dimensions, 2, device=positions.device, dtype=torch.float32) / dimensions
    angles = positions[:, None, :, None].float() * ROTARY_BASE**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the leading dimensions of x (B, H, L, d); pairs are (i, i + half)."""
    half = cos.shape[-1]
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q (B, H, L, d), k and v (B, H, Lk, d), mask (B, 1, L, Lk) bool -> (B, H, L, d).

    Written out for training on CPU, where the fused kernel's backward pass in bf16 takes about four times as long.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Self-attention; the mask says who sees whom."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.rotary = config.heads, config.rotary
        head = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.q_norm, self.k_norm = (nn.LayerNorm(head, eps=config.norm_eps) for _ in range(2))

    def forward(
        self, h: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache | None = None
    ) -> Tensor:
        """h (B, L, D), mask (B, 1, L, Lk) bool or None for all-visible -> (B, L, D).

        With a cache, keys and values of earlier positions stand before the new ones; Lk counts both.
        """
        b, length, width = h.shape
        q, k, v = self.qkv(h).view(b, length, 3 * self.heads, -1).transpose(1, 2).chunk(3, 1)
        # queries and keys turn together: on one token the number of operations is what takes time
        q, k = rotate(torch.cat([self.q_norm(q), self.k_norm(k)], 1), *angles).chunk(2, 1)
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = attend(q, k.to(q.dtype), v.to(q.dtype), mask)
        return self.out(mixed.transpose(1, 2).reshape(b, length, width))
