"""How faces are sampled: the options of `generate` and `eval`, checked before a model is loaded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_cli import options
from unif2ace_cli.console import UsageError
from unif2ace_cli.inputs import clean_text
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from unif2ace_core.tasks.generate import GenerateOptions

PANEL = "Sampling (the model's own defaults where not given)"

StepsOption = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, rich_help_panel=PANEL, help="Sampling steps: more is slower."),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option("--guidance", metavar="F", min=0, rich_help_panel=PANEL, help="How strictly to follow the prompt."),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--guidance-schedule",
        metavar="NAME",
        rich_help_panel=PANEL,
        help="Share of the guidance over the steps: constant, linear or cosine (growing from 0 to all of it), "
        "window:0.2-0.8 (all of it from 20% to 80% of the steps, none outside).",
    ),
]
RescaleOption = Annotated[
    float | None,
    typer.Option(
        "--guidance-rescale",
        metavar="F",
        min=0,
        max=1,
        rich_help_panel=PANEL,
        help="How much of the variety that guidance takes is given back, 0 to 1.",
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="F",
        min=0,
        rich_help_panel=PANEL,
        help="Randomness: below 1 is safer, above 1 more varied.",
    ),
]
CoolingOption = Annotated[
    float | None,
    typer.Option(
        "--cooling",
        metavar="F",
        min=0,
        max=1,
        rich_help_panel=PANEL,
        help="How far temperature falls while sampling, 0 to 1: by 0.2 it goes from 1.2 times to 0.8 times as much.",
    ),
]
RepairOption = Annotated[
    float | None,
    typer.Option(
        "--repair",
        metavar="F",
        min=0,
        max=1,
        rich_help_panel=PANEL,
        help="How far codes are led to what the others make of them before they are decoded, 0 to 1: mends smears.",
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option("--sampler", metavar="NAME", rich_help_panel=PANEL, help=", ".join(options.SAMPLERS) + "."),
]

NegativeOption = Annotated[
    str | None,
    typer.Option(
        "--negative",
        metavar="TEXT",
        rich_help_panel=PANEL,
        help='What the face shall not be like; "opposite": the contrary of each prompt, as far as it can be read.',
    ),
]
BestOfOption = Annotated[
    int,
    typer.Option(
        "--best-of",
        metavar="N",
        min=1,
        rich_help_panel=PANEL,
        help="Draw N faces for each and keep the one that shows best what can be read of the prompt, "
        "as the model's own CLIP expert sees it.",
    ),
]


def check(
    guidance: float | None,
    temperature: float | None,
    sampler: str | None,
    schedule: str | None,
    negative: str | None,
) -> None:
    """Refuse what no model can do, before one is loaded."""
    check_numbers(guidance, temperature)
    if negative and guidance == 0:
        raise UsageError("--negative acts through guidance, and --guidance 0 leaves it out; leave one of them out")
    check_sampler(sampler)
    check_schedule(schedule)


def check_numbers(*values: float | None) -> None:
    """Refuse nan and inf, which the parser takes for numbers."""
    if any(value is not None and not math.isfinite(value) for value in values):
        raise UsageError("--guidance and --temperature take finite numbers")


def check_sampler(name: str | None) -> None:
    """Refuse an unknown sampler before anything is loaded."""
    if name is None or name in options.SAMPLERS:
        return
    from unif2ace_core.diffusion.samplers import SAMPLERS

    if name not in SAMPLERS:
        raise UsageError(f"no sampler '{name}'; choose from {', '.join(SAMPLERS)}")


def check_schedule(text: str | None) -> None:
    """Refuse a guidance schedule that does not exist before anything is loaded."""
    from unif2ace_core.diffusion.guidance import parse_schedule

    try:
        parse_schedule(text or "constant")
    except UserError as error:
        raise UsageError(str(error)) from error


def settings(
    steps: int | None,
    guidance: float | None,
    guidance_schedule: str | None,
    guidance_rescale: float | None,
    temperature: float | None,
    cooling: float | None,
    repair: float | None,
    sampler: str | None,
    negative: str | None,
    best_of: int,
) -> GenerateOptions:
    """The core's options; None leaves the default."""
    from unif2ace_core.tasks.generate import GenerateOptions

    given: dict[str, Any] = {
        "steps": steps,
        "guidance": guidance,
        "guidance_schedule": guidance_schedule,
        "guidance_rescale": guidance_rescale,
        "temperature": temperature,
        "cooling": cooling,
        "repair": repair,
        "sampler": sampler,
        "negative": None if negative is None else clean_text(negative),
        "best_of": best_of,
    }
    return GenerateOptions(**{key: value for key, value in given.items() if value is not None})
