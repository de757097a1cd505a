"""Likelihood bounds against golden numbers of two toys, and the identities that tie them together."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusion_toys import A_CODES, A_K, B_CODES, B_K, FunctionSchedule, toy_a, toy_b, toy_joint
from torch import Tensor

from unif2ace_core.diffusion.bounds import BoundEstimate, ExactBounds, estimate_bound
from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    arcsine_law,
    count_weights,
)
from unif2ace_core.errors import UserError

LINEAR, COSINE = LinearSchedule(), CosineSchedule()
# schedule, T, -log p, L1_T, L2_T, L1_T with the unnormalised score
TABLE_A = [
    (LINEAR, 1, 1.203972804, 1.203972804, 1.203972804, 1.703972804),
    (LINEAR, 2, 1.093624747, 1.099844068, 1.70183047, 1.487344068),
    (LINEAR, 4, 1.042704657, 1.0477797, 2.749610171, 1.3790297),
    (LINEAR, 8, 1.01818504, 1.021747516, 4.871201755, 1.324872516),
    (LINEAR, 1000, 0.9944414804, 0.9959235897, 533.1693006, 1.27114859),
    (COSINE, 2, 1.11171288, 1.117709735, 1.969047069, 1.524511683),
    (COSINE, 4, 1.053582703, 1.059125957, 3.41442529, 1.402634377),
    (COSINE, 8, 1.023765267, 1.027728204, 6.265643092, 1.337314699),
]
TABLE_B = [
    (LINEAR, 1, 8.26497049, 8.26497049, 8.26497049, 18.04800055),
    (LINEAR, 2, 8.239308181, 8.533030344, 12.66551559, 18.50002803),
    (LINEAR, 4, 8.321911564, 8.678306276, 21.33195667, 18.82934047),
    (LINEAR, 8, 8.385464407, 8.753755744, 38.59805605, 19.01982136),
    (COSINE, 2, 8.259036296, 8.47080118, 14.31501786, 18.28480059),
    (COSINE, 4, 8.313766643, 8.637967775, 25.44122966, 18.68155227),
    (COSINE, 8, 8.376844806, 8.732102687, 47.21833746, 18.93766526),
]


def _near(expected: float) -> object:
    return pytest.approx(expected, rel=3e-9, abs=1e-9)


def _random_posterior(n: int, k: int, seed: int):
    """A posterior without structure: logits depend on the whole context through random tables."""
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(n, k + 1, n, k, generator=generator, dtype=torch.float64)
    return lambda x: sum(tables[j, x[:, j]] for j in range(n))


@pytest.mark.parametrize("schedule, steps, nll, l1, l2, l1u", TABLE_A)
def test_toy_a_has_the_published_bounds(schedule: Schedule, steps, nll, l1, l2, l1u) -> None:
    exact = ExactBounds(toy_a, A_CODES, A_K)
    assert exact.chain_nll(schedule, steps) == _near(nll)
    assert exact.discrete(schedule, steps) == (_near(l1), _near(l2))
    assert exact.discrete(schedule, steps, unnormalized=True) == (_near(l1u), _near(l2))


@pytest.mark.parametrize("schedule, steps, nll, l1, l2, l1u", TABLE_B)
def test_toy_b_has_the_published_bounds(schedule: Schedule, steps, nll, l1, l2, l1u) -> None:
    exact = ExactBounds(toy_b, B_CODES, B_K)
    assert exact.chain_nll(schedule, steps) == _near(nll)
    assert exact.discrete(schedule, steps) == (_near(l1), _near(l2))
    assert exact.discrete(schedule, steps, unnormalized=True) == (_near(l1u), _near(l2))


def test_infinite_bounds_are_the_published_ones() -> None:
    a, b = ExactBounds(toy_a, A_CODES, A_K), ExactBounds(toy_b, B_CODES, B_K)
    assert (a.any_order_nll(), a.infinite(), a.infinite(True)) == (
        _near(0.9942522733),
        _near(0.9957153322),
        _near(1.270715332),
    )
    assert (b.any_order_nll(), b.infinite(), b.infinite(True)) == (
        _near(8.464675664),
        _near(8.831079545),
        _near(19.2275187),
    )
    assert b.mean_by_count().tolist() == [_near(v) for v in (2.379286497, 4.492099963, 6.418501333, 8.26497049)]


def test_toy_b_spot_checks() -> None:
    masked = toy_b(torch.full((1, 4), B_K))[0, 0]
    assert masked.tolist() == [_near(v) for v in (0.8414709848, -0.7568024953, 0.6569865987, -0.5440211109)]
    logits = toy_b(torch.tensor([[1, B_K, 0, B_K]]))[0]
    assert float(logits[1].exp().sum()) == _near(6.900946872)
    assert logits[3].softmax(0).tolist() == [_near(v) for v in (0.2809411825, 0.2191141001, 0.2753837477, 0.2245609697)]


@pytest.mark.parametrize("seed", range(6))
def test_l1_bound_is_tighter_than_l2_and_both_bound_the_likelihood(seed: int) -> None:
    exact = ExactBounds(_random_posterior(3, 4, seed), torch.tensor([seed % 4, 1, 3]), 4)
    power = FunctionSchedule(lambda t: t**1.7, lambda t: 1.7 * t**0.7)
    for schedule, steps in itertools.product((LINEAR, COSINE, power), (1, 2, 5, 9)):
        nll = exact.chain_nll(schedule, steps)
        l1, l2 = exact.discrete(schedule, steps)
        assert nll <= l1 + 1e-10 and l1 <= l2 + 1e-10
        if steps == 1:
            assert nll == pytest.approx(l1, abs=1e-10) == pytest.approx(l2, abs=1e-10)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_ancestral_chain_is_a_distribution(schedule: Schedule, steps: int) -> None:
    for posterior, n, k in ((toy_a, 2, 3), (toy_b, 4, 4)):
        images = itertools.product(range(k), repeat=n)
        total = sum(
            math.exp(-ExactBounds(posterior, torch.tensor(image), k).chain_nll(schedule, steps)) for image in images
        )
        assert total == pytest.approx(1.0, abs=1e-12)


def test_infinite_bound_is_one_number_for_every_schedule_and_all_orders() -> None:
    exact = ExactBounds(toy_b, B_CODES, B_K)
    for schedule in (LINEAR, COSINE):
        assert _continuous(exact, schedule, weighted=True) == pytest.approx(exact.infinite(), abs=1e-9)
    orders = list(itertools.permutations(range(4)))
    nll = [_order_nll(exact, order) for order in orders]
    assert sum(nll) / len(nll) == pytest.approx(exact.infinite(), abs=1e-9)
    likelihood = sum(math.exp(-value) for value in nll) / len(nll)
    assert -math.log(likelihood) == pytest.approx(exact.any_order_nll(), abs=1e-9)


def _order_nll(exact: ExactBounds, order: tuple[int, ...]) -> float:
    masked, total = (1 << exact.n) - 1, 0.0
    for position in order:
        total -= float(exact.log_c[masked, position])
        masked ^= 1 << position
    return total


def _continuous(exact: ExactBounds, schedule: Schedule, weighted: bool) -> float:
    """Integral over t of E[CE_S], or of m'/m E[CE_S], by Gauss-Legendre with three nodes per cell."""
    grid = torch.linspace(0, 1, 20001, dtype=torch.float64)
    t = (grid[1:] + grid[:-1]) / 2
    nodes = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)
    weights = torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64)
    t = (t[:, None] + nodes * (grid[1] - grid[0]) / 2).flatten()
    m = schedule.mask_probability(t)
    law = m[:, None] ** exact.sizes * (1 - m[:, None]) ** (exact.n - exact.sizes)
    values = (law @ exact.ce) * (schedule.weight(t) if weighted else 1)
    return float((values.view(-1, 3) * weights).sum() * (grid[1] - grid[0]))


