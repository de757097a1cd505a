"""`unif2ace eval answers --data DIR`: measure a model on held-out faces; a table, JSON, a report."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_cli import inputs, models, options, outputs, sampling
from unif2ace_cli.console import Reporter, UsageError, is_terminal, live_progress

USAGE = "[SUITE]... --data DIR [-o FILE] [OPTIONS]"
Row = tuple[str, str]
DETAILS = "by_"


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
            help="Folder with NAME.csv beside NAME.zip, a set made by 'unif2ace data', or one on the hub (required).",
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
    steps: sampling.StepsOption = None,
    guidance: sampling.GuidanceOption = None,
    guidance_schedule: sampling.ScheduleOption = None,
    guidance_rescale: sampling.RescaleOption = None,
    temperature: sampling.TemperatureOption = None,
    cooling: sampling.CoolingOption = None,
    repair: sampling.RepairOption = None,
    sampler: sampling.SamplerOption = None,
    negative: sampling.NegativeOption = None,
    best_of: sampling.BestOfOption = 1,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            rich_help_panel=options.OUTPUT_PANEL,
            help="Put the figures of the paper beside the measured ones, and say which may be compared.",
        ),
    ] = False,
    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge",
            metavar="DIR",
            show_default=False,
            help="Another attribute classifier for generation, prompts and nearest, by 'unif2ace train judge'.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="FILE.png",
            rich_help_panel=options.OUTPUT_PANEL,
            show_default=False,
            help="Suite nearest: write twelve faces over their nearest training photos.",
        ),
    ] = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
    model: options.ModelOption = "mini",
    device: options.DeviceOption = options.Device.auto,
    quantize: options.QuantizeOption = None,
) -> None:
    """Measure a model on held-out faces.

    answers: agreement of `ask` with the labels. conditions: the same on other cameras and on spoiled
    pictures, --limit questions a row. descriptions: precision and recall of `describe`. generation: KID and
    FID against photos. prompts: do faces show what prompts ask for. nearest: are they copies of training
    photos. likelihood: bound in nats. codec: reconstruction. routing: which experts fire. Prints a table;
    --json the report.
    ablation, by name only: trains small models without one part of the method each, --limit steps of three seeds,
    and compares them; its folder --output keeps the runs, so that it can be stopped.

    [dim]unif2ace eval answers --data faces/ --limit 200 --output report.json[/dim]

    [dim]unif2ace eval generation --data faces/ --sampler maskgit --steps 8[/dim]

    [dim]unif2ace eval ablation --data sets/encoded --output runs/ablation[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    names = suites or list(options.SUITES)
    check_suites(names)
    sampling.check(guidance, temperature, sampler, guidance_schedule, negative)
    if data is None:
        raise UsageError("eval needs --data DIR; see 'unif2ace eval --help'")
    data = inputs.data_folder(data)
    if sheet is not None:
        check_sheet(sheet, names)
    if judge is not None:
        judge = check_judge(judge, names)
    if names == [options.ABLATION]:
        from unif2ace_cli.commands import eval_ablation

        return eval_ablation.run(reporter, model, device, data, output, limit, seed)
    if output is not None:
        check_output(output)
    loaded = models.load(reporter, model, device, quantize=quantize)
    drawing = sampling.settings(
        steps, guidance, guidance_schedule, guidance_rescale, temperature, cooling, repair, sampler, negative, best_of
    )
    settings = Settings(split.value, limit, seed, drawing, judge, sheet)
    report = measure(reporter, loaded, names, data, settings)
    if loaded.quantization:
        report["quantization"] = loaded.quantization
    if paper:
        report["paper"] = papers_figures(report)
    deliver(reporter, report, output)


def deliver(reporter: Reporter, report: dict[str, Any], output: Path | None) -> None:
    """The report to its file, if there is one, and to stdout as JSON or a table."""
    if output is not None:
        text = json_module.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n"
        outputs.write_text(output, text)
    if reporter.json:
        reporter.record(json_module.loads(json_module.dumps(report, default=str)))
    else:
        show_table(report)


def check_output(output: Path) -> None:
    """Refuse a report file that can't be written."""
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; give a file such as {output / 'report.json'}")
    outputs.check_writable(output)


def check_suites(names: list[str]) -> None:
    """Refuse unknown suites before anything is loaded."""
    if options.ABLATION in names and len(names) > 1:
        raise UsageError("ablation trains models; run it alone, without other suites")
    unknown = [name for name in names if name not in (*options.SUITES, options.ABLATION)]
    if unknown:
        raise UsageError(f"no suite '{unknown[0]}'; choose from {', '.join(options.SUITES)}")


def check_sheet(sheet: Path, suites: list[str]) -> None:
    """Refuse a sheet that can't be written, or that no suite draws."""
    if "nearest" not in suites:
        raise UsageError("--sheet is drawn by suite nearest; name it too")
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet} is no PNG; give a name such as sheet.png")
    outputs.check_writable(sheet)


