"""Identities of the masked diffusion that D3Diff rests on, each against an independent calculation in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusion_toys import A_CODES, A_K, B_CODES, B_K, exact_conditionals, toy_a, toy_b
from torch import Tensor

from unif2ace_core.diffusion.bounds import ExactBounds
from unif2ace_core.diffusion.d3diff import D3DiffConfig, d3diff_loss, denoising_score_entropy, masked_mean_cross_entropy
from unif2ace_core.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule, step_probabilities

LINEAR, COSINE = LinearSchedule(), CosineSchedule()


def _joint(n: int = 3, k: int = 3, seed: int = 0) -> Tensor:
    """A random distribution over K^N images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(k**n, generator=generator, dtype=torch.float64).softmax(0).view([k] * n)


def _forward(joint: Tensor, m: float) -> dict[tuple[int, ...], float]:
    """p_t(x) for every x in {0..K}^N, K the mask, by summing over all x_0 and all subsets."""
    n, k = joint.dim(), joint.shape[0]
    law: dict[tuple[int, ...], float] = {}
    for image, masks in itertools.product(itertools.product(range(k), repeat=n), itertools.product((0, 1), repeat=n)):
        x = tuple(k if hidden else code for code, hidden in zip(image, masks))
        chance = float(joint[image]) * m ** sum(masks) * (1 - m) ** (n - sum(masks))
        law[x] = law.get(x, 0.0) + chance
    return law


@pytest.mark.parametrize("m", [0.1, 0.6, 0.95])
def test_concrete_score_is_the_ratio_times_the_posterior(m: float) -> None:
    """s(v) = p_t(x with v at i) / p_t(x) = r c_i(v): why a posterior is a score model."""
    joint = _joint()
    law, posterior, ratio = _forward(joint, m), exact_conditionals(joint), (1 - m) / m
    for x in ((3, 1, 3), (3, 3, 3), (0, 3, 2)):
        c = posterior(torch.tensor([x]))[0].softmax(dim=1)
        for i, v in itertools.product(range(3), range(3)):
            if x[i] == 3:
                changed = (*x[:i], v, *x[i + 1 :])
                assert law[changed] / law[x] == pytest.approx(ratio * float(c[i, v]), rel=1e-12)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_reverse_step_is_bayes_rule_on_the_forward_chain(schedule: Schedule) -> None:
    """Given x_0 and a mask at t: still masked at s with m(s) / m(t), else x_0; u_k is the rest."""
    m, u = step_probabilities(schedule, 6)
    state = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)  # x_0 = 1 of K = 3 codes; the last is the mask
    m_s = 0.0
    for m_t, u_k in zip(m.tolist(), u.tolist()):
        rate = (m_t - m_s) / (1 - m_s)  # what is still visible is masked with this probability
        forward = torch.eye(4, dtype=torch.float64) * (1 - rate)
        forward[:, 3] += rate
        after = state @ forward
        backward = state * forward[:, 3] / after[3]  # law of x_s given x_t masked
        assert backward.tolist() == pytest.approx([0.0, u_k, 0.0, 1 - u_k], abs=1e-12)
        assert float(after[3]) == pytest.approx(m_t, abs=1e-12)
        state, m_s = after, m_t


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_absorbing_rate_times_ratio_is_the_weight(schedule: Schedule) -> None:
    """beta r = m' / m, with the rate beta = m' / (1 - m) and r = (1 - m) / m."""
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    m = schedule.mask_probability(t)
    beta = schedule.derivative(t) / (1 - m)
    torch.testing.assert_close(beta * (1 - m) / m, schedule.weight(t), rtol=1e-12, atol=1e-12)