@pytest.mark.parametrize(
    "schedule, expected_a, expected_b",
    [(LINEAR, 0.5325672448, 4.310971657), (COSINE, 0.7095687157, 5.40520699)],
)
def test_continuous_mask_term_is_the_published_one(schedule: Schedule, expected_a, expected_b) -> None:
    assert _continuous(ExactBounds(toy_a, A_CODES, A_K), schedule, False) == _near(expected_a)
    assert _continuous(ExactBounds(toy_b, B_CODES, B_K), schedule, False) == _near(expected_b)


def test_likelihood_converges_to_the_mean_over_orders() -> None:
    exact = ExactBounds(toy_a, A_CODES, A_K)
    assert abs(exact.chain_nll(LINEAR, 1000) - exact.any_order_nll()) < 3e-4


def test_consistent_posterior_has_a_tight_bound() -> None:
    exact = ExactBounds(toy_joint, A_CODES, A_K)
    assert exact.infinite() == pytest.approx(2 * math.log(2), abs=1e-12)
    expected = [1.832581464, 1.609437912, 1.497866137, 1.442080249, 1.414187305, 1.393267597]
    assert [exact.discrete(LINEAR, t)[0] for t in (1, 2, 4, 8, 16, 64)] == [_near(v) for v in expected]
    assert exact.chain_nll(LINEAR, 2) == _near(1.5847453)


