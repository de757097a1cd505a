"""`unif2ace data export`: a set in a form that other loaders take."""

from __future__ import annotations

from typing import Annotated

import typer

from unif2ace_cli import models, options
from unif2ace_cli.commands.data.common import OutputOption, SourceArgument, apart, make, required, tell
from unif2ace_cli.console import Reporter, UsageError

FORMATS = ("webdataset",)
"""Names in unif2ace_core.data.stages.export.FORMATS; a test compares."""


def export(
    source: SourceArgument,
    output: OutputOption = None,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help=f"What to write: {', '.join(FORMATS)}.")
    ] = FORMATS[0],
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="Photos in a tar.")] = 5000,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Write a set as WebDataset tars, a photo and a JSON of each row.

    The webdataset library and HF datasets read them, and 'unif2ace data import webdataset' brings photos and labels
    back. Codes and features of 'unif2ace data encode' are left out.

    [dim]unif2ace data export sets/asked -o sets/tars --rows 10000[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place = required(output, "export")
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    models.listen(reporter)
    from unif2ace_core.data.shards import EXPORT, following, own_share
    from unif2ace_core.data.stages.export import export_jobs, write_export_card

    apart(place, source)
    stages = following(source, EXPORT, {"format": format, "rows": rows})
    make(reporter, place, stages, export_jobs(source, rows), show=False)
    if own_share().index == 0:
        write_export_card(source, place)
        tell(reporter, place, EXPORT)
