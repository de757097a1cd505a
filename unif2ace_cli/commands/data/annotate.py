"""`unif2ace data calibrate` and `unif2ace data annotate`: the model's own attributes, where it can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.commands.data.common import OutputOption, SourceArgument, apart, make, required
from unif2ace_cli.console import Reporter
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from unif2ace_core.data.calibration import Calibration


def calibrate(
    source: Annotated[
        Path, typer.Argument(metavar="SET", show_default=False, help="Folder of an aligned set with labels.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write what was measured.")
    ] = Path("calibration.json"),
    model: options.ModelOption = "mini",
    precision: Annotated[
        float,
        typer.Option("--precision", metavar="F", min=0.5, max=0.999, help="Least share that has to be right."),
    ] = 0.9,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Photos to measure on; none that the model learned from.")
    ] = "val",
    force: options.ForceOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Measure how sure the model has to be of an attribute to be right.

    Fits probabilities and thresholds on the labels of a set's sources, and writes them for `data annotate`. They
    hold for photos like those of the set. A model folder may hold its own as calibration.json; mini does.

    [dim]unif2ace data calibrate sets/faces[/dim]

    [dim]unif2ace data calibrate sets/faces --model my/ -o my/calibration.json --precision 0.95[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    outputs.check_writable(output)
    if output.exists() and not force:
        raise UserError(f"{output} exists; add --force or choose another --output")
    models.listen(reporter)
    from unif2ace_core.data.sets import check_aligned

    check_aligned(source)  # before what takes seconds to import
    from unif2ace_core.data.calibration import to_json
    from unif2ace_core.data.stages import calibrate as stage
    from unif2ace_core.weights.resolve import model_directory
    from unif2ace_core.weights.store import write_text_atomic

    folder = model_directory(model)
    with reporter.progress("calibrate", len(stage.split_shards(source, split))) as advance:
        found = stage.calibrate(source, split, folder, model, precision, lambda: advance(1))
    write_text_atomic(output, to_json(found))
    tell_calibration(reporter, output, found)


def tell_calibration(reporter: Reporter, output: Path, found: Calibration) -> None:
    """A line for each value: threshold, coverage, precision; of each attribute photos, temperature and error."""
    if reporter.json:
        from dataclasses import asdict

        reporter.record({"output": str(output), **asdict(found)})
        return
    head = ("attribute", "photos", "temp.", "ECE", "after", "value", "from", "covers", "right")
    reporter.line("{:<20}{:>7}{:>7}{:>7}{:>7}  {:<18}{:>7}{:>8}{:>7}".format(*head))
    for name, each in found.attributes.items():
        start = f"{name:<20}{each.photos:>7,}{each.temperature:>7.2f}{shown(each.ece_before)}{shown(each.ece_after)}"
        for value, sure in each.values.items():
            if sure.threshold is not None:
                figures = f"{shown(sure.threshold)}{sure.coverage:>8.2f}{shown(sure.precision)}"
                reporter.line(f"{start}  {value:<18}{figures}")
                start = " " * len(start)
        if start.strip():
            reporter.line(f"{start}  never")
    if found.age.mean_absolute_error is not None:
        reporter.line(f"{'age':<20}{found.age.photos:>7,}   off by {found.age.mean_absolute_error} years; never")
    reporter.line(str(output))


def shown(value: float | None) -> str:
    """A share in a column of the table."""
    return f"{'-' if value is None else format(value, '.3f'):>7}"


def annotate(
    source: SourceArgument,
    output: OutputOption = None,
    model: options.ModelOption = "mini",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            show_default=False,
            help="What 'data calibrate' wrote, instead of the model's calibration.json.",
        ),
    ] = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Fill unknown attributes where the model is sure of them.

    How sure it has to be was measured by `data calibrate`. Labels of the source stay as they are, and what would
    contradict them stays unknown; the column `probabilities` tells which labels are the model's, and how sure.

    [dim]unif2ace data annotate sets/faces -o sets/annotated[/dim]

    [dim]unif2ace data annotate sets/faces -o sets/annotated --model my/ --calibration calibration.json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place = required(output, "annotate")
    models.listen(reporter)
    from unif2ace_core.data.sets import check_aligned

    apart(place, source)
    check_aligned(source)  # before what takes seconds to import
    from unif2ace_core.data.calibration import NAME
    from unif2ace_core.data.shards import following
    from unif2ace_core.data.stages import annotate as stage
    from unif2ace_core.weights.resolve import model_directory

    folder = model_directory(model)
    clip = stage.clip_fingerprint(folder, model)
    found = stage.open_calibration(calibration or folder / NAME, clip, model)
    jobs = stage.annotate_jobs(source, folder, found)
    make(reporter, place, following(source, stage.STAGE, stage.annotate_settings(found)), jobs)