@pytest.mark.parametrize("seed", range(3))
def test_count_estimator_is_unbiased_for_any_law(seed: int) -> None:
    exact = ExactBounds(toy_b, B_CODES, B_K)
    law = torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    law = law / law.sum()
    expectation = (law * count_weights(law) * exact.mean_by_count()).sum()
    assert float(expectation) == pytest.approx(exact.infinite(), abs=1e-10)


@pytest.mark.parametrize("law, variance", [("uniform", 3.78), ("arcsine", 7.79)])
def test_estimator_variance_is_the_published_one(law: str, variance: float) -> None:
    exact = ExactBounds(toy_b, B_CODES, B_K)
    p = arcsine_law(4) if law == "arcsine" else torch.full((4,), 0.25, dtype=torch.float64)
    size = exact.sizes[1:]
    subsets = torch.tensor([math.comb(4, int(k)) for k in size], dtype=torch.float64)
    chance = p[size - 1] / subsets
    values = count_weights(p)[size - 1] * exact.ce[1:]
    assert float((chance * values**2).sum() - exact.infinite() ** 2) == pytest.approx(variance, rel=2e-3)


@pytest.mark.parametrize("law", ["uniform", "arcsine"])
@pytest.mark.parametrize("strata", [1, 3, 8])
def test_estimates_agree_with_the_exact_bound(law: str, strata: int) -> None:
    codes = B_CODES.expand(4000, 4)
    estimate = estimate_bound(toy_b, codes, torch.Generator().manual_seed(3), mask_id=B_K, strata=strata, law=law)
    exact = ExactBounds(toy_b, B_CODES, B_K).infinite()
    assert estimate.image_nats.shape == (4000,)
    assert abs(estimate.nats - exact) < 4 * estimate.standard_error


def test_stratified_counts_beat_independent_ones() -> None:
    def flat(x: Tensor) -> Tensor:
        return torch.zeros(*x.shape, 3)

    codes = torch.zeros(400, 64, dtype=torch.int64)
    plain, stratified = (
        estimate_bound(flat, codes, torch.Generator().manual_seed(1), mask_id=3, strata=s, law="arcsine")
        for s in (1, 8)
    )
    # Eight independent draws would divide the error by 2.83.
    assert stratified.standard_error < plain.standard_error / 6
    uniform = estimate_bound(flat, codes, torch.Generator().manual_seed(1), mask_id=3, strata=2)
    assert uniform.nats == pytest.approx(64 * math.log(3)) and uniform.standard_error < 1e-4


def test_merged_estimates_weigh_every_image_alike() -> None:
    parts = [BoundEstimate(torch.full((size, 2), float(size), dtype=torch.float64)) for size in (1, 3)]
    assert BoundEstimate.merged(parts).nats == pytest.approx(2.5)


def test_too_large_or_empty_requests_are_refused() -> None:
    with pytest.raises(UserError, match="too many"):
        ExactBounds(toy_a, torch.zeros(11, dtype=torch.int64), 3)
    with pytest.raises(UserError, match="at least 1 stratum"):
        estimate_bound(toy_a, A_CODES[None], torch.Generator(), mask_id=A_K, strata=0)
