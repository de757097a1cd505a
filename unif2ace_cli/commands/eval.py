"""`unif2ace eval answers --data DIR`: measure a model on held-out faces; a table, JSON, a report."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.console import Reporter, UsageError, live_progress
from unif2ace_core.errors import UserError

USAGE = "[SUITE]... --data DIR [-o FILE] [OPTIONS]"
Row = tuple[str, str]


def run(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUITE", show_default=False, help=f"{', '.join(options.SUITES)}; all of them by default."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder with NAME.csv beside NAME.zip (required).",
        ),
    ] = None,
    split: Annotated[
        options.Split, typer.Option("--split", metavar="train|val", help="Part of the data.")
    ] = options.Split.val,
    limit: options.LimitOption = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of every draw.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=options.OUTPUT_PANEL,
            show_default=False,
            help="Also write the report as JSON to this file.",
        ),
    ] = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
    model: options.ModelOption = "mini",
    device: options.DeviceOption = options.Device.auto,
) -> None:
    """Measure a model on held-out faces.

    answers: agreement of `ask` with the labels. generation: KID and FID against photos.
    likelihood: bound in nats. codec: reconstruction. Prints a table; --json prints the report.

    [dim]unif2ace eval answers --data faces/ --limit 200 --output report.json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    check_suites(suites or [])
    if data is None:
        raise UsageError("eval needs --data DIR; see 'unif2ace eval --help'")
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder; give the one with the CSV files and zips")
    if output is not None:
        if output.is_dir():
            raise UsageError(f"--output {output} is a folder; give a file such as {output / 'report.json'}")
        outputs.check_writable(output)
    loaded = models.load(reporter, model, device)
    report = measure(reporter, loaded, suites or [], data, split.value, limit, seed)
    if output is not None:
        text = json_module.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n"
        outputs.write_file(output, lambda file: file.write(text.encode()), force=True)
    if json:
        reporter.record(json_module.loads(json_module.dumps(report, default=str)))
    else:
        show_table(report)


def check_suites(names: list[str]) -> None:
    """Refuse unknown suites before anything is loaded."""
    unknown = [name for name in names if name not in options.SUITES]
    if unknown:
        raise UsageError(f"no suite '{unknown[0]}'; choose from {', '.join(options.SUITES)}")


def measure(
    reporter: Reporter, loaded: Any, names: list[str], data: Path, split: str, limit: int | None, seed: int
) -> dict[str, Any]:
    """The core's report on the suites, with progress meanwhile."""
    from unif2ace_core.evaluate.run import run_suites

    with suite_progress(reporter) as show:
        return run_suites(
            names or list(options.SUITES), loaded, data, split=split, limit=limit, seed=seed, on_progress=show
        )


@contextmanager
def suite_progress(reporter: Reporter) -> Iterator[Callable[..., None]]:
    """Gives the function (suite, done, total) that shows how far the suites are."""
    if not reporter.live:
        started: set[str] = set()

        def mention(suite: str, *_: Any) -> None:
            if suite not in started:
                started.add(suite)
                reporter.note(f"measuring {suite}")

        yield mention
        return
    bar = live_progress("text", "bar", "count", "left", transient=True)
    tasks: dict[str, Any] = {}
    with reporter.draw(bar):

        def show(suite: str, done: int = 0, total: int | None = None) -> None:
            if suite not in tasks:
                tasks[suite] = bar.add_task(suite, total=total)
            bar.update(tasks[suite], completed=done, total=total)

        yield show


def rows_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Nested metrics as (name, value) rows; lists are left to the JSON report."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from rows_of(value, f"{prefix}{name}.")
        elif not isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def show_table(report: Mapping[str, Any]) -> None:
    """The report on stdout: a table per suite, then what it was measured with."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, soft_wrap=True)
    suites = report.get("suites", {})
    for suite, values in suites.items():
        table = Table("metric", title=suite, title_justify="left", title_style="bold")
        table.add_column("value", justify="right")
        for name, value in rows_of(values):
            table.add_row(name, value)
        console.print(table)
    rest = {name: value for name, value in report.items() if name != "suites"}
    console.print(
        "  ".join(f"{name} {value}" for name, value in rows_of(rest)), highlight=False, markup=False
    )
