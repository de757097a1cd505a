"""`unif2ace train model --data DIR --output DIR`: one recipe, from a fresh start or the last checkpoint.

Several processes: `accelerate launch -m unif2ace_cli train ...`; only the first one talks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_cli import inputs, models, options, outputs
from unif2ace_cli.console import Reporter, UsageError, live_progress
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from unif2ace_core.train.loop import Progress

USAGE = "RECIPE --data DIR --output DIR [OPTIONS] [KEY=VALUE]..."


def run(
    recipe: Annotated[
        options.Recipe,
        typer.Argument(
            metavar="RECIPE", show_default=False, help="codec, clip, reader, face, locate, model, decoder or judge."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            show_default=False,
            help="Settings of the recipe, such as steps=2000 learning_rate=1e-3.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder with NAME.csv beside NAME.zip, a set made by 'unif2ace data', or one on the hub (required).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Folder for checkpoints, log.jsonl and export/ (required).",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            show_default=False,
            help="Sizes of a fresh model: mini, base or 1.8b; short for preset=NAME.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show settings, sizes and a time estimate.")] = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Train a part of the model, or the model.

    Order: codec, clip, face and locate, then model. judge, the attribute classifier of `eval`, needs none of them.
    Ctrl-C stops; --resume goes on from the last checkpoint with the same numbers as an uninterrupted run.
    Prints the output folder.

    [dim]unif2ace train codec --data faces/ --output runs/codec --dry-run[/dim]

    [dim]unif2ace train codec --data faces/ --output runs/codec steps=2000 batch_size=16[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet or rank() > 0)
    if data is None or output is None:
        raise UsageError("train needs --data DIR and --output DIR; see 'unif2ace train --help'")
    overrides = parse_settings((settings or []) + ([f"preset={preset}"] if preset else []))
    models.listen(reporter)
    data = inputs.data_folder(data)
    check_settings(recipe.value, overrides)
    if dry_run:
        show_plan(reporter, recipe.value, data, output, overrides)
        return
    outputs.check_folder(output)
    train(reporter, recipe.value, data, output, overrides, resume)


def parse_settings(settings: list[str]) -> dict[str, str]:
    """key=value arguments as a mapping."""
    parsed: dict[str, str] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(f"'{setting}' is not of the form key=value, such as steps=2000")
        if key in parsed:
            raise UsageError(f"the setting '{key}' is given twice")
        parsed[key] = value
    return parsed


def check_settings(recipe: str, overrides: Mapping[str, str]) -> None:
    """Refuse unknown keys and values of the wrong type as wrong usage; the message lists what there is."""
    from unif2ace_core.train.run import load_recipe

    try:
        load_recipe(recipe, overrides)
    except UserError as error:
        raise UsageError(str(error)) from error


def show_plan(reporter: Reporter, recipe: str, data: Path, output: Path, overrides: Mapping[str, str]) -> None:
    """Print what a run would do."""
    from unif2ace_core.train.run import plan

    with reporter.status("Timing two steps"):
        facts = plan(recipe, data, output, overrides)
    if reporter.json:
        reporter.record({key: value if is_plain(value) else str(value) for key, value in facts.items()})
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        reporter.line(f"{key.replace('_', ' '):<{width}}  {show_value(value)}")


def is_plain(value: Any) -> bool:
    """Whether JSON knows the value's type."""
    return value is None or isinstance(value, (str, int, float, bool, list, tuple))


def show_value(value: Any) -> str:
    """Numbers with thousands separators, the rest as it is."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def train(
    reporter: Reporter, recipe: str, data: Path, output: Path, overrides: Mapping[str, str], resume: bool
) -> None:
    """Run the recipe with live progress, then print the output folder."""
    from unif2ace_core.train.run import run as run_recipe

    try:
        with training_progress(reporter, recipe) as show:
            result: Any = run_recipe(recipe, data, output, overrides, resume, show)
    except KeyboardInterrupt:
        if (output / "log.jsonl").exists():
            reporter.note(f"the last checkpoint is in {output}; add --resume to go on from it")
        raise
    if rank() > 0:
        return
    if reporter.json:
        metrics = result if isinstance(result, dict) else {}
        reporter.record({"recipe": recipe, "output": str(output), "metrics": metrics})
    else:
        reporter.line(str(output))


def rank() -> int:
    """Number of this process under `accelerate launch`; 0 alone."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


@contextmanager
def training_progress(reporter: Reporter, recipe: str) -> Iterator[Callable[[Progress], None]]:
    """Gives the function that shows one Progress: a live bar on a terminal, else one line each."""
    if not reporter.live:
        yield lambda progress: plain_progress(reporter, progress)
        return
    fields = ("loss {task.fields[loss]}", "lr {task.fields[rate]}", "{task.fields[speed]}/s")
    bar = live_progress("text", "bar", "count", *fields, "{task.fields[left]}", transient=False)
    with reporter.draw(bar):
        blank = {"loss": "-", "rate": "-", "speed": "-", "left": ""}
        task = bar.add_task(recipe, total=None, **blank)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                total=progress.steps,
                completed=progress.step,
                loss=f"{progress.loss:.4f}",
                rate=f"{progress.learning_rate:.2e}",
                speed=f"{progress.samples_per_second:.1f}",
                left=f"{clock(progress.eta_seconds)} left",
            )
            if progress.evaluation:
                reporter.note(evaluation_line(progress))

        yield show


def plain_progress(reporter: Reporter, progress: Progress) -> None:
    """One log line on stderr."""
    if reporter.quiet:
        return
    print(
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  lr {progress.learning_rate:.2e}  "
        f"{progress.samples_per_second:.1f} samples/s  {clock(progress.eta_seconds)} left",
        file=sys.stderr,
        flush=True,
    )
    if progress.evaluation:
        reporter.note(evaluation_line(progress))


def evaluation_line(progress: Progress) -> str:
    """The metrics on held-out data."""
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in (progress.evaluation or {}).items())
    return f"step {progress.step}: {metrics}"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
