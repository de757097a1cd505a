"""Guidance schedules: their shapes and means, their spelling, and the model guided by them step by step."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unif2ace_core.diffusion.guidance import (
    SCHEDULES,
    Constant,
    Cosine,
    GuidanceSchedule,
    Linear,
    Window,
    parse_schedule,
)
from unif2ace_core.diffusion.samplers import SAMPLERS, ProgressPosterior, sample
from unif2ace_core.errors import UserError
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tasks.generate import PromptedSpan

ALL = (Constant(), Linear(), Cosine(), Window(0.2, 0.8))
PROMPTS = {1: [3, 4, 5, 6], 2: [7]}  # by seed
G = 2.75


def shares(schedule: GuidanceSchedule, steps: int) -> list[float]:
    return [schedule.share((step + 1) / steps) for step in range(steps)]


# --- Shapes -------------------------------------------------------------------------------------------------


def test_every_schedule_is_tested() -> None:
    assert {type(schedule) for schedule in ALL} == set(SCHEDULES.values())


def test_schedules_have_the_stated_values() -> None:
    assert shares(Constant(), 4) == [1, 1, 1, 1]
    assert shares(Linear(), 4) == [0.25, 0.5, 0.75, 1]
    assert shares(Cosine(), 4) == pytest.approx([0.1464466094, 0.5, 0.8535533906, 1])
    assert shares(Window(0.25, 0.75), 4) == [0, 1, 1, 0]
    assert shares(Window(0.2, 0.8), 10) == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_growing_schedules_go_from_nothing_to_all_without_turning_back(schedule: GuidanceSchedule) -> None:
    assert schedule.share(0) == 0 and schedule.share(1) == 1
    assert all(one < next_one for one, next_one in itertools.pairwise(shares(schedule, 50)))
    assert shares(schedule, 1) == [1]  # a single step has all of it


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 64])
def test_means_are_the_stated_ones(steps: int) -> None:
    assert sum(shares(Constant(), steps)) / steps == 1
    for schedule in (Linear(), Cosine()):
        assert sum(shares(schedule, steps)) / steps == pytest.approx((steps + 1) / (2 * steps))


@pytest.mark.parametrize("start, end", [(0, 1), (0, 0.5), (0.25, 1), (0.125, 0.875)])
def test_a_window_of_whole_steps_holds_its_share_of_them(start: float, end: float) -> None:
    assert sum(shares(Window(start, end), 16)) / 16 == end - start


@pytest.mark.parametrize("steps", [2, 5, 16, 50])
def test_neighbouring_windows_share_no_step_and_leave_none_out(steps: int) -> None:
    parts = [shares(Window(start, end), steps) for start, end in ((0, 0.3), (0.3, 0.7), (0.7, 1))]
    assert [sum(step) for step in zip(*parts)] == [1] * steps


# --- Spelling -----------------------------------------------------------------------------------------------


def test_schedules_are_read_by_name() -> None:
    assert parse_schedule("constant") == Constant()
    assert parse_schedule("linear") == Linear()
    assert parse_schedule("cosine") == Cosine()
    assert parse_schedule("window:0.2-0.8") == Window(0.2, 0.8)
    assert [str(schedule) for schedule in ALL] == ["constant", "linear", "cosine", "window:0.2-0.8"]
    assert str(parse_schedule("window:0-.50")) == "window:0-0.5"


@given(st.floats(0, 1), st.floats(0, 1))
def test_every_window_is_read_as_it_is_written(one: float, other: float) -> None:
    if one != other:
        window = Window(min(one, other), max(one, other))
        assert parse_schedule(str(window)) == window


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no guidance schedule ''"),
        ("quadratic", "no guidance schedule 'quadratic'; use constant, linear, cosine or window:START-END"),
        ("Linear", "no guidance schedule 'Linear'"),
        ("window:a-b", "no guidance schedule 'window:a-b'"),
        ("window:", "no guidance schedule 'window:'"),
        ("window:-0.1-0.5", "no guidance schedule"),
        ("constant:", "no guidance schedule"),
        ("window", "'window' has 0 numbers, not 2"),
        ("window:0.5", "has 1 numbers, not 2"),
        ("window:0.1-0.2-0.3", "has 3 numbers, not 2"),
        ("linear:0.5", "has 1 numbers, not 0"),
        ("window:0.8-0.2", "'window:0.8-0.2' is no window; give 0 <= START < END <= 1"),
        ("window:0.5-0.5", "is no window"),
        ("window:0-1.5", "is no window"),
        ("window:nan-0.5", "is no window"),
    ],
)
def test_bad_forms_are_named(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_schedule(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


# --- Steps of the samplers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_posterior_is_told_how_far_sampling_is(name: str) -> None:
    told: list[float] = []

    def spy(x: Tensor, progress: float) -> Tensor:
        told.append(progress)
        return torch.zeros(*x.shape, 3)

    generators = [torch.Generator().manual_seed(0)]
    sample(name, ProgressPosterior(spy), codes=3, positions=64, generators=generators, steps=4)
    calls = 64 if name == "first_hitting" else 4
    assert told[:calls] == [(step + 1) / calls for step in range(calls)]
    assert all(progress == 1 for progress in told[calls:])  # euler's draw of what is left


# --- The model under a schedule -----------------------------------------------------------------------------


class Counted(torch.nn.Module):
    """A model that remembers how many rows each of its forwards had."""

    def __init__(self, model: UniF2ace) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self.code_logits, self.resample = model.code_logits, model.resample
        self.rows: list[int] = []

    def forward(self, ids: Tensor, *rest: Any, **more: Any) -> Any:
        self.rows.append(len(ids))
        return self.model(ids, *rest, **more)


def span(
    model: Any,
    guidance: float,
    schedule: GuidanceSchedule | None = None,
    seeds: dict[int, list[int]] = PROMPTS,
    negatives: list[list[int]] | None = None,
    rescale: float = 0.0,
) -> PromptedSpan:
    """The guided model under a prompt per seed; the seed gives the noise of its row."""
    tokenizer, config = SimpleNamespace(end=1), model.config
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, config=config, device=torch.device("cpu"), transformer=model)
    size = (config.noise_tokens, config.noise_width)
    noise = torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    noise = noise.to(next(model.parameters()).dtype)
    return PromptedSpan(loaded, list(seeds.values()), noise, guidance, schedule, negatives, rescale)


def draw(prompted: PromptedSpan, seeds: dict[int, list[int]] = PROMPTS, steps: int = 8) -> Tensor:
    """Codes (B, N) in Halton order."""
    return sample(
        "halton",
        ProgressPosterior(prompted.posterior),
        codes=prompted.model.config.codes,
        positions=prompted.model.config.positions,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        steps=steps,
    )


def some_codes(model: UniF2ace) -> Tensor:
    """Two rows of codes with masks at different places."""
    codes = torch.arange(2 * model.config.positions).reshape(2, -1) % model.config.codes
    codes[0, ::2] = codes[1, 1::3] = model.config.codes
    return codes


@torch.no_grad()
def test_the_unguided_posterior_is_that_of_no_guidance(tiny_model: UniF2ace) -> None:
    codes = some_codes(tiny_model)
    plain = span(tiny_model, 0.0).posterior(codes)
    torch.testing.assert_close(span(tiny_model, 3.0).unguided(codes), plain)


@torch.no_grad()
@pytest.mark.parametrize("schedule", ALL, ids=str)
@pytest.mark.parametrize("progress", [0.125, 0.5, 1.0])
def test_guidance_of_logits_equals_guidance_of_hidden_states(
    tiny_model: UniF2ace, schedule: GuidanceSchedule, progress: float
) -> None:
    model = tiny_model.double()
    codes, g = some_codes(model), G * schedule.share(progress)
    conditional = span(model, 0).posterior(codes)
    unconditional = span(model, 0, seeds={seed: [] for seed in PROMPTS}).posterior(codes)
    guided = span(model, G, schedule).posterior(codes, progress)
    assert not torch.allclose(conditional, unconditional, atol=1e-3)
    torch.testing.assert_close(guided, (1 + g) * conditional - g * unconditional, rtol=0, atol=1e-10)


@torch.no_grad()
def test_guidance_leads_away_from_negative_prompts(tiny_model: UniF2ace) -> None:
    model = tiny_model.double()
    codes, negatives = some_codes(model), [[9, 8, 7, 6, 5], [4]]  # longer and shorter than the prompts
    conditional = span(model, 0).posterior(codes)
    away = span(model, 0, seeds=dict(zip(PROMPTS, negatives))).posterior(codes)
    guided = span(model, G, negatives=negatives).posterior(codes)
    assert not torch.allclose(conditional, away, atol=1e-3)
    torch.testing.assert_close(guided, (1 + G) * conditional - G * away, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rescaled_guidance_has_the_direction_of_guidance_and_the_spread_of_none(
    tiny_model: UniF2ace, share: float
) -> None:
    model = tiny_model.double()
    codes = some_codes(model)
    conditional, guided = span(model, 0).posterior(codes), span(model, G).posterior(codes)
    found = span(model, G, rescale=share).posterior(codes)
    wanted = share * conditional.std(1) + (1 - share) * guided.std(1)
    torch.testing.assert_close(found.std(1), wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(found / found.std(1, keepdim=True), guided / guided.std(1, keepdim=True))


@torch.no_grad()
def test_without_guidance_nothing_is_rescaled(tiny_model: UniF2ace) -> None:
    codes, plain = some_codes(tiny_model), span(tiny_model, 0)
    assert torch.equal(span(tiny_model, 0, rescale=1.0).posterior(codes), plain.posterior(codes))
    windowed = span(tiny_model, G, Window(0.25, 0.75), rescale=1.0)
    torch.testing.assert_close(windowed.posterior(codes, 1.0), plain.posterior(codes))


@torch.no_grad()
@pytest.mark.parametrize("progress", [0.125, 1.0])
def test_constant_guidance_is_the_plain_formula_bit_for_bit(tiny_model: UniF2ace, progress: float) -> None:
    codes, both = some_codes(tiny_model), span(tiny_model, G)
    conditional, unconditional = both.run_span(torch.cat([codes, codes])).chunk(2)
    plain = conditional + G * (conditional - unconditional)
    assert torch.equal(both.halves(codes, progress)[0], plain)
    assert torch.equal(span(tiny_model, G, Constant()).halves(codes, progress)[0], plain)


@torch.no_grad()
def test_outside_the_window_no_unconditional_half_is_computed(tiny_model: UniF2ace) -> None:
    model = Counted(tiny_model)
    guided = span(model, G, Window(0.25, 0.75))
    assert model.rows == [4]  # the prefixes, both halves at once
    draw(guided)
    assert model.rows[1:] == [2, 2, 4, 4, 4, 4, 2, 2]


@torch.no_grad()
@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_a_row_under_a_schedule_depends_on_its_seed_alone(tiny_model: UniF2ace, schedule: GuidanceSchedule) -> None:
    model = tiny_model.double()
    together = draw(span(model, G, schedule), steps=4)
    for row, (seed, prompt) in zip(together, PROMPTS.items(), strict=True):
        alone = draw(span(model, G, schedule, {seed: prompt}), {seed: prompt}, steps=4)
        assert torch.equal(row, alone[0])
