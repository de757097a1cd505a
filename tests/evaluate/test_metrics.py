"""Metrics: closed forms, known values, and what a metric has to do at its extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.metrics import (
    balanced_accuracy,
    bootstrap_interval,
    extract,
    fid,
    frechet,
    kid,
    macro_f1,
    mean_recall,
    polynomial_mmd,
    psnr,
    ratio_interval,
    ssim,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=generator(seed)) * scale + shift


def test_balanced_accuracy_is_one_half_for_a_constant_answer() -> None:
    truth = torch.tensor([True] * 3 + [False] * 97)
    assert balanced_accuracy(torch.zeros(100, dtype=torch.bool), truth) == 0.5
    assert balanced_accuracy(truth, truth) == 1.0
    assert balanced_accuracy(~truth, truth) == 0.0


def test_balanced_accuracy_of_one_class_is_unknown() -> None:
    ones = torch.ones(4, dtype=torch.bool)
    assert math.isnan(balanced_accuracy(ones, ones))


def test_mean_recall_counts_each_value_alike_and_no_answer_as_wrong() -> None:
    truth = ["a"] * 8 + ["b"] * 2
    assert mean_recall(["a"] * 8 + ["b", None], truth) == pytest.approx(0.75)
    assert mean_recall([None] * 10, truth) == 0.0


def test_mean_recall_of_two_values_is_balanced_accuracy() -> None:
    truth = torch.rand(60, generator=generator(1)) < 0.3
    said = torch.rand(60, generator=generator(2)) < 0.5
    words = [["no", "yes"][int(v)] for v in said], [["no", "yes"][int(v)] for v in truth]
    assert mean_recall(*words) == pytest.approx(balanced_accuracy(said, truth))


def test_macro_f1_known_value() -> None:
    # a: precision 1/2, recall 1 -> 2/3; b: recall 1/2, precision 1 -> 2/3; c is never there
    assert macro_f1(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"]) == pytest.approx(2 / 3)


def test_bootstrap_interval_holds_the_mean_and_shrinks_with_n() -> None:
    widths = []
    for n in (50, 5000):
        values = normal(n, 1, 3).squeeze(1)
        low, high = bootstrap_interval([values], generator())
        assert low < float(values.mean()) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5
    assert widths[0] == pytest.approx(2 * 1.96 / math.sqrt(50), rel=0.25)


def test_bootstrap_interval_weighs_strata_alike() -> None:
    low, high = bootstrap_interval([torch.ones(1000), torch.zeros(10)], generator())
    assert (low, high) == (0.5, 0.5)


def test_mmd_is_unbiased_around_zero_for_one_distribution() -> None:
    values = torch.tensor([polynomial_mmd(normal(60, 8, 2 * i), normal(80, 8, 2 * i + 1)) for i in range(60)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(len(values))
    assert bool((values < 0).any())


def test_mmd_known_value() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [2.0]])
    # k(0,1)=1, k(2,2)=125, k(0,2)=1, k(1,2)=27 -> 1 + 125 - 2 * 14
    assert polynomial_mmd(x, y) == pytest.approx(98.0)


def test_kid_is_near_zero_for_one_distribution_and_grows_with_the_distance() -> None:
    x = normal(400, 16, 0)
    near, far, farther = (
        kid(x, normal(400, 16, 1, shift), generator(), subsets=10, size=200).mean for shift in (0.0, 0.5, 1.0)
    )
    assert abs(near) < 20
    assert 100 < far < farther


def test_kid_depends_on_the_generator_alone() -> None:
    x, y = normal(50, 4, 0), normal(40, 4, 1)
    assert kid(x, y, generator(5)) == kid(x, y, generator(5))
    assert kid(x, y, generator(5)).size == 40


def test_fid_of_a_set_with_itself_is_zero() -> None:
    x = normal(300, 20, 0)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_of_known_gaussians_is_the_closed_form() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 16.0])
    expected = 3.0 + float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet(torch.zeros(3), a.diag(), torch.ones(3), b.diag()) == pytest.approx(expected)


def test_frechet_does_not_change_under_rotation() -> None:
    basis = torch.linalg.qr(normal(5, 5, 0).double()).Q
    first, second = (normal(40, 5, seed).double().t().cov() for seed in (1, 2))
    zero = torch.zeros(5)
    turned = frechet(zero, basis @ first @ basis.t(), zero, basis @ second @ basis.t())
    assert turned == pytest.approx(frechet(zero, first, zero, second))


def test_fid_survives_fewer_pictures_than_features() -> None:
    assert math.isfinite(fid(normal(10, 64, 0), normal(12, 64, 1)))


def test_fid_sees_a_shift() -> None:
    assert fid(normal(2000, 4, 0), normal(2000, 4, 1, 2.0)) == pytest.approx(16.0, rel=0.1)


@pytest.mark.parametrize("metric", [fid, lambda x, y: kid(x, y, generator())])
def test_one_picture_is_refused_in_words(metric) -> None:
    with pytest.raises(UserError, match="at least 2"):
        metric(torch.zeros(1, 3), torch.zeros(9, 3))


def test_psnr_known_value() -> None:
    target = torch.zeros(2, 3, 8, 8)
    restored = target.clone()
    restored[1] += 0.2  # error 0.04 of a range of 2
    assert psnr(restored, target).tolist() == pytest.approx([106.0206, 20.0], abs=1e-3)


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    image = torch.rand(2, 3, 32, 32, generator=generator()) * 2 - 1
    assert torch.allclose(ssim(image, image), torch.ones(2), atol=1e-5)
    noise = torch.randn(image.shape, generator=generator(1))
    values = [float(ssim((image + s * noise).clamp(-1, 1), image).mean()) for s in (0.1, 0.4)]
    assert 1 > values[0] > values[1] > 0


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    x, y = torch.full((1, 1, 16, 16), 0.5), torch.full((1, 1, 16, 16), -0.2)
    expected = (2 * 0.5 * -0.2 + 4e-4) / (0.25 + 0.04 + 4e-4)
    assert float(ssim(x, y)) == pytest.approx(expected, abs=1e-4)


def test_extract_does_not_depend_on_the_batch_size_and_takes_pixels() -> None:
    pixels = torch.randint(0, 256, (7, 8, 8, 3), generator=generator(), dtype=torch.uint8)
    features = [extract(pixels, lambda x: x.mean((2, 3)), size) for size in (2, 7)]
    assert torch.equal(*features)
    assert features[0].shape == (7, 3)
    assert float(features[0].abs().max()) <= 1


def test_ratio_interval_holds_the_ratio_and_is_unknown_without_counts() -> None:
    counts = torch.randint(1, 9, (80,), generator=generator(1))
    hits = (counts * torch.rand(80, generator=generator(2))).round()
    low, high = ratio_interval(hits, counts, generator())
    assert low < hits.sum() / counts.sum() < high
    assert ratio_interval(counts, counts, generator()) == (1.0, 1.0)
    assert all(math.isnan(bound) for bound in ratio_interval(torch.zeros(4), torch.zeros(4), generator()))
