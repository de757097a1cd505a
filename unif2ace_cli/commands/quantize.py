"""`unif2ace quantize mini --bits 8 -o small/`: a model in int8 or nf4 that --model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.commands.eval import DETAILS, Settings, measure
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.errors import UserError

USAGE = "MODEL --bits 8|4 -o DIR [OPTIONS]"
QUICK = 200
"""Questions that both models are asked to see how often they agree."""
SCORED = 256
"""Questions of the quick evaluation."""


class Change(NamedTuple):
    """What quantizing changed: how often answers agree, and scores before and after."""

    agreement: dict[str, Any]
    scores: dict[str, tuple[float, float | None]]


def run(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", show_default=False, help="Embedded model ('mini'), a folder, or a hub id."),
    ],
    bits: Annotated[
        options.Bits | None,
        typer.Option("--bits", metavar="8|4", show_default=False, help="int8 or nf4 (required)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder for the new model (required)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Faces with labels: compare both models in a quick evaluation.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Questions to compare.")] = QUICK,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
    device: options.DeviceOption = options.Device.auto,
) -> None:
    """Make a model smaller: 8 or 4 bits.

    Writes a folder that --model takes, and prints the sizes before and after; with --data also how the
    answers change.

    [dim]unif2ace quantize mini --bits 8 -o mini-int8 --data faces/[/dim]

    [dim]unif2ace ask photo.jpg "what emotion?" --model mini-int8[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    if bits is None or output is None:
        raise UsageError("quantize needs --bits 8|4 and -o DIR; see 'unif2ace quantize --help'")
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: no such folder; give the one with the CSV files and zips")
    check_target(output, force)
    models.listen(reporter)
    with reporter.status(f"Quantizing to {bits.value} bits"):
        from unif2ace_core.weights.quantized import quantize_model

        sizes = quantize_model(model, int(bits.value), output, force)
    change = compare(reporter, model, output, device, data, limit) if data is not None else None
    if json:
        reporter.record(as_record(model, int(bits.value), output, sizes, change))
    else:
        show(reporter, output, sizes, change)


def check_target(output: Path, force: bool) -> None:
    """Refuse a folder with something in it, unless forced, and one that can't be written."""
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UserError(f"--output {output}: the folder is not empty; add --force or choose another")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: a file has this name; choose a folder")
    outputs.check_creatable(output)


def compare(reporter: Reporter, source: str, output: Path, device: options.Device, data: Path, limit: int) -> Change:
    """How often both models answer alike, and the answers suite's numbers before and after."""
    from unif2ace_core.evaluate.run import answers_agreement

    before, after = (models.load(reporter, name, device) for name in (source, str(output)))
    with reporter.status("Comparing answers"):
        agreement = answers_agreement(before, after, data, n=limit)
    scores = [
        dict(scores_of(measure(reporter, loaded, ["answers"], data, Settings(limit=SCORED))["suites"]))
        for loaded in (before, after)
    ]
    return Change(agreement, {name: (scores[0][name], scores[1].get(name)) for name in scores[0]})


def scores_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The scores of a nested report: its fractions and errors, without counts and tables per attribute."""
    for name, value in values.items():
        if isinstance(value, Mapping) and not name.startswith(DETAILS):
            yield from scores_of(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", value


def as_record(model: str, bits: int, output: Path, sizes: Any, change: Change | None) -> dict[str, Any]:
    """The result as JSON."""
    record = {
        "model": model,
        "bits": bits,
        "output": str(output),
        "before_bytes": sizes.before_bytes,
        "after_bytes": sizes.after_bytes,
        "transformer_before": sizes.transformer_before,
        "transformer_after": sizes.transformer_after,
    }
    if change is None:
        return record
    scores = {name: {"before": old, "after": new} for name, (old, new) in change.scores.items()}
    return {**record, "agreement": change.agreement, "change": scores}


def show(reporter: Reporter, output: Path, sizes: Any, change: Change | None) -> None:
    """Sizes, changes and the folder on stdout."""
    pairs = {
        "model": (sizes.before_bytes, sizes.after_bytes),
        "transformer": (sizes.transformer_before, sizes.transformer_after),
    }
    for name, (before, after) in pairs.items():
        ratio = f"  ({after / before:.2f}x)" if before else ""
        reporter.line(f"{name:<12}{before / 1e6:8.2f} MB -> {after / 1e6:8.2f} MB{ratio}")
    if change is not None:
        show_change(reporter, change)
    reporter.line(str(output))


def show_change(reporter: Reporter, change: Change) -> None:
    """Agreement and scores, a line each."""
    for name, value in change.agreement.items():
        reporter.line(f"answers agreement: {name.replace('_', ' ')} {value}")
    width = max((len(name) for name in change.scores), default=0)
    for name, (old, new) in change.scores.items():
        shown = f"{new:.4g}  ({new - old:+.4f})" if new is not None else "-"
        reporter.line(f"{name:<{width}}  {old:.4g} -> {shown}")
