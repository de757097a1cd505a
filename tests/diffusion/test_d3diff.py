"""The D3Diff loss: golden numbers, score identities, and the forms the paper's ablation needs."""

from __future__ import annotations

import math

import pytest
import torch
from diffusion_toys import A_CODES, A_K, B_CODES, B_K, toy_a, toy_b
from torch import Tensor

from unif2ace_core.diffusion.d3diff import (
    MASK_LAWS,
    D3DiffConfig,
    d3diff_loss,
    denoising_score_entropy,
    draw_mask,
)
from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    arcsine_law,
    count_weights,
    step_probabilities,
    uniform_law,
)
from unif2ace_core.errors import UserError

POINT = torch.tensor([[0.2, -1.0, 0.7]], dtype=torch.float64)
TARGET = torch.tensor([2])
ONE = torch.zeros(1, dtype=torch.int64)


def _random(rows: int = 12, k: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `(M, K)`, targets `(M,)` and image indices `(M,)` of three images."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, k, generator=generator, dtype=torch.float64)
    return logits, torch.randint(k, (rows,), generator=generator), torch.arange(rows) % 3


def _score_only(mode: str, logits: Tensor, m: float) -> Tensor:
    config = D3DiffConfig(mode=mode, terms="score", score_source="logits")
    probability = torch.tensor([m], dtype=torch.float64)
    return d3diff_loss(logits, TARGET, ONE, torch.ones(1), 1, config, mask_probability=probability).loss


# The columns: m, r, then DSE with s = r c, s = r exp(logit), s = c / m, and 1 + r log(1 - m).
@pytest.mark.parametrize(
    "m, r, normalized, unnormalized, reference, constant",
    [
        (0.25, 3, 1.74532956, 5.70910472, 1.882283343, 0.1369537826),
        (0.5, 1, 0.58177652, 1.903034907, 0.8886293394, 0.3068528194),
        (0.9, 0.1111111111, 0.06464183555, 0.211448323, 0.8087990474, 0.7441572119),
    ],
)
def test_score_entropy_of_one_position_is_the_published_one(
    m, r, normalized, unnormalized, reference, constant
) -> None:
    ratio = torch.tensor([(1 - m) / m], dtype=torch.float64)
    assert float(ratio) == pytest.approx(r, rel=1e-9)
    c = POINT.softmax(dim=1)
    for score, expected in ((ratio * c, normalized), (ratio * POINT.exp(), unnormalized), (c / m, reference)):
        assert float(denoising_score_entropy(score, TARGET, ratio)) == pytest.approx(expected, abs=1e-8)
    modes = (("normalized", normalized), ("unnormalized", unnormalized))
    for mode, expected in modes:
        assert float(ratio * _score_only(mode, POINT, m)) == pytest.approx(expected, abs=1e-8)
    assert 1 + float(ratio) * math.log(1 - m) == pytest.approx(constant, abs=1e-8)
    if m <= 0.5:  # the loss caps m at 1 - 1/(2N), 0.5 for N = 1
        assert float(ratio * _score_only("reference", POINT, m)) == pytest.approx(reference, abs=1e-8)


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("normalized", (0.33899276, 0.10210266, -0.44109542)),
        ("reference", (0.33899276, 0.10210266, -0.44109542)),
        ("unnormalized", (1.22140276, 0.36787944, 1.01375271)),
    ],
)
def test_gradient_of_one_position_is_the_published_one(mode: str, expected: tuple[float, ...]) -> None:
    logits = POINT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_score_only(mode, logits, 0.5), logits)
    assert gradient[0].tolist() == pytest.approx(expected, abs=1e-8)


def test_softmax_over_more_rows_gives_the_published_score_term() -> None:
    full = torch.tensor([0.3, -0.2, 1.1, 0.4, -0.5, 0.9], dtype=torch.float64)
    config = D3DiffConfig(mode="unnormalized", terms="score")
    target, log_total = torch.tensor([1]), full.logsumexp(0)[None]
    terms = d3diff_loss(full[None, 2:], target, ONE, torch.ones(1), 1, config, log_total=log_total)
    assert float(terms.loss) == pytest.approx(1.65242701, abs=1e-8)
    assert float(terms.base) == pytest.approx(1.623152168, abs=1e-8)
    z = float((full[2:].logsumexp(0) - log_total).exp())
    assert z == pytest.approx(0.7771397301, abs=1e-8)
    assert float(terms.base) - math.log(z) == pytest.approx(1.87528728, abs=1e-8)