def check_judge(judge: Path, suites: list[str]) -> Path:
    """The folder, with ~ put in; refused where no suite uses it or it is no export."""
    if not set(options.GENERATING) & set(suites):
        raise UsageError("--judge looks at generated faces; name generation, prompts or nearest too")
    folder = judge.expanduser()
    if not (folder / "judge.safetensors").is_file():
        raise UsageError(f"--judge {judge} has no judge.safetensors; give an export of 'unif2ace train judge'")
    return folder


@dataclass(frozen=True)
class Settings:
    """How suites measure, as `unif2ace_core.evaluate.run.run_suites` takes it."""

    split: str = "val"
    limit: int | None = None
    seed: int = 0
    sampling: Any = None  # of generated faces
    judge: Path | None = None
    sheet: Path | None = None


def measure(reporter: Reporter, loaded: Any, names: list[str], data: Path, settings: Settings) -> dict[str, Any]:
    """The core's report on the suites, with progress meanwhile."""
    from unif2ace_core.evaluate.run import run_suites

    with suite_progress(reporter) as show:
        return run_suites(names, loaded, data, on_progress=show, **vars(settings))


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
    """Nested metrics as (name, text) rows, without the tables of `details_of` and long lists."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            if not name.startswith(DETAILS):
                yield from rows_of(value, f"{prefix}{name}.")
        elif not isinstance(value, (list, tuple)) or len(value) <= 3:
            yield f"{prefix}{name}", cell(value)


def details_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, rows) of the metrics that are tables: by_attribute, by_source and the like."""
    for name, value in values.items():
        if not isinstance(value, Mapping):
            continue
        if name.startswith(DETAILS):
            yield f"{prefix}{name}", value
        else:
            yield from details_of(value, f"{prefix}{name}.")


def cell(value: Any) -> str:
    """A number, a pair of numbers or a text, short."""
    if isinstance(value, (list, tuple)):
        return " .. ".join(cell(each) for each in value)
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def papers_figures(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paper's figures for the report's metrics, as plain data; see `unif2ace_core.evaluate.paper`."""
    from dataclasses import asdict

    from unif2ace_core.evaluate.paper import beside

    return [asdict(line) for line in beside(report)]


def show_table(report: Mapping[str, Any]) -> None:
    """The report on stdout: tables per suite, the paper's figures if asked for, what it was measured with."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if is_terminal(sys.stdout) else 120, highlight=False)
    for suite, values in report.get("suites", {}).items():
        console.print(table_of(suite, ("metric", "value"), rows_of(values)))
        for name, rows in details_of(values):
            console.print(*fitting_tables(console, f"{suite}: {name}", rows), sep="\n")
    if "paper" in report:
        show_paper(console, report["paper"])
    rest = {name: value for name, value in report.items() if name not in ("suites", "paper")}
    console.print("  ".join(f"{name} {value}" for name, value in rows_of(rest)), markup=False)


def show_paper(console: Any, lines: Sequence[Mapping[str, Any]]) -> None:
    """Measured values, the paper's figures beside them, and under the table why numbers can't be compared."""
    if not lines:
        console.print("the paper has no figures for these suites\n")
        return
    models = list(dict.fromkeys(model for line in lines for model in line["paper"]))
    columns = ["metric", "measured", "paper's", *models, "comparable"]
    body = (
        [
            line["metric"],
            cell(line["measured"]),
            line["figure"],
            *(f"{line['paper'][model]:g}" if model in line["paper"] else "-" for model in models),
            "yes" if line["comparable"] else "no",
        ]
        for line in lines
    )
    console.print(table_of("beside the paper", columns, body))
    for line in lines:
        if line["note"]:
            console.print(f"{line['figure']}: not comparable; {line['note']}.", markup=False)
    console.print()


def fitting_tables(console: Any, title: str, rows: Mapping[str, Any]) -> list[Any]:
    """`detail_table`, turned or else by halves of its lines where the console is narrower, so that no number is cut."""
    for turned in (False, True):
        table = detail_table(title, rows, turned)
        if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
            return [table]
    if len(rows) == 1:
        return [table]
    names, half = list(rows), -(-len(rows) // 2)
    parts = ({name: rows[name] for name in part} for part in (names[:half], names[half:]))
    return [each for part in parts for each in fitting_tables(console, title, part)]


def detail_table(title: str, rows: Mapping[str, Any], turned: bool = False) -> Any:
    """A table with a line per attribute (or source) and a column per metric; `turned`: the other way round."""
    lines = {
        name: dict(rows_of(row)) if isinstance(row, Mapping) else {"value": cell(row)} for name, row in rows.items()
    }
    metrics = list(dict.fromkeys(metric for line in lines.values() for metric in line))
    if turned:
        body = ([metric, *(line.get(metric, "") for line in lines.values())] for metric in metrics)
        return table_of(title, ["", *lines], body)
    body = ([name, *(line.get(metric, "") for metric in metrics)] for name, line in lines.items())
    return table_of(title, ["", *metrics], body)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """A rich table, its first column to the left and the numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    return table
