"""Key-value cache: what earlier positions leave for later ones, in buffers that are written in place.

T2I: the text prefix never changes between denoising steps, so it is computed once and frozen; each step writes its
image span behind it, over the one before. MMU: the prompt is computed once, then the cache grows by each answer token.
"""

from __future__ import annotations

from torch import Tensor

ROOM = 64  # positions that a buffer grows by at least


class LayerCache:
    """Keys and values (B, H, L, d) of one layer; the buffers are made by the first ones, with `room` for more."""

    def __init__(self, room: int = 0) -> None:
        self.length, self.room = 0, room
        self.frozen = False  # a frozen cache forgets what is new as soon as it has been used
        self.keys: Tensor | None = None  # (B, H, room, d), of which `length` positions count
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Cached and new keys and values together; remembers them unless frozen."""
        end = self.length + keys.shape[2]
        if self.keys is None or self.values is None or end > self.keys.shape[2]:
            self.keys, self.values = self._grown(self.keys, keys, end), self._grown(self.values, values, end)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        if not self.frozen:
            self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grown(self, old: Tensor | None, new: Tensor, least: int) -> Tensor:
        """A buffer with what `old` holds, and room for more."""
        room = least + self.room if old is None else max(least, old.shape[2] + ROOM)
        buffer = new.new_empty(*new.shape[:2], room, new.shape[3])
        if old is not None:
            buffer[:, :, : self.length] = old[:, :, : self.length]
        return buffer

    def first(self, rows: int) -> LayerCache:
        """The first rows, frozen, over the same buffers."""
        part = LayerCache()
        part.length, part.frozen = self.length, True
        if self.keys is not None and self.values is not None:
            part.keys, part.values = self.keys[:rows], self.values[:rows]
        return part

    def select(self, rows: Tensor, room: int) -> LayerCache:
        """A copy of some rows (R,), one of them as often as it is named, with room for more."""
        part = LayerCache(room)
        if self.keys is not None and self.values is not None:
            part.extend(self.keys[rows, :, : self.length], self.values[rows, :, : self.length])
        return part


class KeyValueCache:
    """One `LayerCache` per layer, with room for so many positions after the first ones."""

    def __init__(self, layers: int, room: int = 0) -> None:
        self.layers = [LayerCache(room) for _ in range(layers)]

    def __len__(self) -> int:
        """Cached positions."""
        return self.layers[0].length

    def freeze(self) -> KeyValueCache:
        """Make it read only; returns itself."""
        for layer in self.layers:
            layer.frozen = True
        return self

    def first(self, rows: int) -> KeyValueCache:
        """The first rows, read only; nothing is copied."""
        part = KeyValueCache(0)
        part.layers = [layer.first(rows) for layer in self.layers]
        return part

    def select(self, rows: Tensor, room: int) -> KeyValueCache:
        """A copy of some rows (R,), one of them as often as it is named, with room for so many positions more."""
        part = KeyValueCache(0)
        part.layers = [layer.select(rows, room) for layer in self.layers]
        return part