@pytest.mark.parametrize("m", [0.1, 0.5, 0.95])
def test_score_entropy_of_a_softmax_is_weighted_cross_entropy(m: float) -> None:
    logits, targets, _ = _random()
    ratio = torch.full((12,), (1 - m) / m, dtype=torch.float64)
    entropy = denoising_score_entropy(ratio[:, None] * logits.softmax(dim=1), targets, ratio)
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(entropy, ratio * ce, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [0.1, 0.5, 0.95])
def test_unnormalised_score_pays_for_its_mass(m: float) -> None:
    logits, targets, _ = _random(seed=1)
    ratio = torch.full((12,), (1 - m) / m, dtype=torch.float64)
    entropy = denoising_score_entropy(ratio[:, None] * logits.exp(), targets, ratio)
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    z = logits.exp().sum(dim=1)
    torch.testing.assert_close(entropy, ratio * (ce + z - 1 - z.log()), rtol=1e-12, atol=1e-12)
    assert bool((entropy >= ratio * ce - 1e-12).all())


def test_reference_mode_differs_from_normalized_by_a_constant_only() -> None:
    logits, targets, image = _random(seed=2)
    m, n = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64), 6
    values, gradients = [], []
    for mode in ("normalized", "reference"):
        leaf = logits.clone().requires_grad_()
        weight = torch.tensor([1.3, 0.7, 0.2], dtype=torch.float64)
        config = D3DiffConfig(mode=mode, terms="score")
        loss = d3diff_loss(leaf, targets, image, weight, n, config, mask_probability=m).loss
        values.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-10)
    ratio = (1 - m) / m
    constant = (weight[image] * ((1 + ratio * torch.log(1 - m)) / ratio)[image]).sum() / (3 * n)
    torch.testing.assert_close(values[1] - values[0], constant, rtol=1e-12, atol=1e-12)


def test_reference_mode_is_finite_and_has_the_same_gradient_when_everything_is_masked() -> None:
    gradients = []
    for mode in ("normalized", "reference"):
        leaf = POINT.expand(4, 3).clone().requires_grad_()
        loss = d3diff_loss(
            leaf, TARGET.expand(4), ONE.expand(4), torch.ones(1), 4, D3DiffConfig(mode=mode, alpha=0.5)
        ).loss
        assert bool(loss.isfinite())
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-10)


def _subset_losses(posterior, codes: Tensor, k: int, mode: str, weights: Tensor) -> list[tuple[int, float]]:
    """(|S|, N times the loss with weight weights[|S| - 1]) of every subset S of one toy image."""
    n, result = codes.shape[0], []
    for subset in range(1, 2**n):
        mask = torch.tensor([bool(subset >> i & 1) for i in range(n)])
        logits = posterior(codes.masked_fill(mask, k)[None])[0][mask]
        size = int(mask.sum())
        config = D3DiffConfig(mode=mode, score_source="logits")
        image, weight = torch.zeros(size, dtype=torch.int64), weights[size - 1 : size]
        result.append((size, n * float(d3diff_loss(logits, codes[mask], image, weight, n, config).loss)))
    return result


@pytest.mark.parametrize(
    "schedule, steps, normalized, unnormalized",
    [
        (LinearSchedule(), 1, 1.216012532, 1.221012532),
        (LinearSchedule(), 4, 2.760087968, 2.763400468),
        (CosineSchedule(), 2, 1.980224167, 1.984292186),
        (CosineSchedule(), 8, 6.275920374, 6.279016239),
    ],
)
def test_summed_discrete_objective_is_the_published_one_on_toy_a(schedule, steps, normalized, unnormalized) -> None:
    m, u = step_probabilities(schedule, steps)
    for mode, expected in (("normalized", normalized), ("unnormalized", unnormalized)):
        total = 0.0
        for m_k, u_k in zip(m.tolist(), u):
            losses = _subset_losses(toy_a, A_CODES, A_K, mode, u_k.expand(2))
            total += sum(m_k**size * (1 - m_k) ** (2 - size) * loss for size, loss in losses)
        assert total == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("law, expected", [(uniform_law, 5.477025366), (arcsine_law, 5.755855193)])
def test_expected_count_objective_is_the_published_one_on_toy_b(law, expected: float) -> None:
    p = law(4)
    losses = _subset_losses(toy_b, B_CODES, B_K, "normalized", count_weights(p))
    total = sum(float(p[size - 1]) / math.comb(4, size) * loss for size, loss in losses)
    # Both published values are E[CE_S] + alpha L1 with alpha = 0.01.
    assert total == pytest.approx(expected, abs=1e-8)


