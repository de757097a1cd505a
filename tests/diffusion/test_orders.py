"""Orders over a grid: permutations, the published one, and the middle first.

pytest tests/diffusion/test_orders.py
"""

from __future__ import annotations

import pytest
import torch

from unif2ace_core.diffusion.orders import centred_rank, halton_order, halton_rank


@pytest.mark.parametrize(
    "side, total, start",
    [
        (16, 4166199, [133, 74, 193, 39, 172, 99, 232, 30, 144, 85, 219, 50, 183, 125, 244, 9]),
        (8, 64491, [34, 21, 48, 11, 46, 25, 60, 7, 32, 18, 53, 9]),
    ],
)
def test_halton_order_is_the_published_one(side: int, total: int, start: list[int]) -> None:
    order = halton_order(side, side)
    assert order[: len(start)].tolist() == start
    assert int((order * torch.arange(side * side)).sum()) == total
    assert sorted(order.tolist()) == list(range(side * side))
    assert sorted(halton_order(3, 7).tolist()) == list(range(21))


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (3, 7), (1, 5), (1, 1)])
def test_centred_ranks_are_a_permutation(grid: tuple[int, int]) -> None:
    assert sorted(centred_rank(*grid).tolist()) == list(range(grid[0] * grid[1]))


@pytest.mark.parametrize(
    "grid, total, start",
    [
        ((16, 16), 4024438, [133, 183, 136, 166, 104, 154, 85, 186, 118, 74, 198, 172]),
        ((8, 8), 62181, [34, 21, 43, 46, 18, 25, 53, 11, 28, 48, 60, 30]),
        ((6, 10), 51592, [33, 37, 16, 22, 41, 44, 47, 55, 13, 25, 4, 11]),
    ],
)
def test_centred_orders_stay_as_they_are(grid: tuple[int, int], total: int, start: list[int]) -> None:
    """Another order would give other pictures for the same seed."""
    order = centred_rank(*grid).argsort()
    assert order[: len(start)].tolist() == start
    assert int((order * torch.arange(len(order))).sum()) == total


def test_the_middle_comes_earlier_and_each_half_still_covers_the_grid() -> None:
    rank, plain = centred_rank(8, 8).view(8, 8), halton_rank(8, 8).view(8, 8).double()
    middle = torch.zeros(8, 8, dtype=torch.bool)
    middle[2:6, 2:6] = True
    assert rank[middle].double().mean() < plain[middle].mean() - 8
    first = rank < 32
    assert 8 < int(first[middle].sum()) < 16  # of 32: more than its share, and not all of it
    assert all(first[rows, columns].any() for rows in (slice(4), slice(4, 8)) for columns in (slice(4), slice(4, 8)))
