"""Of several pictures the one is kept that shows most of what its prompt says.

pytest tests/tasks/test_choose.py
"""

from __future__ import annotations

import math

import pytest
import torch

from unif2ace_core.data.parse import parse
from unif2ace_core.tasks.choose import candidate_seed, match

READ = {"Bangs": torch.tensor([0.9, 0.1]), "Male": torch.tensor([0.2, 0.8])}  # no, yes


@pytest.mark.parametrize(
    ("prompt", "chances"), [("bangs", [0.1]), ("no bangs", [0.9]), ("a man without bangs", [0.9, 0.8]), ("a hat", [])]
)
def test_what_the_prompt_says_counts_by_its_probability_and_nothing_else_does(
    prompt: str, chances: list[float]
) -> None:
    assert match(READ, parse(prompt)) == pytest.approx(sum(map(math.log, chances)), abs=1e-6)


def test_candidates_have_seeds_of_their_own_and_the_first_that_of_the_picture() -> None:
    seeds = [candidate_seed(seed, number) for seed in (0, 1, 2, 2**63 - 1) for number in range(8)]
    assert len(set(seeds)) == 32 and all(0 <= seed < 2**63 for seed in seeds)
    assert candidate_seed(7, 0) == 7