def test_loss_is_the_mean_over_images_divided_by_all_positions() -> None:
    logits, targets, image = _random(seed=3)
    weight, n = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64), 7
    terms = d3diff_loss(logits, targets, image, weight, n, D3DiffConfig(alpha=0.25))
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    by_image = torch.stack([ce[image == b].sum() for b in range(3)])
    torch.testing.assert_close(terms.image_ce, by_image)
    torch.testing.assert_close(terms.loss, ((1 + 0.25 * weight) * by_image).mean() / n)
    torch.testing.assert_close(terms.loss, terms.base + 0.25 * terms.score)


def test_mean_over_masked_positions_would_not_be_a_bound() -> None:
    mean = 0.0
    for size, loss in _subset_losses(toy_a, A_CODES, A_K, "normalized", torch.zeros(2)):
        mean += float(arcsine_law(2)[size - 1]) / math.comb(2, size) * loss / size
    assert mean == pytest.approx(0.4895496325, abs=1e-8)  # the true value is 0.9942522733


@pytest.mark.parametrize("mode", ["normalized", "unnormalized", "reference"])
def test_terms_select_the_ablations(mode: str) -> None:
    logits, targets, image = _random(seed=4)
    weight = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
    loss = {
        name: d3diff_loss(logits, targets, image, weight, 8, D3DiffConfig(mode=mode, terms=name, score_source="logits"))
        for name in ("both", "mask", "score")
    }
    torch.testing.assert_close(loss["mask"].loss, loss["both"].base)
    torch.testing.assert_close(loss["score"].loss, loss["both"].score)
    torch.testing.assert_close(loss["both"].loss, loss["mask"].loss + 0.01 * loss["score"].loss)


def test_images_without_masks_add_nothing() -> None:
    weight = torch.tensor([2.0, 1e16])
    terms = d3diff_loss(POINT.float(), TARGET, ONE, weight, 4)
    alone = d3diff_loss(POINT.float(), TARGET, ONE, weight[:1], 4)
    assert float(terms.loss) == pytest.approx(float(alone.loss) / 2)
    empty = d3diff_loss(torch.empty(0, 3), torch.empty(0).long(), torch.empty(0).long(), weight, 4)
    assert float(empty.loss) == 0.0


def test_normalized_mode_is_one_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> Tensor:
        raise AssertionError("needs a second pass over the logits")

    monkeypatch.setattr(torch, "logsumexp", forbidden)
    monkeypatch.setattr(Tensor, "softmax", forbidden)
    logits, targets, image = _random(seed=5)
    d3diff_loss(logits.requires_grad_(), targets, image, torch.ones(3), 8).loss.backward()


@pytest.mark.parametrize("law", MASK_LAWS)
def test_drawn_masks_estimate_the_bound_without_bias(law: str) -> None:
    codes = B_CODES.expand(60_000, 4)
    drawn = draw_mask(codes, torch.Generator().manual_seed(0), LinearSchedule(), law, mask_id=B_K, steps=8)
    image, targets = drawn.mask.nonzero()[:, 0], codes[drawn.mask]
    logits = toy_b(drawn.codes)[drawn.mask]
    terms = d3diff_loss(logits, targets, image, drawn.weight, 4)
    expected = 8.753755744 if law == "discrete" else 8.831079545
    tolerance = 0.25 if law == "bernoulli" else 0.06
    assert 4 * float(terms.score) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("law", MASK_LAWS)
def test_masking_hides_exactly_the_masked_codes_and_keeps_its_input(law: str) -> None:
    codes = torch.randint(8192, (6, 64), generator=torch.Generator().manual_seed(0))
    before = codes.clone()
    first, again = (
        draw_mask(codes, torch.Generator().manual_seed(5), law=law, mask_id=8192, steps=8) for _ in range(2)
    )
    assert torch.equal(codes, before) and torch.equal(first.codes, again.codes)
    assert torch.equal(first.codes == 8192, first.mask)
    assert torch.equal(first.codes[~first.mask], codes[~first.mask])
    assert first.weight.shape == (6,) and bool(first.weight.isfinite().all())
    assert bool(((first.mask_probability > 0) & (first.mask_probability <= 1)).all())


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="arcsine, uniform, bernoulli, discrete"):
        draw_mask(A_CODES[None], torch.Generator(), law="gauss", mask_id=3)
    with pytest.raises(UserError, match="normalized, unnormalized, reference"):
        D3DiffConfig(mode="other")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="alpha"):
        D3DiffConfig(alpha=-1)
    with pytest.raises(UserError, match="log_total"):
        d3diff_loss(POINT, TARGET, ONE, torch.ones(1), 1, D3DiffConfig(mode="unnormalized"))
