"""`unif2ace data encode`: what the model sees of each photo, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unif2ace_cli import models, options
from unif2ace_cli.commands.data.common import OutputOption, SourceArgument, apart, make, required
from unif2ace_cli.console import Reporter
from unif2ace_core.errors import UserError


def encode(
    source: SourceArgument,
    output: OutputOption = None,
    model: options.ModelOption = "mini",
    codec: Annotated[
        Path | None,
        typer.Option("--codec", metavar="DIR", show_default=False, help="Export with the codec, instead of --model's."),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="DIR", show_default=False, help="Export with the CLIP expert, likewise."),
    ] = None,
    face: Annotated[
        Path | None,
        typer.Option("--face", metavar="DIR", show_default=False, help="Export with the face expert, likewise."),
    ] = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Store image codes and expert features of each photo.

    Training with the same encoders takes them from the set instead of looking at the photos. Each photo is
    encoded as it is and mirrored.

    [dim]unif2ace data encode sets/asked -o sets/encoded[/dim]

    [dim]accelerate launch --multi_gpu --num_processes 8 -m unif2ace_cli data encode sets/asked -o sets/encoded[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place = required(output, "encode")
    models.listen(reporter)
    from unif2ace_core.data.sets import check_aligned

    apart(place, source)
    check_aligned(source)  # before what takes seconds to import
    with reporter.status("Loading the encoders"):
        from unif2ace_core.data.shards import following
        from unif2ace_core.data.stages.encode import encode_jobs, encode_settings
        from unif2ace_core.weights.resolve import codec_config

        parts = encoder_folders(model, {"codes": codec, "clip": clip, "face": face})
        pixels = codec_config(parts["codes"]).pixels
        settings = encode_settings(parts, pixels)
        jobs = encode_jobs(source, parts, pixels)
    make(reporter, place, following(source, "encode", settings), jobs)


def encoder_folders(model: str, given: dict[str, Path | None]) -> dict[str, Path]:
    """The folder of each kind's encoder: as given, else the model's; a model may lack a face expert."""
    from unif2ace_core.train.encode import PARTS
    from unif2ace_core.weights.resolve import model_directory

    own = model_directory(model) if None in given.values() else Path()
    folders = {kind: folder or own for kind, folder in given.items()}
    for kind, folder in folders.items():
        if not (folder / f"{PARTS[kind]}.json").is_file() and (given[kind] or kind == "codes"):
            raise UserError(f"{folder} has no {PARTS[kind]}.json; give the export of recipe {PARTS[kind]}")
    return {kind: folder for kind, folder in folders.items() if (folder / f"{PARTS[kind]}.json").is_file()}
