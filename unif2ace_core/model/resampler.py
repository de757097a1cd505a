"""The resampler S: expert features of any length and width become one vector per image position (paper, section 3.3).

    S(F) = P_layer [ attention(queries (N, d_r); keys and values from LN(F)) ]

Queries and q/k/v are shared by all layers, the output projection P is the layer's own: each forward that holds an image
span costs one attention an image, plus one product per MoE layer. Answer tokens after the image cost nothing more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 4


class Resampler(nn.Module):
    """Learned queries attend over LN(F); the layer's projection is applied elsewhere."""

    def __init__(self, positions: int, width: int, feature_width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(positions, width) * 0.02)
        self.norm = nn.LayerNorm(feature_width)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(feature_width, width, bias=False)
        self.v = nn.Linear(feature_width, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """F (B, T, d_F) -> (B, N, d_r)."""
        b = len(features)
        h = self.norm(features)
        q = self.q(self.queries).expand(b, -1, -1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, self.k(h), self.v(h)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
