"""What each drawn code should be, given the others: asked once of each, of codes as they were drawn.

pytest tests/diffusion/test_repair.py
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unif2ace_core.diffusion.repair import LOTS, expected_entries, lots, repaired
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
def test_the_expected_entry_is_the_mean_of_entries_under_the_posterior(dtype: torch.dtype) -> None:
    ones = torch.tensor([0.95, 0.7, 0.3, 0.0])
    found = expected_entries(drawn(), sure_of(ones, dtype), K, GRID)
    torch.testing.assert_close(found, (2 * ones - 1).expand(2, math.prod(GRID), 4))


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 6), (1, 1)])
def test_every_code_is_judged_once_by_codes_as_they_were_drawn(grid: tuple[int, int]) -> None:
    positions = math.prod(grid)
    codes, asked = torch.arange(positions).remainder(K).expand(2, -1), []

    def posterior(x: Tensor) -> Tensor:
        masked = x == K
        assert torch.equal(x[~masked], codes[~masked])
        asked.append(masked)
        return torch.zeros(int(masked.sum()), K).index_fill_(1, torch.tensor([3]), 9.0)

    found = expected_entries(codes, posterior, K, grid)
    assert found.shape == (2, positions, 4)
    assert torch.equal(torch.stack(asked).sum(0), torch.ones(2, positions, dtype=torch.long))
    assert len(asked) == len(lots(grid, torch.device("cpu"))) <= LOTS


def test_codes_that_are_no_rows_of_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        expected_entries(drawn() % 10, lambda x: torch.zeros(int((x == 10).sum()), 10), 10, GRID)


def test_what_is_decoded_lies_between_what_was_drawn_and_what_is_expected_row_by_row() -> None:
    codes, expected = torch.tensor([[0, 3], [0, 3]]), torch.full((2, 2, 2), 0.5)
    found = repaired(codes, expected, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(found[0], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    torch.testing.assert_close(found[1], torch.tensor([[-0.25, -0.25], [0.75, 0.75]]))
    torch.testing.assert_close(repaired(codes, expected, 1), expected)
