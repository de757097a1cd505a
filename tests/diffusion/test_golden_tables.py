"""The published tables of the two toys, row by row: summed objectives, sample laws, cross-entropies, penalties."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusion_toys import A_CODES, A_K, B_CODES, B_K, toy_a, toy_b
from torch import Tensor

from unif2ace_core.diffusion import samplers
from unif2ace_core.diffusion.bounds import ExactBounds
from unif2ace_core.diffusion.d3diff import D3DiffConfig, d3diff_loss, unnormalized_penalty
from unif2ace_core.diffusion.orders import halton_order
from unif2ace_core.diffusion.samplers import RowNoise, Step
from unif2ace_core.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    arcsine_law,
    step_probabilities,
)

LINEAR, COSINE = LinearSchedule(), CosineSchedule()
TOYS = {"a": (toy_a, A_CODES, A_K), "b": (toy_b, B_CODES, B_K)}
# toy, schedule, T, then L2_T + 0.01 L1_T with the normalised and with the unnormalised score
SUMMED = [
    ("a", LINEAR, 1, 1.216012532, 1.221012532),
    ("a", LINEAR, 2, 1.712828911, 1.716703911),
    ("a", LINEAR, 4, 2.760087968, 2.763400468),
    ("a", LINEAR, 8, 4.88141923, 4.88445048),
    ("a", LINEAR, 1000, 533.1792598, 533.1820121),
    ("a", COSINE, 2, 1.980224167, 1.984292186),
    ("a", COSINE, 4, 3.425016549, 3.428451634),
    ("a", COSINE, 8, 6.275920374, 6.279016239),
    ("b", LINEAR, 1, 8.347620195, 8.445450496),
    ("b", LINEAR, 2, 12.75084589, 12.85051587),
    ("b", LINEAR, 4, 21.41873973, 21.52025007),
    ("b", LINEAR, 8, 38.68559361, 38.78825427),
    ("b", COSINE, 2, 14.39972587, 14.49786587),
    ("b", COSINE, 4, 25.52760933, 25.62804518),
    ("b", COSINE, 8, 47.30565849, 47.40771411),
]
# toy, schedule, then the integral of E[CE_S] + 0.01 L1_inf with either score
CONTINUOUS = [
    ("a", LINEAR, 0.5425243981, 0.5452743981),
    ("a", COSINE, 0.7195258691, 0.7222758691),
    ("b", LINEAR, 4.399282452, 4.503246844),
    ("b", COSINE, 5.493517785, 5.597482177),
]


def _near(expected: float) -> object:
    return pytest.approx(expected, rel=3e-9, abs=1e-9)


def _terms(toy: str, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """|S|, and N times base and score of `d3diff_loss` at weight 1, for every non-empty subset S of a toy."""
    posterior, codes, k = TOYS[toy]
    n, sizes, base, score = len(codes), [], [], []
    for subset in itertools.product((False, True), repeat=n):
        mask = torch.tensor(subset)
        size = int(mask.sum())
        if size:
            logits = posterior(codes.masked_fill(mask, k)[None])[0][mask]
            image, config = torch.zeros(size, dtype=torch.int64), D3DiffConfig(mode=mode, score_source="logits")
            weight = torch.ones(1, dtype=torch.float64)
            terms = d3diff_loss(logits, codes[mask], image, weight, n, config)
            sizes.append(size)
            base.append(n * float(terms.base))
            score.append(n * float(terms.score))
    return torch.tensor(sizes), torch.tensor(base, dtype=torch.float64), torch.tensor(score, dtype=torch.float64)


def _expected(m: Tensor, sizes: Tensor, n: int, values: Tensor) -> Tensor:
    """E over independent masks with m `(T,)` -> `(T,)`."""
    return (m[:, None] ** sizes * (1 - m[:, None]) ** (n - sizes)) @ values


@pytest.mark.parametrize("toy, schedule, steps, normalized, unnormalized", SUMMED)
def test_summed_objective_is_the_published_one(
    toy: str, schedule: Schedule, steps: int, normalized: float, unnormalized: float
) -> None:
    m, u = step_probabilities(schedule, steps)
    for mode, golden in (("normalized", normalized), ("unnormalized", unnormalized)):
        sizes, base, score = _terms(toy, mode)
        n = len(TOYS[toy][1])
        total = _expected(m, sizes, n, base).sum() + 0.01 * u @ _expected(m, sizes, n, score)
        assert float(total) == _near(golden)


@pytest.mark.parametrize("toy, schedule, normalized, unnormalized", CONTINUOUS)
def test_continuous_objective_is_the_published_one(
    toy: str, schedule: Schedule, normalized: float, unnormalized: float
) -> None:
    """The loss of independent masks at uniform times, weight m'/m, integrated over time."""
    cells = 500
    edge = torch.arange(cells, dtype=torch.float64) / cells
    offsets = (1 + torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)) / (2 * cells)
    t, share = (edge[:, None] + offsets).flatten(), torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64).repeat(cells)
    m = schedule.mask_probability(t)
    for mode, golden in (("normalized", normalized), ("unnormalized", unnormalized)):
        sizes, base, score = _terms(toy, mode)
        n = len(TOYS[toy][1])
        values = _expected(m, sizes, n, base) + 0.01 * schedule.weight(t) * _expected(m, sizes, n, score)
        assert float((share * values).sum() / (18 * cells)) == pytest.approx(golden, rel=3e-9, abs=1e-9)


