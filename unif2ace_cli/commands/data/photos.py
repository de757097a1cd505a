"""`unif2ace data import` and `unif2ace data align`: photos with labels, and the faces in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_cli import models, options
from unif2ace_cli.commands.data.common import (
    OutputOption,
    SeedOption,
    SourceArgument,
    apart,
    fingerprint,
    make,
    required,
    split_names,
)
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.errors import UserError


def import_(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", show_default=False, help=f"How SRC is laid out: {', '.join(options.KINDS)}."),
    ],
    source: Annotated[
        str, typer.Argument(metavar="SRC", show_default=False, help="Folder of the source; unif2aced: or a hub id.")
    ],
    output: OutputOption = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--mapping",
            metavar="FILE",
            show_default=False,
            help="JSON that says what the source's columns mean in the 46 categories.",
        ),
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            "--val-share",
            metavar="F",
            min=0.0,
            max=1.0,
            show_default=False,
            help="Held out where the source has no splits; 0.05 without it.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default=False,
            help="Photos of each split of each source; all without it.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="Photos in a shard.")] = 500,
    seed: SeedOption = 0,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Read photos and labels of a source.

    Labels become values of the 46 categories; what the source does not say stays unknown. The source's own
    splits are kept, else they are drawn by person.

    [dim]unif2ace data import celeba CelebAMask-HQ/ -o sets/raw[/dim]

    [dim]unif2ace data import folder photos/ --mapping mine.json -o sets/raw[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    if kind not in options.KINDS:
        raise UsageError(f"no kind {kind!r}; choose one of {', '.join(options.KINDS)}")
    place = required(output, "import")
    models.listen(reporter)
    from unif2ace_core.data.importers import KINDS, VAL_SHARE, open_importer, source_digest
    from unif2ace_core.data.shards import VERSION, digest
    from unif2ace_core.data.stages.imports import import_jobs

    if val_share is not None and KINDS[kind].own_splits:
        raise UsageError(
            f"--val-share {val_share:g} has no effect on {kind}, which has splits of its own; leave it out"
        )
    apart(place, Path(source))
    share = VAL_SHARE if val_share is None else val_share
    with reporter.status("Reading the index"):
        importer = open_importer(kind, Path(source), mapping, split_seed=seed, val_share=share)
        jobs, found = import_jobs(importer, rows, limit), source_digest(importer)
    meant = digest(mapping.read_bytes()) if mapping and mapping.is_file() else str(mapping or "")
    settings = {"kind": kind, "input": found, "mapping": meant, "val_share": share}
    settings |= {"limit": limit, "rows": rows, "seed": seed}
    make(reporter, place, [{"stage": "import", "version": VERSION, **settings}], jobs)


def align(
    source: SourceArgument,
    output: OutputOption = None,
    aligned: Annotated[
        str,
        typer.Option(
            "--aligned",
            metavar="NAMES",
            show_default=False,
            help="Sources whose photos are framed as the model wants them already, separated by commas.",
        ),
    ] = "",
    pixels: Annotated[int, typer.Option("--pixels", metavar="N", min=32, help="Side of the crops.")] = 128,
    smallest: Annotated[
        float, typer.Option("--smallest", metavar="PX", min=0, help="Least side of a face's frame in the photo.")
    ] = 48.0,
    sharpness: Annotated[
        float, typer.Option("--sharpness", metavar="F", min=0, help="Least mean square of the crop's Laplacian.")
    ] = 12.0,
    distance: Annotated[
        int,
        typer.Option(
            "--distance", metavar="N", min=-1, max=15, help="Signs of 256 in which near copies differ; -1 keeps all."
        ),
    ] = 6,
    model: options.ModelOption = "mini",
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Find the face in each photo, bring it to the training frame, and drop what is no use.

    Dropped are photos without a face, with a small or blurred one, and near copies. Prints how many for what;
    reports/align/ names each of them.

    [dim]unif2ace data align sets/raw -o sets/faces --aligned celebahq,ffhq[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place = required(output, "align")
    models.listen(reporter)
    from unif2ace_core.data.locks import only_writer
    from unif2ace_core.data.shards import begin, following, is_complete, own_share, shards_of
    from unif2ace_core.data.stages import align as stage

    apart(place, source)
    shards_of(source)  # says what is wrong before the model is looked for
    names, folder = split_names(aligned), locator_folder(model)
    stage.check_sources(source, names)
    settings = stage.AlignSettings(pixels, names, smallest, sharpness, distance)
    fields = {**stage.settings_dict(settings), "locator": fingerprint(folder / "locator.safetensors")}
    stages = following(source, "align", fields)
    jobs = stage.distinct_jobs(source, place, settings)
    share = own_share()
    with only_writer(place, share.index, share.count):
        begin(place, stages, jobs)  # before hours of work
        stage.start(place)
        if not is_complete(place, jobs):
            faces = stage.face_jobs(source, settings, lambda: load_locator(folder))
            with stage.unless_complete(place, jobs):
                make(reporter, place / stage.FACES, stages, faces, show=False)
        make(reporter, place, stages, jobs)
        stage.finish(place, jobs)


def locator_folder(model: str) -> Path:
    """The folder of a model that has a face locator."""
    from unif2ace_core.weights.resolve import model_directory

    folder = model_directory(model)
    if not (folder / "locator.safetensors").is_file():
        raise UserError(f"--model {model} has no face locator; take another model")
    return folder


def load_locator(folder: Path) -> Any:
    """The face locator of a model."""
    from unif2ace_core.experts.locate import Locator

    return Locator.load(folder)
