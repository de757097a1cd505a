"""Estimators of the bounds: unbiased for every way of drawing masks, and their variances against each other."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusion_toys import B_CODES, B_K, toy_b
from torch import Tensor

from unif2ace_core.diffusion.bounds import (
    BoundEstimate,
    ExactBounds,
    estimate_bound,
    estimate_chain,
    estimate_in_time,
    time_quantiles,
)
from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    arcsine_law,
    count_law,
    count_weights,
    uniform_law,
)
from unif2ace_core.errors import UserError

LINEAR, COSINE = LinearSchedule(), CosineSchedule()
IMAGES = 4000
MASK_TERM = {"linear": 4.310971657, "cosine": 5.40520699}  # limit of L2_T / T, from the published table


def _exact() -> ExactBounds:
    return ExactBounds(toy_b, B_CODES, B_K)


def _agrees(estimate: BoundEstimate, exact: float) -> None:
    assert abs(estimate.nats - exact) < 4 * estimate.standard_error


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("times", ["uniform", "low_discrepancy"])
@pytest.mark.parametrize("name, schedule", [("linear", LINEAR), ("cosine", COSINE)])
def test_random_times_estimate_the_continuous_limits(name: str, schedule: Schedule, times: str) -> None:
    codes = B_CODES.expand(IMAGES, 4)
    l1, mask_term = estimate_in_time(toy_b, codes, _generator(1), mask_id=B_K, schedule=schedule, strata=8, times=times)
    assert l1.draws.shape == mask_term.draws.shape == (IMAGES, 8)
    _agrees(l1, _exact().infinite())
    _agrees(mask_term, MASK_TERM[name])


@pytest.mark.parametrize("times", ["uniform", "low_discrepancy"])
@pytest.mark.parametrize("schedule, steps", [(LINEAR, 1), (LINEAR, 8), (COSINE, 5)])
def test_random_steps_estimate_both_bounds_of_a_chain(schedule: Schedule, steps: int, times: str) -> None:
    codes = B_CODES.expand(IMAGES, 4)
    found = estimate_chain(
        toy_b, codes, _generator(2), mask_id=B_K, schedule=schedule, steps=steps, strata=3, times=times
    )
    for estimate, exact in zip(found, _exact().discrete(schedule, steps), strict=True):
        if steps == 1:  # everything is masked: nothing is random
            assert estimate.nats == pytest.approx(exact, abs=1e-9)
        else:
            _agrees(estimate, exact)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_discrete_weight_is_unbiased_by_enumeration(schedule: Schedule, steps: int) -> None:
    """E over k uniform in 1..T and all masks of (T u_k CE_S, T CE_S) is (L1_T, L2_T)."""
    exact, l1, l2 = _exact(), 0.0, 0.0
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    levels = schedule.mask_probability(times).tolist()
    for k, subset in itertools.product(range(1, steps + 1), range(16)):
        size = int(exact.sizes[subset])
        chance = levels[k] ** size * (1 - levels[k]) ** (4 - size) / steps
        ce = float(exact.ce[subset])
        l1 += chance * steps * (levels[k] - levels[k - 1]) / levels[k] * ce
        l2 += chance * steps * ce
    assert exact.discrete(schedule, steps) == (pytest.approx(l1, abs=1e-10), pytest.approx(l2, abs=1e-10))


def _count_variance(exact: ExactBounds, law: Tensor) -> float:
    size = exact.sizes[1:]
    subsets = torch.tensor([math.comb(4, int(k)) for k in size], dtype=torch.float64)
    values = count_weights(law)[size - 1] * exact.ce[1:]
    return float((law[size - 1] / subsets * values**2).sum() - exact.infinite() ** 2)


def test_variance_of_the_count_laws_is_the_published_one() -> None:
    inverse = 1 / torch.arange(1, 5, dtype=torch.float64)
    laws = {"uniform": uniform_law(4), "arcsine": arcsine_law(4), "1/k": inverse / inverse.sum()}
    found = {name: _count_variance(_exact(), law) for name, law in laws.items()}
    assert found == {
        "uniform": pytest.approx(3.78, abs=0.005),
        "arcsine": pytest.approx(7.79, abs=0.005),
        "1/k": pytest.approx(21.0, abs=0.05),
    }


def test_relative_variance_of_a_model_with_equal_tokens() -> None:
    """CE_S = k: 0.2288 under the arcsine law at N = 256, 0 under the uniform one."""
    k = torch.arange(1, 257, dtype=torch.float64)
    for name, golden in (("arcsine", 0.2288), ("uniform", 0.0)):
        law = count_law(name, 256)
        values = count_weights(law) * k
        mean = float(law @ values)
        assert mean == pytest.approx(256, rel=1e-12)
        assert float(law @ values**2) / mean**2 - 1 == pytest.approx(golden, abs=5e-5)


def test_variance_of_independent_masks_diverges_logarithmically() -> None:
    """The second moment over t > epsilon grows by sum_i CE_{i}^2 for each factor e: one token alone is masked."""
    exact = _exact()
    singles = float((exact.ce[exact.sizes == 1] ** 2).sum())

    def second_moment(low: float, high: float) -> float:
        log_t = torch.linspace(math.log(low), math.log(high), 4001, dtype=torch.float64)
        t = log_t.exp()
        law = t[:, None] ** exact.sizes * (1 - t[:, None]) ** (4 - exact.sizes)
        return float(torch.trapezoid((law @ exact.ce**2) / t**2 * t, log_t))  # dt = t d log t

    for low in (1e-8, 1e-6):
        assert second_moment(low, 100 * low) == pytest.approx(singles * math.log(100), rel=1e-3)


def test_exact_counts_beat_random_times_and_uniform_counts_are_best() -> None:
    codes = B_CODES.expand(1000, 4)
    counts = {
        law: estimate_bound(toy_b, codes, _generator(3), mask_id=B_K, law=law).standard_error
        for law in ("uniform", "arcsine")
    }
    times = [
        estimate_in_time(toy_b, codes, _generator(3), mask_id=B_K, times=name)[0].standard_error
        for name in ("uniform", "low_discrepancy")
    ]
    assert counts["uniform"] < counts["arcsine"] < min(times)
    assert 2 * counts["uniform"] < min(times)


def test_low_discrepancy_beats_uniform_times_where_only_time_is_random() -> None:
    """The mask term of a long flat image: what is left is the noise of the times."""

    def flat(x: Tensor) -> Tensor:
        return torch.zeros(*x.shape, 3)

    codes = torch.zeros(300, 64, dtype=torch.int64)
    plain, spread = (
        estimate_in_time(flat, codes, _generator(4), mask_id=3, schedule=LINEAR, times=times)[1]
        for times in ("uniform", "low_discrepancy")
    )
    assert spread.standard_error < plain.standard_error / 2
    assert spread.nats == pytest.approx(32 * math.log(3), rel=0.02)


@pytest.mark.parametrize("times", ["uniform", "low_discrepancy"])
def test_times_are_uniform_and_repeat_with_the_seed(times: str) -> None:
    found = time_quantiles(5000, 4, _generator(5), times)
    assert found.shape == (5000, 4) and bool(((found >= 0) & (found < 1)).all())
    counts = torch.histc(found.flatten(), 10, 0, 1)
    assert bool(((counts - 2000).abs() < 200).all())
    assert torch.equal(found, time_quantiles(5000, 4, _generator(5), times))
    gaps = found.diff(dim=1)
    assert bool(((gaps - 0.25).abs() < 1e-12).all()) is (times == "low_discrepancy")


def test_estimates_repeat_with_the_seed_and_leave_their_input_alone() -> None:
    codes = B_CODES.expand(7, 4).clone()
    before = codes.clone()
    runs = [
        estimate_chain(toy_b, codes, _generator(seed), mask_id=B_K, schedule=COSINE, steps=4)[0].draws
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(codes, before)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="uniform, low_discrepancy"):
        estimate_in_time(toy_b, B_CODES[None], _generator(), mask_id=B_K, times="halton")
    with pytest.raises(UserError, match="at least 1 stratum"):
        estimate_in_time(toy_b, B_CODES[None], _generator(), mask_id=B_K, strata=0)
    with pytest.raises(UserError, match="at least 1 step"):
        estimate_chain(toy_b, B_CODES[None], _generator(), mask_id=B_K, schedule=LINEAR, steps=0)
