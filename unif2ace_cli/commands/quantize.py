"""`unif2ace quantize mini --bits 8 -o small/`: a model in int8 or nf4 that --model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.commands.eval import measure
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.errors import UserError

USAGE = "MODEL --bits 8|4 -o DIR [OPTIONS]"
QUICK = 200
"""Items of the quick evaluation."""


def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", show_default=False, help="Embedded model ('mini'), a folder, or a hub id."
        ),
    ],
    bits: Annotated[
        options.Bits | None,
        typer.Option("--bits", metavar="8|4", show_default=False, help="int8 or nf4 (required)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", show_default=False, help="Folder for the new model (required)."
        ),
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
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Items of that evaluation.")
    ] = QUICK,
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
    change = compare(reporter, model, output, device, data, limit) if data is not None else {}
    show(reporter, model, int(bits.value), output, sizes, change)


def check_target(output: Path, force: bool) -> None:
    """Refuse a folder with something in it, unless forced, and one that can't be written."""
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UserError(f"--output {output}: the folder is not empty; add --force or choose another")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: a file has this name; choose a folder")
    outputs.check_creatable(output)


def compare(
    reporter: Reporter, source: str, output: Path, device: options.Device, data: Path, limit: int
) -> dict[str, tuple[float, float]]:
    """(before, after) of each number of the answers suite."""
    results = []
    for name in (source, str(output)):
        loaded = models.load(reporter, name, device)
        report = measure(reporter, loaded, ["answers"], data, "val", limit, seed=0)
        results.append(dict(numbers(report.get("suites", {}).get("answers", {}))))
    before, after = results
    return {name: (before[name], after[name]) for name in before if name in after}


def numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The top level's and the nested numbers of a report."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def show(
    reporter: Reporter,
    model: str,
    bits: int,
    output: Path,
    sizes: Any,
    change: Mapping[str, tuple[float, float]],
) -> None:
    """Sizes and changes on stdout."""
    pairs = {
        "model": (sizes.before_bytes, sizes.after_bytes),
        "transformer": (sizes.transformer_before, sizes.transformer_after),
    }
    if reporter.json:
        reporter.record(
            {
                "model": model,
                "bits": bits,
                "output": str(output),
                "before_bytes": sizes.before_bytes,
                "after_bytes": sizes.after_bytes,
                "transformer_before": sizes.transformer_before,
                "transformer_after": sizes.transformer_after,
                "change": {name: {"before": old, "after": new} for name, (old, new) in change.items()},
            }
        )
        return
    for name, (before, after) in pairs.items():
        ratio = f"  ({after / before:.2f}x)" if before else ""
        reporter.line(f"{name:<12}{before / 1e6:8.2f} MB -> {after / 1e6:8.2f} MB{ratio}")
    width = max((len(name) for name in change), default=0)
    for name, (old, new) in change.items():
        reporter.line(f"{name:<{width}}  {old:.4g} -> {new:.4g}  ({new - old:+.4f})")
    reporter.line(str(output))
