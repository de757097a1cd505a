"""Samplers: their laws on an enumerable toy, their counts and orders, seeds, known codes and user errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from diffusion_toys import A_K, toy_a
from torch import Tensor

from unif2ace_core.diffusion import samplers
from unif2ace_core.diffusion.orders import centred_rank, halton_rank
from unif2ace_core.diffusion.samplers import (
    SAMPLERS,
    MaskGit,
    Moment,
    ReMDM,
    RowNoise,
    Step,
    annealed,
    cooled,
    draw_codes,
    fixed_rank,
    highest,
    masks_kept,
    sample,
)
from unif2ace_core.diffusion.schedule import CosineSchedule, LinearSchedule
from unif2ace_core.errors import UserError

K, N = 11, 16
# Show-o keeps one more mask in its last step and returns the draws anyway; here the last count is 0.
COUNTS = {
    (256, 8): "251 236 212 181 142 97 49 0",
    (256, 12): "253 247 236 221 203 181 155 127 97 66 33 0",
    (256, 16): "254 251 244 236 225 212 197 181 162 142 120 97 74 49 25 0",
    (256, 18): "255 252 247 240 232 221 209 196 181 164 146 127 108 87 66 44 22 0",
    (64, 8): "62 59 53 45 35 24 12 0",
}


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _posterior(x: Tensor) -> Tensor:
    """Logits `(B, N, K)` that depend on the whole row, deterministically and row by row."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(K + 1, N, K, generator=generator, dtype=torch.float64)
    return table[x.roll(1, dims=1), torch.arange(N)] + table[x.roll(4, dims=1), torch.arange(N)]


def _run(name: str, seeds: tuple[int, ...], steps: int = 6, posterior=_posterior, **more) -> Tensor:
    generators = _generators(*seeds)
    return sample(name, posterior, codes=K, positions=N, generators=generators, steps=steps, **more)


def _chi_square(samples: Tensor, law: list[float]) -> float:
    """Pearson's statistic of toy A images `(B, 2)` against their nine probabilities."""
    observed = torch.bincount(samples[:, 0] * 3 + samples[:, 1], minlength=9).double()
    expected = torch.tensor(law, dtype=torch.float64) * samples.shape[0]
    return float(((observed - expected) ** 2 / expected).sum())


LINEAR_2 = [0.075, 0.085, 0.335, 0.065, 0.09, 0.135, 0.075, 0.045, 0.095]
COSINE_2 = [
    *(0.07928932188, 0.08757359313, 0.3289949494),
    *(0.06414213562, 0.08485281374, 0.1427207794),
    *(0.06899494937, 0.04414213562, 0.09928932188),
]
INFINITE = [0.05, 0.07, 0.37, 0.07, 0.12, 0.09, 0.11, 0.05, 0.07]


@pytest.mark.parametrize(
    "name, schedule, steps, law",
    [
        ("ancestral", LinearSchedule(), 2, LINEAR_2),
        ("ancestral", CosineSchedule(), 2, COSINE_2),
        ("ancestral", LinearSchedule(), 100, None),
        ("first_hitting", None, 1, INFINITE),
    ],
)
def test_samples_follow_the_published_law(name, schedule, steps, law) -> None:
    count = 20_000 if law else 2_000
    generators = _generators(*range(count))
    x = sample(
        name,
        toy_a,
        codes=A_K,
        positions=2,
        generators=generators,
        steps=steps,
        schedule=schedule,
        grid=(1, 2),
    )
    # 8 degrees of freedom: 31.8 is exceeded once in 10,000 seeds.
    assert _chi_square(x, law or INFINITE) < 31.8


