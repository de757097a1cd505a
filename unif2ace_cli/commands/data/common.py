"""What the commands of `unif2ace data` share: their arguments, the run of a stage, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_cli import outputs
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from unif2ace_core.data.shards import Job

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder of the new data set (required)."),
]
SourceArgument = Annotated[
    Path, typer.Argument(metavar="SRC", show_default=False, help="Folder of the data set that the stage before wrote.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all draws.")]


def required(output: Path | None, command: str) -> Path:
    """The output folder, which must be given and may be made."""
    if output is None:
        raise UsageError(f"data {command} needs -o DIR; see 'unif2ace data {command} --help'")
    outputs.check_creatable(output)
    return output


def apart(output: Path, source: Path) -> None:
    """Refuse an output that is its input, or lies in it."""
    place, given = output.resolve(), source.resolve()
    if source.exists() and (place == given or given in place.parents):
        raise UserError(f"--output {output} is inside of {source}; choose a folder beside it")


def split_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def fingerprint(file: Path) -> str:
    """Which weights a file holds."""
    from unif2ace_core.data.shards import digest

    return digest(file.read_bytes())


def make(
    reporter: Reporter, output: Path, stages: Sequence[Mapping[str, Any]], jobs: Sequence[Job], show: bool = True
) -> None:
    """Make the shards that are not there; the first process waits for the others and says what came of it."""
    from unif2ace_core.data.card import write_card
    from unif2ace_core.data.shards import STAGES, clear, own_share, run_stage, wait_for

    share, stage = own_share(), str(stages[-1]["stage"])
    with reporter.progress(stage, len(jobs[share.index :: share.count])) as advance:
        run_stage(output, stages, jobs, share, lambda job: advance(1))
    wait_for(output, jobs)
    if share.index == 0:
        clear(output / STAGES, output / "README.md")
    if show and share.index == 0:
        write_card(output)
        tell(reporter, output, stage)


def tell(reporter: Reporter, output: Path, stage: str) -> None:
    """What a stage made, and the folder."""
    summary = summarised(output, stage)
    if reporter.json:
        reporter.record({"output": str(output), "stage": stage, **summary})
        return
    for name, value in summary.items():
        reporter.line(f"{name.replace('_', ' '):<26}{value:>10,}")
    reporter.line(str(output))


def summarised(output: Path, stage: str) -> dict[str, int]:
    """The numbers of a stage's reports, added up over the shards that are there; lists count by their reasons."""
    from unif2ace_core.data.shards import reports_of
    from unif2ace_core.data.stages.align import reasons

    total: dict[str, int] = {}
    reports = reports_of(output, stage)
    for report in reports.values():
        for name, value in report.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            elif name == "unreadable":
                total[name] = total.get(name, 0) + len(value)
    if stage == "align":
        total |= {f"dropped: {reason}": count for reason, count in reasons(reports)}
    return total
