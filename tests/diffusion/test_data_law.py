"""Exact samplers give back the data: chi-square of 100,000 samples against a joint distribution that can be listed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusion_toys import exact_conditionals
from torch import Tensor

from unif2ace_core.diffusion import samplers
from unif2ace_core.diffusion.bounds import ExactBounds
from unif2ace_core.diffusion.samplers import sample
from unif2ace_core.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule

COUNT, K = 100_000, 3
# Two dependent codes; independent draws of both would be far off.
JOINT = torch.tensor([[0.10, 0.05, 0.25], [0.08, 0.12, 0.05], [0.15, 0.10, 0.10]], dtype=torch.float64)
# 8 degrees of freedom: exceeded once in 10,000 seeds.
LIMIT = 31.8


class BatchNoise:
    """`RowNoise` with one generator for all rows: 100,000 generators would take minutes."""

    def __init__(self, generators: list[torch.Generator], device: torch.device) -> None:
        self.rows, self.generator = len(generators), generators[0]

    def uniform(self, n: int) -> Tensor:
        return torch.rand(self.rows, n, generator=self.generator, dtype=torch.float64)


@pytest.fixture
def fast_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "RowNoise", BatchNoise)


def _draw(name: str, steps: int, schedule: Schedule | None = None, seed: int = 0) -> Tensor:
    generators = [torch.Generator().manual_seed(seed)] * COUNT
    posterior = exact_conditionals(JOINT)
    # logits of all contexts at once: 16 possible rows, looked up
    rows = torch.cartesian_prod(torch.arange(K + 1), torch.arange(K + 1))
    table = posterior(rows)
    return sample(
        name,
        lambda x: table[x[:, 0] * (K + 1) + x[:, 1]],
        codes=K,
        positions=2,
        generators=generators,
        steps=steps,
        schedule=schedule,
        grid=(1, 2),
    )


def _chi_square(samples: Tensor, law: Tensor) -> float:
    observed = torch.bincount(samples[:, 0] * K + samples[:, 1], minlength=K * K).double()
    expected = law.flatten() * len(samples)
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.mark.slow
def test_ancestral_chain_with_many_steps_reproduces_the_data(fast_noise: None) -> None:
    """Both codes leave in one of 100 steps with probability 1/100, which hardly shows in 100,000 samples."""
    assert _chi_square(_draw("ancestral", 100, LinearSchedule()), JOINT) < LIMIT


def test_first_hitting_reproduces_the_data_in_as_many_calls_as_positions(fast_noise: None) -> None:
    assert _chi_square(_draw("first_hitting", 1), JOINT) < LIMIT


@pytest.mark.parametrize("schedule, steps", [(LinearSchedule(), 2), (CosineSchedule(), 5)])
def test_ancestral_chain_with_few_steps_has_its_own_law(fast_noise: None, schedule: Schedule, steps: int) -> None:
    posterior = exact_conditionals(JOINT)
    law = torch.tensor(
        [
            math.exp(-ExactBounds(posterior, torch.tensor(image), K).chain_nll(schedule, steps))
            for image in itertools.product(range(K), repeat=2)
        ]
    )
    samples = _draw("ancestral", steps, schedule)
    assert _chi_square(samples, law) < LIMIT
    assert _chi_square(samples, JOINT) > LIMIT  # the test can tell the two laws apart


def test_one_step_loses_the_dependence_between_codes(fast_noise: None) -> None:
    samples = _draw("ancestral", 1)
    assert _chi_square(samples, JOINT.sum(1)[:, None] * JOINT.sum(0)) < LIMIT < _chi_square(samples, JOINT)