@pytest.mark.parametrize("name", ["maskgit", "moment"])
def test_confidence_samplers_do_not_follow_it(name: str) -> None:
    x = sample(name, toy_a, codes=A_K, positions=2, generators=_generators(*range(4000)), steps=2)
    assert _chi_square(x, LINEAR_2) > 31.8


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 6, 40])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_position_is_revealed_in_the_end(name: str, steps: int, temperature: float) -> None:
    x = _run(name, (0, 1, 2), steps, temperature=temperature)
    assert x.shape == (3, N) and x.dtype == torch.int64
    assert bool(((x >= 0) & (x < K)).all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_row_for_any_batch(name: str) -> None:
    together = _run(name, (5, 6, 7))
    assert torch.equal(together, _run(name, (5, 6, 7)))
    assert torch.equal(together[1:2], _run(name, (6,)))
    assert torch.equal(together[[2, 0]], _run(name, (7, 5)))
    assert not torch.equal(together, _run(name, (8, 9, 10)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_row_with_known_codes_does_not_disturb_its_neighbours(name: str) -> None:
    known = torch.full((2, N), K)
    known[0, 3:] = 1
    mixed = _run(name, (5, 6), known=known)
    assert torch.equal(mixed[1:], _run(name, (6,)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("unknown", [0, 1, 5])
def test_known_codes_are_kept_and_inputs_stay_untouched(name: str, unknown: int) -> None:
    known = torch.arange(N).remainder(K).repeat(2, 1)
    known[:, :unknown] = K
    before = known.clone()
    x = _run(name, (0, 1), known=known)
    assert torch.equal(known, before)
    assert torch.equal(x[:, unknown:], before[:, unknown:]) and bool((x < K).all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_posterior_may_scribble_on_its_input_or_answer_masked_positions_only(name: str) -> None:
    def scribble(x: Tensor) -> Tensor:
        logits = _posterior(x)
        x.zero_()
        return logits

    plain = _run(name, (3, 4))
    assert torch.equal(_run(name, (3, 4), posterior=scribble), plain)
    assert torch.equal(_run(name, (3, 4), posterior=lambda x: _posterior(x)[x == K]), plain)


@pytest.mark.parametrize("name", ["maskgit", "halton"])
def test_zero_temperature_does_not_depend_on_the_seed(name: str) -> None:
    assert torch.equal(_run(name, (1,), temperature=0.0), _run(name, (2,), temperature=0.0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_greedy_step_is_the_argmax(name: str) -> None:
    def context_free(x: Tensor) -> Tensor:
        return _posterior(torch.full_like(x, K))

    expected = context_free(torch.full((1, N), K)).argmax(dim=2)
    assert torch.equal(_run(name, (1,), 1, context_free, temperature=0.0), expected)


@pytest.mark.parametrize("size, steps", COUNTS)
@pytest.mark.parametrize("name", ["maskgit", "halton", "moment"])
def test_mask_counts_are_those_of_show_o(name: str, size: int, steps: int) -> None:
    seen: list[int] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(int((x == 3).sum()))
        return torch.zeros(1, size, 3)  # all confidences tie, which must not change a count

    sample(name, spy, codes=3, positions=size, generators=_generators(0), steps=steps, temperature=0.0)
    expected = [size, *map(int, COUNTS[size, steps].split())]
    assert seen == expected[:-1]


def _step(index: int, total: int, positions: int = 4, temperature: float = 1.0) -> Step:
    known = torch.zeros(1, positions, dtype=torch.bool)
    return Step(index, total, 3, temperature, CosineSchedule(), (1, positions), known)


def test_more_steps_than_positions_reveal_one_at_a_time() -> None:
    masked, counts = torch.tensor([4]), []
    for index in range(8):
        masked = masks_kept(masked, _step(index, 8))
        counts.append(int(masked))
    assert counts == [3, 2, 1, 0, 0, 0, 0, 0]


def test_show_o_annealing_is_cumulative_and_ours_linear() -> None:
    assert annealed("showo", _step(3, 16)) == pytest.approx(0.4999, abs=1e-4)
    assert annealed("showo", _step(7, 16)) == pytest.approx(0.0604, abs=1e-4)
    assert annealed("linear", _step(3, 16, temperature=2.0)) == pytest.approx(1.5)
    assert annealed("linear", _step(15, 16)) == annealed("showo", _step(15, 16)) == 0.0
    assert annealed("constant", _step(15, 16)) == 1.0


def test_temperature_falls_in_a_line_around_the_one_given() -> None:
    assert [cooled(0.9, 0.5, index, 5) for index in range(5)] == pytest.approx([1.35, 1.125, 0.9, 0.675, 0.45])
    assert cooled(0.9, 0.5, 0, 1) == 0.9
    assert [cooled(0.0, 1.0, index, 3) for index in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_cools(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = SAMPLERS[name].step
    monkeypatch.setattr(SAMPLERS[name], "step", lambda *args: (seen.append(args[3].temperature), original(*args))[1])
    _run(name, (1,), cooling=0.2)
    assert seen[0] == pytest.approx(1.2) and seen[-1] == pytest.approx(0.8) and seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("name", ["maskgit", "moment"])
def test_a_last_step_that_is_cooled_to_nothing_still_draws(name: str) -> None:
    def flat(x: Tensor) -> Tensor:
        return torch.zeros(*x.shape, K)  # the argmax is the first code

    assert len(_run(name, (1,), 1, flat, temperature=0.0).unique()) == 1
    assert len(_run(name, (1,), 2, flat, cooling=1.0).unique()) > 2


def test_show_o_form_of_maskgit_is_an_option() -> None:
    showo = {"anneal": "showo", "greedy_draws": False}
    assert not torch.equal(_run("maskgit", (1,), options=showo), _run("maskgit", (1,)))
    cold = _run("maskgit", (1, 2), temperature=0.0, options=showo)
    assert not torch.equal(cold[0], cold[1])


@pytest.mark.parametrize("name, rank", [("halton", halton_rank), ("halton_centred", centred_rank)])
def test_samplers_with_a_fixed_order_reveal_in_it(name: str, rank: Callable[[int, int], Tensor]) -> None:
    seen: list[list[int]] = []

    def spy(x: Tensor) -> Tensor:
        seen.append((x[0] != 3).nonzero()[:, 0].tolist())
        return torch.zeros(1, 64, 3)

    sample(name, spy, codes=3, positions=64, generators=_generators(0), steps=8)
    order = rank(8, 8).argsort()
    assert torch.equal(fixed_rank(name, (8, 8)), rank(8, 8))
    for visible in seen:
        assert visible == sorted(order[: len(visible)].tolist())


def test_samplers_that_choose_where_to_draw_have_no_rank() -> None:
    assert {name for name in SAMPLERS if fixed_rank(name, (2, 2)) is None} == set(SAMPLERS) - {
        "halton",
        "halton_centred",
    }


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_euler_is_ancestral_on_the_linear_schedule(steps: int) -> None:
    linear = LinearSchedule()
    assert torch.equal(
        _run("euler", (1, 2, 3), steps, schedule=linear), _run("ancestral", (1, 2, 3), steps, schedule=linear)
    )


def test_euler_on_the_cosine_schedule_wastes_a_step_and_finishes_with_a_full_draw() -> None:
    seen: list[int] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(int((x == 3).sum()))
        return torch.zeros(1, 4096, 3)

    x = sample("euler", spy, codes=3, positions=4096, generators=_generators(0), steps=4)
    assert seen[:2] == [4096, 4096] and len(seen) == 5 and bool((x < 3).all())
    assert seen[4] / seen[3] == pytest.approx(1 - 0.948059449, abs=0.02)


def test_first_hitting_reveals_one_position_per_call_in_a_random_order() -> None:
    seen: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x == K)
        return _posterior(x)

    _run("first_hitting", (1, 2), 3, spy)
    assert [mask.sum(dim=1).tolist() for mask in seen] == [[count, count] for count in range(N, 0, -1)]
    assert not torch.equal(seen[4][0], seen[4][1])


@pytest.mark.parametrize("rule", ["rescale", "cap"])
@pytest.mark.parametrize("eta", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_remasking_keeps_the_marginals(schedule, eta: float, rule) -> None:
    m = schedule.mask_probability(torch.linspace(1, 0, 9, dtype=torch.float64)).tolist()
    visible = 0.0
    for m_t, m_s in itertools.pairwise(m):
        sigma, probability = ReMDM(eta, rule).probabilities(m_t, m_s)
        assert 0 <= sigma <= 1 and -1e-12 <= probability <= 1 + 1e-12
        visible = (1 - sigma) * visible + probability * (1 - visible)
        assert visible == pytest.approx(1 - m_s, abs=1e-12)


def test_remdm_without_remasking_is_ancestral_and_with_it_remasks() -> None:
    assert torch.equal(_run("remdm", (1, 2), options={"eta": 0.0}), _run("ancestral", (1, 2)))
    seen: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x == K)
        return _posterior(x)

    _run("remdm", (1, 2, 3, 4), 12, spy, options={"eta": 1.0})
    assert any(bool((later & ~earlier).any()) for earlier, later in itertools.pairwise(seen))


@pytest.mark.parametrize("sampler", [MaskGit(anneal="constant"), Moment(anneal="constant")])
def test_maskgit_and_moment_reveal_sharpened_codes(sampler: MaskGit | Moment) -> None:
    """Codes revealed early follow c^(1 + 1/tau): confidence selection is a hidden temperature below one."""
    c, rows, positions, tau = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 1500, 400, 1.0
    x = torch.full((rows, positions), 3)
    step = _step(0, 20, positions, tau)
    logits = c.log().expand(rows * positions, 3)
    after = sampler.step(x, logits, step, RowNoise(_generators(*range(rows)), x.device))
    revealed = after[after != 3]
    assert len(revealed) == 2 * rows  # 398 = floor(400 cos(pi / 40)) stay masked
    observed = torch.bincount(revealed, minlength=3) / len(revealed)
    torch.testing.assert_close(observed.double(), c**2 / (c**2).sum(), rtol=0, atol=0.03)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_device_without_float64_gives_the_images_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return _posterior(x).float()

    expected = _run(name, (1, 2), posterior=lambda x: _posterior(x).float())
    monkeypatch.setattr(samplers, "WITHOUT_FLOAT64", ("cpu",))
    assert torch.equal(_run(name, (1, 2), posterior=spy, device="cpu"), expected)
    assert set(seen) == {torch.int64}


def test_only_the_posterior_runs_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "WITHOUT_FLOAT64", ("meta",))
    posterior, device = samplers.with_float64(lambda x: x.new_zeros(0), torch.device("meta"))
    assert device == torch.device("cpu")
    assert samplers.with_float64(posterior, torch.device("cuda")) == (posterior, torch.device("cuda"))


def test_inversion_draws_each_code_with_its_probability() -> None:
    p = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn, log_p = draw_codes(p.log().expand(10_000, 6), uniform, 1.0)
    assert torch.bincount(drawn, minlength=6).tolist() == pytest.approx([0, 5000, 0, 3000, 2000, 0], abs=1)
    torch.testing.assert_close(log_p, p.log()[drawn])


def test_inversion_never_draws_an_impossible_code_at_the_ends() -> None:
    logits = torch.tensor([[-math.inf, 0.0, 0.3, -math.inf]]).expand(2, 4)
    drawn, _ = draw_codes(logits, torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64), 1.0)
    assert drawn.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["ancestral", "halton", "first_hitting", "remdm", "euler"])
def test_low_temperature_sharpens_the_draws(name: str) -> None:
    def flat(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(*x.shape, 3)

    rates = [
        float(
            (
                sample(
                    name,
                    flat,
                    codes=3,
                    positions=400,
                    generators=_generators(0),
                    steps=4,
                    temperature=temperature,
                )
                == 0
            )
            .double()
            .mean()
        )
        for temperature in (0.25, 1.0)
    ]
    assert rates[0] == pytest.approx(0.965, abs=0.03) and rates[1] == pytest.approx(0.576, abs=0.08)


def test_ties_never_change_how_many_are_chosen() -> None:
    mask = torch.tensor([[True] * 6, [True, False] * 3])
    priority = torch.full((9,), -math.inf)
    assert highest(mask, priority, torch.tensor([4, 2])).sum(dim=1).tolist() == [4, 2]


def test_progress_is_reported() -> None:
    told: list[tuple[int, int]] = []
    _run("maskgit", (0,), 3, on_step=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_half_precision_logits_are_accepted() -> None:
    assert bool((_run("maskgit", (0,), posterior=lambda x: _posterior(x).bfloat16()) < K).all())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "gibbs"}, "maskgit, ancestral, euler, first_hitting, remdm, halton, halton_centred, moment"),
        ({"steps": 0}, "at least 1 step"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"cooling": 1.1}, "cooling must be a share"),
        ({"cooling": math.nan}, "cooling must be a share"),
        ({"grid": (3, 5)}, "3 x 5 does not hold 16"),
        ({"generators": []}, "one generator per image"),
        ({"known": torch.zeros(2, N, dtype=torch.int64)}, "one row per image"),
        ({"known": torch.full((1, N), -1)}, "0..10"),
        ({"options": {"eta": 0.3}}, "no option 'eta'; it has: anneal, greedy_draws"),
        ({"options": {"anneal": "fast"}}, "linear, showo, constant"),
        ({"name": "remdm", "options": {"eta": 2.0}}, "eta must be in 0..1"),
        ({"posterior": lambda x: torch.full((1, N, K), math.nan)}, "not finite"),
    ],
)
def test_mistakes_are_named(change: dict, message: str) -> None:
    arguments = {"name": "maskgit", "posterior": _posterior, "codes": K, "positions": N, "steps": 4}
    arguments["generators"] = _generators(0)
    arguments.update(change)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        sample(arguments.pop("name"), arguments.pop("posterior"), **arguments)


def test_posterior_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="masked positions"):
        _run("maskgit", (0,), posterior=lambda x: torch.zeros(1, N, K + 1))
