"""Key-value cache: what earlier positions leave for later ones.

T2I: the text prefix never changes between denoising steps, so it is computed once and the cache is then read only.
MMU: the prompt is computed once, then the cache grows by each answer token.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """Keys and values (B, H, L, d) of one layer."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.frozen = False  # a frozen cache is read, not extended

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Cached and new keys and values together; remembers them unless frozen."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        if not self.frozen:
            self.keys, self.values = keys, values
        return keys, values


class KeyValueCache:
    """One `LayerCache` per layer."""

    def __init__(self, layers: int) -> None:
        self.layers = [LayerCache() for _ in range(layers)]

    def __len__(self) -> int:
        """Cached positions."""
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[2]

    def freeze(self) -> KeyValueCache:
        """Make it read only; returns itself."""
        for layer in self.layers:
            layer.frozen = True
        return self
