"""Orders in which a sampler may draw the cells of a grid; codes that are drawn at once should be far apart.

    halton      2-D Halton sequence, bases 2 and 3: each prefix covers the grid evenly
    centred     the same, with the middle of the face pulled forward

Eyes, nose and mouth decide who is shown, so guidance that acts early meets them there.

Sources: Halton order for masked generation: Besnier et al., "Halton Scheduler for Masked Generative Image
Transformer" (arXiv 2503.17076).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

MIDDLE = (0.5625, 0.5)  # height and width at which a face has it whose eyes are at 0.48 of the height: its nose


@lru_cache(maxsize=32)
def halton_order(rows: int, columns: int) -> Tensor:
    """Cells of a grid in 2-D Halton order (bases 2 and 3): `(rows * columns,)` int64, a permutation."""
    order: dict[int, None] = {}
    n = 1
    while len(order) < rows * columns:
        cell = int(rows * _radical_inverse(n, 2)) * columns + int(columns * _radical_inverse(n, 3))
        order.setdefault(cell)
        n += 1
    return torch.tensor(list(order))


@lru_cache(maxsize=32)
def halton_rank(rows: int, columns: int) -> Tensor:
    """Rank of each cell in the Halton order, the inverse permutation; `(rows * columns,)` int64."""
    return halton_order(rows, columns).argsort()


@lru_cache(maxsize=32)
def centred_rank(rows: int, columns: int) -> Tensor:
    """Rank of each cell by its Halton rank / cells + distance from MIDDLE, `(rows * columns,)` int64, a permutation.

    The distance is in shares of the grid's sides, the longer of the two in rows and columns.
    """
    centres = [(torch.arange(side, dtype=torch.float64) + 0.5) / side for side in (rows, columns)]
    apart = [(place - middle).abs() for place, middle in zip(centres, MIDDLE, strict=True)]
    distance = torch.maximum(apart[0][:, None], apart[1]).flatten()
    late = halton_rank(rows, columns).double() / (rows * columns) + distance
    return late.argsort(stable=True).argsort()


def _radical_inverse(n: int, base: int) -> Fraction:
    """Digits of n in `base` mirrored at the point; exact, so that no cell is missed by rounding."""
    value, scale = 0, 1
    while n:
        n, digit = divmod(n, base)
        value, scale = value * base + digit, scale * base
    return Fraction(value, scale)
