"""The data factory: `unif2ace data import | align | caption | questions`, from labelled photos to a captioned data set.

Every stage reads a data set and writes another one. It may be stopped at any time and goes on where it was;
`accelerate launch --num_processes N -m unif2ace_cli data ...` divides the shards among processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.app import Entry
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from unif2ace_core.data.shards import Job

USAGE = "COMMAND"

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder of the new data set (required)."),
]
SourceArgument = Annotated[
    Path, typer.Argument(metavar="SRC", show_default=False, help="Folder of the data set that the stage before wrote.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all draws.")]


def run() -> None:
    """Make a data set of faces: import, align, caption, ask.

    [dim]unif2ace data import packed data/ -o sets/raw[/dim]

    [dim]unif2ace data align sets/raw -o sets/faces[/dim]

    [dim]unif2ace data caption sets/faces -o sets/captioned[/dim]

    [dim]unif2ace data questions sets/captioned -o sets/asked[/dim]
    """


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
        float,
        typer.Option("--val-share", metavar="F", min=0.0, max=1.0, help="Held out where the source has no splits."),
    ] = 0.05,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, show_default=False, help="Photos of each split; all without it."),
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
    from unif2ace_core.data.importers import open_importer
    from unif2ace_core.data.shards import VERSION, digest
    from unif2ace_core.data.stages.imports import import_jobs

    apart(place, Path(source))
    with reporter.status("Reading the index"):
        importer = open_importer(kind, Path(source), mapping, split_seed=seed, val_share=val_share)
        jobs = import_jobs(importer, rows, limit)
    meant = digest(mapping.read_bytes()) if mapping and mapping.is_file() else str(mapping or "")
    settings = {"kind": kind, "input": digest(importer.rows()), "mapping": meant, "val_share": val_share}
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
    from unif2ace_core.data.shards import begin, following, is_complete
    from unif2ace_core.data.stages import align as stage

    apart(place, source)
    names, folder = split_names(aligned), locator_folder(model)
    stage.check_sources(source, names)
    settings = stage.AlignSettings(pixels, names, smallest, sharpness, distance)
    fields = {**stage.settings_dict(settings), "locator": fingerprint(folder / "locator.safetensors")}
    stages = following(source, "align", fields)
    jobs = stage.distinct_jobs(source, place, settings)
    begin(place, stages, jobs)  # before hours of work
    if not is_complete(place, jobs):
        faces = stage.face_jobs(source, settings, lambda: load_locator(folder))
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


def fingerprint(file: Path) -> str:
    """Which weights a file holds."""
    from unif2ace_core.data.shards import digest

    return digest(file.read_bytes())


def caption(
    source: SourceArgument,
    output: OutputOption = None,
    styles: Annotated[
        str, typer.Option("--styles", metavar="NAMES", help="Texts of each photo, separated by commas.")
    ] = ",".join(options.CAPTION_STYLES),
    rewriter_url: Annotated[
        str | None,
        typer.Option(
            "--rewriter-url",
            metavar="URL",
            show_default=False,
            help="OpenAI-compatible endpoint that rewords the captions; a text that says more or less is not taken.",
        ),
    ] = None,
    rewriter_model: Annotated[
        str, typer.Option("--rewriter-model", metavar="NAME", help="Model to ask there.")
    ] = "default",
    seed: SeedOption = 0,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Write captions from the labels: dense, medium, short, and tag lists.

    Each says known labels only, and is stored with what it says.

    [dim]unif2ace data caption sets/faces -o sets/captioned --styles dense,tags[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place, wanted = required(output, "caption"), split_names(styles)
    for name in wanted or ("",):
        if name not in options.CAPTION_STYLES:
            raise UsageError(f"no caption style {name!r}; choose among {', '.join(options.CAPTION_STYLES)}")
    models.listen(reporter)
    from unif2ace_core.data.shards import following
    from unif2ace_core.data.stages.texts import caption_jobs

    apart(place, source)
    rewriter = open_rewriter(rewriter_url, rewriter_model) if rewriter_url else None
    settings = {"styles": list(wanted), "seed": seed, "rewriter": rewriter_model if rewriter else ""}
    make(reporter, place, following(source, "caption", settings), caption_jobs(source, wanted, seed, rewriter))


def open_rewriter(url: str, model: str) -> Any:
    """A function that has captions reworded by an endpoint; OPENAI_API_KEY is sent where it is set."""
    import os

    from unif2ace_core.data.rewrite import rewrite

    def reword(captions: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, int]]:
        found = rewrite(captions, url, model, os.environ.get("OPENAI_API_KEY"))
        return found.captions, {"rewritten": found.rewritten, "refused": found.refused, "failed": found.failed}

    return reword


def questions(
    source: SourceArgument,
    output: OutputOption = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="Least questions of a photo.")] = 8,
    seed: SeedOption = 0,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Ask about each photo what its labels can answer.

    Yes/no (as often yes as no), choice, open, counting, comparison, several turns, and what cannot be told.

    [dim]unif2ace data questions sets/captioned -o sets/asked --count 10[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    place = required(output, "questions")
    models.listen(reporter)
    from unif2ace_core.data.shards import following
    from unif2ace_core.data.stages.texts import question_jobs

    apart(place, source)
    settings = {"count": count, "seed": seed}
    make(reporter, place, following(source, "questions", settings), question_jobs(source, count, seed))


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


def make(
    reporter: Reporter, output: Path, stages: Sequence[Mapping[str, Any]], jobs: Sequence[Job], show: bool = True
) -> None:
    """Make the shards that are not there; the first process waits for the others and says what came of it."""
    from unif2ace_core.data.card import write_card
    from unif2ace_core.data.shards import own_share, run_stage, wait_for

    share, stage = own_share(), str(stages[-1]["stage"])
    with reporter.progress(stage, len(jobs[share.index :: share.count])) as advance:
        run_stage(output, stages, jobs, share, lambda job: advance(1))
    wait_for(output, jobs)
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


SUBCOMMANDS = {
    "import": (import_, "KIND SRC -o DIR [OPTIONS]", Entry("Read photos and labels of a source.")),
    "align": (align, "SRC -o DIR [OPTIONS]", Entry("Find faces, frame them, drop what is no use.")),
    "caption": (caption, "SRC -o DIR [OPTIONS]", Entry("Write captions from the labels.")),
    "questions": (questions, "SRC -o DIR [OPTIONS]", Entry("Ask what the labels can answer.")),
}
