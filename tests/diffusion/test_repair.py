"""Repair turns over bits that the other codes contradict, and nothing else.

pytest tests/diffusion/test_repair.py
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unif2ace_core.diffusion.repair import LOTS, lots, repaired
from unif2ace_core.diffusion.samplers import Posterior
from unif2ace_core.tokens.codec import entries

K, GRID = 16, (4, 4)  # four bits


def sure_of(ones: Tensor, dtype: torch.dtype = torch.float32) -> Posterior:
    """A posterior that gives bit i of every code the probability ones[i] of being 1, the bits independent."""
    table = entries(torch.arange(K), len(ones)) > 0
    chances = torch.where(table, ones, 1 - ones).prod(1)
    return lambda x: chances.log().to(dtype).expand(int((x == K).sum()), K)


def drawn(rows: int = 2) -> Tensor:
    return torch.randint(K, (rows, math.prod(GRID)), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bit_is_turned_over_where_its_contrary_is_likely_enough(dtype: torch.dtype) -> None:
    ones = torch.tensor([0.95, 0.7, 0.3, 0.05])
    bits = entries(drawn(), 4) > 0
    expected = bits.clone()
    expected[..., 0], expected[..., 3] = True, False
    found = entries(repaired(drawn(), sure_of(ones, dtype), K, GRID, 0.4), 4) > 0  # above .8
    assert torch.equal(found, expected)


def test_share_1_gives_every_bit_its_likelier_value_and_0_asks_nobody() -> None:
    ones = torch.tensor([0.6, 0.4, 0.9, 0.1])
    assert (repaired(drawn(), sure_of(ones), K, GRID, 1.0) == 0b1010).all()

    def nobody(x: Tensor) -> Tensor:
        raise AssertionError

    assert torch.equal(repaired(drawn(), nobody, K, GRID, 0.0), drawn())


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 6), (1, 1)])
def test_every_code_is_judged_once_by_codes_as_they_were_drawn(grid: tuple[int, int]) -> None:
    positions = math.prod(grid)
    codes, asked = torch.arange(positions).remainder(K).expand(2, -1), []

    def posterior(x: Tensor) -> Tensor:
        masked = x == K
        assert torch.equal(x[~masked], codes[~masked])
        asked.append(masked)
        return torch.zeros(int(masked.sum()), K).index_fill_(1, torch.tensor([3]), 9.0)

    repaired(codes, posterior, K, grid, 1.0)
    assert torch.equal(torch.stack(asked).sum(0), torch.ones(2, positions, dtype=torch.long))
    assert len(asked) == len(lots(grid, torch.device("cpu"))) <= LOTS


def test_codes_that_are_no_rows_of_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        repaired(drawn() % 10, lambda x: torch.zeros(int((x == 10).sum()), 10), 10, GRID, 1.0)