LAWS = {
    "linear": "0.075 0.085 0.335 0.065 0.09 0.135 0.075 0.045 0.095",
    "cosine": (
        "0.07928932188 0.08757359313 0.3289949494 0.06414213562 0.08485281374 0.1427207794 "
        "0.06899494937 0.04414213562 0.09928932188"
    ),
    "infinite": "0.05 0.07 0.37 0.07 0.12 0.09 0.11 0.05 0.07",
}


@pytest.mark.parametrize("name", LAWS)
def test_law_of_the_chain_is_the_published_one(name: str) -> None:
    for image, golden in zip(itertools.product(range(3), repeat=2), LAWS[name].split(), strict=True):
        exact = ExactBounds(toy_a, torch.tensor(image), A_K)
        schedule = {"linear": LINEAR, "cosine": COSINE}.get(name)
        nll = exact.any_order_nll() if schedule is None else exact.chain_nll(schedule, 2)
        assert math.exp(-nll) == _near(float(golden))


def test_cross_entropies_and_penalties_of_toy_a() -> None:
    exact = ExactBounds(toy_a, A_CODES, A_K)  # row s: bit i of s says that position i is masked
    assert exact.ce[1:].tolist() == [_near(v) for v in (0.4307829161, 0.3566749439, 1.203972804)]
    assert exact.penalty[1:].tolist() == [_near(v) for v in (0.02314355131, 0.02685644869, 0.5)]
    z = torch.tensor([0.8, 1.25, 1.0], dtype=torch.float64)
    assert unnormalized_penalty(z.log())[:2].tolist() == [_near(0.02314355131), _near(0.02685644869)]
    assert float(unnormalized_penalty(z.log())[2]) == 0


def test_posterior_of_toy_b_in_a_context() -> None:
    logits = toy_b(torch.tensor([[1, B_K, 0, B_K]]))[0]
    golden = (0.3931742617, 0.04567633158, 0.5252453592, 0.03590404755)
    assert logits[1].softmax(0).tolist() == [_near(v) for v in golden]
    assert float(logits[3].exp().sum()) == _near(4.048236675)


def test_arcsine_law_of_four_positions() -> None:
    golden = (0.2447145871, 0.1850874957, 0.2484754242, 0.321722493)
    assert arcsine_law(4).tolist() == [_near(v) for v in golden]


def test_share_unmasked_by_each_euler_step_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """h m'/m on the cosine schedule: the first step does nothing, 5 % of the masks survive the last."""
    seen: list[float] = []

    def spy(x: Tensor, logits: Tensor, probability: float, step: Step, noise: RowNoise) -> Tensor:
        seen.append(probability)
        return x

    monkeypatch.setattr(samplers, "unmask_independently", spy)
    samplers.sample("euler", toy_a, codes=A_K, positions=2, generators=[torch.Generator()], steps=4, grid=(1, 2))
    assert seen[0] == pytest.approx(0.0, abs=1e-15) and seen[3] == _near(0.948059449)


@pytest.mark.parametrize("side, points", [(16, 685), (8, 79)])
def test_halton_points_that_cover_the_grid(side: int, points: int) -> None:
    """Radical inverses by digits in floating point, another way than the code's exact fractions."""

    def inverse(n: int, base: int) -> float:
        value, scale = 0.0, 1.0
        while n:
            n, digit = divmod(n, base)
            scale /= base
            value += digit * scale
        return value

    cells: list[int] = []
    for n in range(1, points + 1):
        # 1e-12: sums of powers of 1/3 may fall just below the whole number that they are
        row, column = int(side * inverse(n, 2) + 1e-12), int(side * inverse(n, 3) + 1e-12)
        if row * side + column not in cells:
            assert len(cells) < side * side
            cells.append(row * side + column)
    assert len(cells) == side * side  # and the last point was needed:
    assert cells[-1] == row * side + column
    assert cells == halton_order(side, side).tolist()
