"""Options that several commands share, the values they take, and how they look in the help."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from unif2ace_cli import console

SAMPLERS = ("maskgit", "ancestral", "euler", "first_hitting", "remdm", "halton", "halton_centred", "moment")
"""Names in unif2ace_core.diffusion.samplers.SAMPLERS, which needs torch; a test compares."""
GUIDANCE_SCHEDULES = ("constant", "linear", "cosine", "window:0.2-0.8")
"""Names in unif2ace_core.diffusion.guidance.SCHEDULES, a window with numbers; a test compares."""
KINDS = ("celeba", "utkface", "ffhq", "lfw", "folder", "packed", "unif2aced", "webdataset")
"""Names in unif2ace_core.data.importers.KINDS; a test compares."""
CAPTION_STYLES = ("dense", "medium", "short", "tags")
"""Names in unif2ace_core.data.stages.texts.STYLES; a test compares."""
PRESETS = ("mini", "base", "1.8b")
"""Names in unif2ace_core.config.PRESETS; a test compares."""
SUITES = (
    "answers", "conditions", "descriptions", "generation", "prompts", "nearest", "likelihood", "codec", "routing",
)  # fmt: skip
"""Names in unif2ace_core.evaluate.run.SUITES; a test compares."""
GENERATING = ("generation", "prompts", "nearest")
"""Names in unif2ace_core.evaluate.run.GENERATING; a test compares."""
ABLATION = "ablation"
"""What `eval` takes beside them, alone."""
IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes that `generate` can write."""

MODEL_PANEL = "Model"
OUTPUT_PANEL = "Output"


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Recipe(str, Enum):
    """What `train` can train."""

    codec = "codec"
    clip = "clip"
    reader = "reader"
    face = "face"
    locate = "locate"
    model = "model"
    decoder = "decoder"
    judge = "judge"


class Bits(str, Enum):
    """Precisions of `quantize`."""

    eight = "8"
    four = "4"


class Quantize(str, Enum):
    """Precisions of a model in memory, as in unif2ace_core.weights.quantized.BITS."""

    int8 = "int8"
    nf4 = "nf4"


class Dtype(str, Enum):
    """Precisions of `model convert`, as in unif2ace_core.weights.streams.DTYPES."""

    fp16 = "fp16"
    fp32 = "fp32"
    bf16 = "bf16"


class Expert(str, Enum):
    """Whose models `model expert` takes."""

    open_clip = "open_clip"
    insightface = "insightface"


class Split(str, Enum):
    """Part of the data."""

    train = "train"
    val = "val"


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="ID",
        rich_help_panel=MODEL_PANEL,
        help="Embedded model ('mini'), a folder, or a hub id.",
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        rich_help_panel=MODEL_PANEL,
        help="Where to compute; auto takes CUDA where there is one, else the CPU.",
    ),
]
QuantizeOption = Annotated[
    Quantize | None,
    typer.Option(
        "--quantize",
        metavar="int8|nf4",
        rich_help_panel=MODEL_PANEL,
        show_default=False,
        help="Round the transformer's weights while loading, as 'unif2ace quantize' does on disk.",
    ),
]
BatchOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        rich_help_panel=MODEL_PANEL,
        help="Items computed at once; it changes speed and memory, results only by rounding.",
    ),
]
PictureBatchOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        rich_help_panel=MODEL_PANEL,
        help="Pictures computed together on a GPU, equal up to rounding; on CPU each is computed alone.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT_PANEL, help="Print one JSON object a line.")]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=OUTPUT_PANEL, help="No notes and no progress; errors still show."),
]
TimingsOption = Annotated[
    bool,
    typer.Option(
        "--timings",
        callback=console.set_timings,
        rich_help_panel=OUTPUT_PANEL,
        help="Say on stderr where the time went; with --json as one JSON object.",
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug",
        is_eager=True,
        callback=console.set_debug,
        rich_help_panel=OUTPUT_PANEL,
        help="Show the traceback of an error.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", "-f", rich_help_panel=OUTPUT_PANEL, help="Overwrite existing files.")
]
FaceOption = Annotated[
    int,
    typer.Option(
        "--face",
        metavar="N",
        min=0,
        rich_help_panel="Input",
        help="Which face: 0 is the largest, 1 the next largest.",
    ),
]
AlignOption = Annotated[
    bool,
    typer.Option(
        "--align/--no-align",
        rich_help_panel="Input",
        help="Find the face and frame it, or take the picture as it is.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Use about N items per suite.")]