def _nodes(cells: int = 60) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on (0, 1), three to a cell."""
    edge = torch.arange(cells, dtype=torch.float64) / cells
    offsets = (1 + torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)) / (2 * cells)
    weights = torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64) / (18 * cells)
    return (edge[:, None] + offsets).flatten(), weights.repeat(cells)


def _score_entropy_sum(posterior, codes: Tensor, k: int, m: Tensor, normalise: bool) -> Tensor:
    """E over masks of sum_i DSE_i at mask probabilities m `(T,)`, by the full sum over codes of s = r c~."""
    n, total, ratio = len(codes), torch.zeros_like(m), (1 - m) / m
    for subset in itertools.product((False, True), repeat=n):
        mask = torch.tensor(subset)
        if not mask.any():
            continue
        logits = posterior(codes.masked_fill(mask, k)[None])[0][mask]
        c = logits.softmax(1) if normalise else logits.exp()
        size = int(mask.sum())
        chance = m**size * (1 - m) ** (n - size)
        for row, target in zip(c, codes[mask]):
            score, targets = ratio[:, None] * row, target.expand(len(m))
            total += chance * denoising_score_entropy(score, targets, ratio)
    return total


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
@pytest.mark.parametrize(
    "posterior, codes, k, normalise, expected",
    [
        (toy_a, A_CODES, A_K, True, 0.9957153322),
        (toy_a, A_CODES, A_K, False, 1.270715332),
        (toy_b, B_CODES, B_K, True, 8.831079545),
        (toy_b, B_CODES, B_K, False, 19.2275187),
    ],
)
def test_time_integral_of_the_score_entropy_is_the_infinite_bound(
    schedule: Schedule, posterior, codes: Tensor, k: int, normalise: bool, expected: float
) -> None:
    t, weights = _nodes()
    m = schedule.mask_probability(t)
    beta = schedule.derivative(t) / (1 - m)
    integral = float((weights * beta * _score_entropy_sum(posterior, codes, k, m, normalise)).sum())
    exact = ExactBounds(posterior, codes, k)
    assert integral == pytest.approx(exact.infinite(unnormalized=not normalise), abs=1e-8)
    assert integral == pytest.approx(expected, rel=3e-9)


@pytest.mark.parametrize("seed", range(3))
def test_bound_of_exact_conditionals_is_the_likelihood(seed: int) -> None:
    joint = _joint(seed=seed)
    posterior = exact_conditionals(joint)
    for image in ((0, 1, 2), (2, 2, 0)):
        exact = ExactBounds(posterior, torch.tensor(image), 3)
        truth = -math.log(float(joint[image]))
        assert exact.infinite() == pytest.approx(truth, abs=1e-12)
        assert exact.any_order_nll() == pytest.approx(truth, abs=1e-12)


def test_infinite_bound_weighs_every_subset_by_its_place_in_random_orders() -> None:
    """L1_inf = sum_S (|S| - 1)! (N - |S|)! / N! CE_S."""
    exact = ExactBounds(toy_b, B_CODES, B_K)
    total = sum(
        math.factorial(size - 1) * math.factorial(4 - size) / math.factorial(4) * ce
        for size, ce in zip(exact.sizes[1:].tolist(), exact.ce[1:].tolist())
    )
    assert total == pytest.approx(exact.infinite(), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_chain_of_exact_conditionals_is_a_distribution_that_nears_the_joint(steps: int) -> None:
    joint = _joint(n=2, k=3)
    posterior = exact_conditionals(joint)

    def distance(t: int) -> float:
        chance = {
            image: math.exp(-ExactBounds(posterior, torch.tensor(image), 3).chain_nll(LINEAR, t))
            for image in itertools.product(range(3), repeat=2)
        }
        assert sum(chance.values()) == pytest.approx(1.0, abs=1e-12)
        return sum(abs(chance[image] - float(joint[image])) for image in chance)

    # Both positions leave in one step with probability 1/T, otherwise one sees the other.
    assert distance(steps) == pytest.approx(distance(1) / steps, rel=1e-9)


def test_normalized_loss_is_cross_entropy_with_another_weight() -> None:
    """1 + alpha w per image and nothing else, value and gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 5, generator=generator, dtype=torch.float64).requires_grad_()
    targets, image = torch.randint(5, (9,), generator=generator), torch.arange(9) % 3
    weight = torch.tensor([0.4, 2.0, 7.0], dtype=torch.float64)
    loss = d3diff_loss(logits, targets, image, weight, 6, D3DiffConfig(alpha=0.01)).loss
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    plain = ((1 + 0.01 * weight)[image] * ce).sum() / (3 * 6)
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=1e-12)
    one, other = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, plain))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_only_the_unnormalised_score_has_a_gradient_of_its_own() -> None:
    """For one m all softmax modes have parallel gradients; the unnormalised one also moves the mass Z."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    targets, image = torch.randint(5, (6,), generator=generator), torch.zeros(6, dtype=torch.int64)
    found = {}
    for mode in ("normalized", "reference", "unnormalized"):
        leaf = logits.clone().requires_grad_()
        config = D3DiffConfig(mode=mode, terms="score", score_source="logits")
        loss = d3diff_loss(leaf, targets, image, torch.ones(1), 8, config).loss
        (found[mode],) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(found["reference"], found["normalized"], rtol=0, atol=1e-10)
    # a softmax gradient sums to 0 over codes; the mass term adds (Z - 1) c
    excess = found["unnormalized"] - found["normalized"]
    z = logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(excess, (z - 1) * logits.softmax(1) / 8, rtol=0, atol=1e-10)


def test_show_o_mean_is_offered_for_parity_and_is_the_mean_over_masked_positions() -> None:
    generator = torch.Generator().manual_seed(2)
    full = torch.randn(7, 9, generator=generator, dtype=torch.float64)
    targets = torch.randint(5, (7,), generator=generator)
    everything = torch.nn.functional.cross_entropy(full, targets + 4)
    torch.testing.assert_close(masked_mean_cross_entropy(full[:, 4:], targets, full.logsumexp(1)), everything)
    codes = torch.nn.functional.cross_entropy(full[:, 4:], targets)
    torch.testing.assert_close(masked_mean_cross_entropy(full[:, 4:], targets), codes)
    z = full[:, 4:].softmax(1).sum(1).log() + full[:, 4:].logsumexp(1) - full.logsumexp(1)  # log Z of the code rows
    torch.testing.assert_close(everything, codes - z.mean())


def test_show_o_mean_is_below_the_likelihood_it_would_have_to_bound() -> None:
    """Toy A: 0.4895496325 under the arcsine counts, where -log p is 0.9942522733."""
    exact, mean = ExactBounds(toy_a, A_CODES, A_K), 0.0
    law = [2 / math.pi * math.asin(1.5 / 2), 1 - 2 / math.pi * math.asin(1.5 / 2)]  # P(1), P(2) of N = 2
    for subset in ((True, False), (False, True), (True, True)):
        mask = torch.tensor(subset)
        logits = toy_a(A_CODES.masked_fill(mask, A_K)[None])[0][mask]
        share = law[int(mask.sum()) - 1] / (2 if int(mask.sum()) == 1 else 1)
        mean += share * float(masked_mean_cross_entropy(logits, A_CODES[mask]))
    assert mean == pytest.approx(0.4895496325, abs=1e-8)
    assert mean < exact.any_order_nll()
