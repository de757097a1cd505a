"""Schedules, count laws and random masks."""

from __future__ import annotations

import math

import pytest
import torch
from diffusion_toys import FunctionSchedule

from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    arcsine_law,
    count_law,
    count_weights,
    counts_at,
    draw_counts,
    exact_mask,
    independent_mask,
    ordered_mask,
    step_probabilities,
    uniform_law,
)
from unif2ace_core.errors import UserError

POWER = FunctionSchedule(lambda t: t**2, lambda t: 2 * t)
SCHEDULES = [CosineSchedule(), LinearSchedule(), POWER]
TIMES = torch.linspace(0.01, 1, 100, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_run_from_zero_to_one_and_know_their_derivative(schedule: Schedule) -> None:
    ends = schedule.mask_probability(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == [0.0, pytest.approx(1.0)]
    t = TIMES[:-1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.mask_probability(t).sum(), t)
    torch.testing.assert_close(schedule.derivative(t.detach()), slope, rtol=1e-12, atol=1e-12)
    ratio = schedule.derivative(TIMES) / schedule.mask_probability(TIMES)
    torch.testing.assert_close(schedule.weight(TIMES), ratio, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(schedule.remaining(TIMES), schedule.mask_probability(1 - TIMES))


def test_cosine_weight_is_the_closed_form_in_m() -> None:
    m = CosineSchedule().mask_probability(TIMES)
    expected = math.pi / 2 * torch.sqrt(1 - m**2) / m
    torch.testing.assert_close(CosineSchedule().weight(TIMES), expected, rtol=1e-7, atol=1e-7)


def test_arcsine_law_has_the_published_probabilities_and_weights() -> None:
    law = arcsine_law(256)
    weights = count_weights(law)
    golden = {
        1: (0.003730215323, 268.0810391),
        2: (0.002486873462, 201.055666),
        8: (0.00248801272, 50.2409007),
        64: (0.00256835394, 6.083663063),
        128: (0.002871509532, 2.720694434),
        240: (0.007147122767, 0.582985182),
        255: (0.02915459216, 0.1345094661),
        256: (0.03979521465, 0.09815878703),
    }
    for k, (p, w) in golden.items():
        assert float(law[k - 1]) == pytest.approx(p, rel=1e-9)
        assert float(weights[k - 1]) == pytest.approx(w, rel=1e-9)
    k = torch.arange(1, 257, dtype=torch.float64)
    assert float((law * k).sum() / 256) == pytest.approx(0.6366376093, rel=1e-9)
    assert arcsine_law(4).tolist() == pytest.approx([0.2447145871, 0.1850874957, 0.2484754242, 0.321722493])


@pytest.mark.parametrize("n", [1, 2, 3, 64, 256])
def test_count_laws_are_distributions(n: int) -> None:
    for name in ("arcsine", "uniform"):
        law = count_law(name, n)
        assert law.shape == (n,) and bool((law > 0).all())
        assert float(law.sum()) == pytest.approx(1.0, abs=1e-12)


def test_arcsine_law_is_that_of_rounded_cosine_times() -> None:
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    counts = torch.round(64 * torch.cos(t * math.pi / 2)).clamp(min=1).long()
    observed = torch.bincount(counts, minlength=65)[1:] / 200_000
    torch.testing.assert_close(observed.double(), arcsine_law(64), rtol=0, atol=2e-5)


def test_weight_one_image_with_all_masks_is_close_to_the_plain_loss() -> None:
    ends = 1 + 0.01 * count_weights(arcsine_law(256))[[0, -1]]
    assert ends.tolist() == pytest.approx([3.68081, 1.00098], rel=1e-5)


def test_drawn_counts_follow_the_law() -> None:
    law = arcsine_law(8)
    counts = draw_counts(law, 100_000, torch.Generator().manual_seed(0))
    assert int(counts.min()) == 1 and int(counts.max()) == 8
    observed = torch.bincount(counts, minlength=9)[1:] / 100_000
    torch.testing.assert_close(observed.double(), law, rtol=0, atol=6e-3)


def test_count_quantiles_cover_every_count_once() -> None:
    assert counts_at(uniform_law(5), torch.tensor([0.0, 0.199, 0.2, 0.61, 0.999999999])).tolist() == [
        1,
        1,
        2,
        4,
        5,
    ]
    assert counts_at(uniform_law(49), torch.tensor(1 - 2.0**-53, dtype=torch.float64)).item() == 49


def test_exact_masks_have_the_count_and_no_preferred_position() -> None:
    counts = torch.arange(1, 9).repeat(5000)
    mask = exact_mask(counts, 8, torch.Generator().manual_seed(1))
    assert torch.equal(mask.sum(dim=1), counts)
    single = mask[counts == 1].double().mean(dim=0)
    torch.testing.assert_close(single, torch.full((8,), 1 / 8, dtype=torch.float64), rtol=0, atol=0.02)


def test_ordered_masks_leave_what_comes_last() -> None:
    rank = torch.tensor([2, 0, 3, 1])
    mask = ordered_mask(torch.tensor([0, 1, 3, 4]), rank)
    assert mask.int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]]


def test_independent_masks_have_the_probability_of_their_row() -> None:
    mask = independent_mask(torch.tensor([0.0, 0.3, 1.0]), 20_000, torch.Generator().manual_seed(2))
    assert mask.double().mean(dim=1).tolist() == [0.0, pytest.approx(0.3, abs=0.015), 1.0]


def test_masks_repeat_with_the_seed() -> None:
    first, again, other = (
        exact_mask(torch.tensor([3, 5]), 16, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_step_probabilities_make_every_position_visible_in_the_end(schedule: Schedule) -> None:
    m, u = step_probabilities(schedule, 7)
    assert float(m[-1]) == pytest.approx(1.0) and float(u[0]) == 1.0
    assert bool(((u > 0) & (u <= 1)).all())


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="arcsine, uniform"):
        count_law("poisson", 4)
    with pytest.raises(UserError, match="at least 1 position"):
        count_law("uniform", 0)
    with pytest.raises(UserError, match="at least 1 step"):
        step_probabilities(LinearSchedule(), 0)
