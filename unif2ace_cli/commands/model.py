"""Other programs' weights: `unif2ace model convert SRC -o DIR` starts a model folder from a Show-o checkpoint,
`unif2ace model expert KIND NAME -o DIR` makes an expert of a published CLIP tower or a face recognition model.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.app import Entry
from unif2ace_cli.commands.quantize import check_target
from unif2ace_cli.console import Reporter, UsageError

USAGE = "COMMAND"
SHOWN = 3
"""Names of tensors that the plain report shows of a list."""


def run() -> None:
    """Take over another model's weights.

    [dim]unif2ace model convert show-o/ -o start/ --codec magvitv2/ --tokenizer phi-1_5/tokenizer.json[/dim]

    [dim]unif2ace model expert open_clip ViT-L-14-336 --weights openai -o clip/[/dim]
    """


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            show_default=False,
            help="Show-o's backbone: .safetensors, .bin, .ckpt, an index of shards, a folder, or a hub id.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder for the new model (required)."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", metavar="SRC", show_default=False, help="MAGVIT-v2, in any of the forms of SRC."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="FILE", show_default=False, help="Phi-1.5's tokenizer.json."),
    ] = None,
    dtype: Annotated[
        options.Dtype, typer.Option("--dtype", metavar="fp16|fp32|bf16", help="Precision of the new weights.")
    ] = options.Dtype.fp16,
    pixels: Annotated[
        int | None,
        typer.Option(
            "--pixels",
            metavar="N",
            min=16,
            show_default=False,
            help="Side of the pictures, 256 or 512; without it config.json beside SRC tells.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the new experts.")] = 0,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Start a 1.8B model from a Show-o checkpoint, with exactly its outputs.

    All four published variants: 256 or 512 pixels, with or without CLIP ViT. The new experts add nothing
    until they are trained. Prints what became of the checkpoint's tensors; --json lists every one.

    [dim]unif2ace model convert show-o/ -o start/ --codec magvitv2/ --tokenizer phi-1_5/tokenizer.json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    if output is None:
        raise UsageError("model convert needs -o DIR; see 'unif2ace model convert --help'")
    check_target(output, force)
    models.listen(reporter)
    with reporter.status("Converting"):
        from unif2ace_core.weights.showo import convert_showo

        report = convert_showo(
            source,
            output,
            codec=codec,
            tokenizer=tokenizer,
            dtype=dtype.value,
            pixels=pixels,
            force=force,
            seed=seed,
        )
    for note in report.notes:
        reporter.note(note)
    if json:
        reporter.record(as_record(output, report))
    else:
        show(reporter, output, report)


def as_record(output: Path, report: Any) -> dict[str, Any]:
    """The report as JSON: every tensor of the checkpoints and every new one."""
    return {**asdict(report), "output": str(output)}


def show(reporter: Reporter, output: Path, report: Any) -> None:
    """Sizes, counts of tensors and the folder on stdout."""
    config = report.config
    reporter.line(f"Show-o {report.variant}: {config.layers} layers of {config.width}, {config.positions} codes")
    reporter.line(f"{report.parameters:,} parameters, {report.bytes / 1e6:.2f} MB in {report.dtype}")
    for name, keys in (("backbone", report.model), ("codec", report.codec)):
        if keys is None:
            continue
        reporter.line(f"{name}: {len(keys.used)} tensors used, {len(keys.fresh)} new")
        for kind in ("unused", "missing"):
            if names := getattr(keys, kind):
                more = ", ..." if len(names) > SHOWN else ""
                reporter.line(f"{name}: {len(names)} {kind}: {', '.join(names[:SHOWN])}{more}")
    reporter.line(str(output))


def expert(
    kind: Annotated[
        options.Expert,
        typer.Argument(metavar="KIND", show_default=False, help="Whose model it is."),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            help="open_clip's name of the tower; or an .onnx file, or a model pack such as antelopev2.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder of the expert (required)."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE|TAG",
            show_default=False,
            help="open_clip: a checkpoint file, or the tag of published weights, which may be downloaded.",
        ),
    ] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Make an expert of a published model.

    The folder is for clip=DIR and face=DIR of 'unif2ace train model'; both experts may share it, and
    it may be a model's. A CLIP tower is copied into it in fp16; a face model stays where it is.

    [dim]unif2ace model expert open_clip ViT-L-14-336 --weights openai -o clip/[/dim]

    [dim]unif2ace model expert insightface glintr100.onnx -o face/[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    published = kind is options.Expert.open_clip
    if output is None or published != (weights is not None):
        needs = "-o DIR and --weights FILE|TAG" if published else "-o DIR, and no --weights"
        raise UsageError(f"model expert {kind.value} needs {needs}; see 'unif2ace model expert --help'")
    outputs.check_creatable(output)
    models.listen(reporter)
    with reporter.status("Reading the expert"):
        made = clip_expert(name, weights, output, force) if weights is not None else face_expert(name, output, force)
    if json:
        reporter.record({**made.fields, "output": str(output)})
    else:
        reporter.line(made.line)
        reporter.line(str(output))


class Made(NamedTuple):
    """An expert: what is said of it plainly, and as JSON."""

    line: str
    fields: dict[str, Any]


def clip_expert(name: str, weights: str, output: Path, force: bool) -> Made:
    """An image tower of open_clip in a folder."""
    from unif2ace_core.experts.open_clip_tower import make_open_clip

    made = make_open_clip(name, weights, output, force)
    size = (output / "clip.safetensors").stat().st_size
    line = f"{made.name} ({made.weights}): {made.tokens} patches of {made.width} from {made.pixels} pixels"
    return Made(f"{line}, {size / 1e6:.2f} MB", {**asdict(made), "bytes": size})


def face_expert(source: str, output: Path, force: bool) -> Made:
    """A recognition model's place in a folder."""
    from unif2ace_core.experts.insightface_model import LICENCE, make_insightface

    made = make_insightface(source, output, force)
    line = f"{Path(made.path).name}: descriptors of {made.dimension} from {made.pixels} pixels"
    return Made(line, {**asdict(made), "licence": LICENCE})


SUBCOMMANDS = {
    "convert": (convert, "SRC -o DIR [OPTIONS]", Entry("Start from a Show-o checkpoint, with exactly its outputs.")),
    "expert": (expert, "KIND NAME -o DIR [OPTIONS]", Entry("Make an expert of a published model.")),
}
