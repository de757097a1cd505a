"""The data factory, `unif2ace data`: from photos, with labels or without, to training data, stage by stage.

Every stage reads a data set and writes another one; `stats` and `check` look at one. A stage may be stopped at any
time and goes on where it was; `accelerate launch --multi_gpu --num_processes N -m unif2ace_cli data ...` divides the
shards among processes, with or without GPUs.
"""

from __future__ import annotations

from unif2ace_cli.app import Entry
from unif2ace_cli.commands.data.annotate import annotate, calibrate
from unif2ace_cli.commands.data.encode import encode
from unif2ace_cli.commands.data.export import export
from unif2ace_cli.commands.data.photos import align, import_
from unif2ace_cli.commands.data.reports import check, stats
from unif2ace_cli.commands.data.texts import caption, questions

USAGE = "COMMAND"


def run() -> None:
    """Make a data set of faces with captions and questions.

    [dim]unif2ace data import packed data/ -o sets/raw[/dim]

    [dim]unif2ace data align sets/raw -o sets/faces[/dim]

    [dim]unif2ace data caption sets/faces -o sets/captioned[/dim]

    [dim]unif2ace data questions sets/captioned -o sets/asked[/dim]

    [dim]unif2ace data encode sets/asked -o sets/encoded[/dim]
    """


SUBCOMMANDS = {
    "import": (import_, "KIND SRC -o DIR [OPTIONS]", Entry("Read photos and labels of a source.")),
    "align": (align, "SRC -o DIR [OPTIONS]", Entry("Find faces, frame them, drop what is no use.")),
    "annotate": (annotate, "SRC -o DIR [OPTIONS]", Entry("Fill in labels that a model is sure of.")),
    "caption": (caption, "SRC -o DIR [OPTIONS]", Entry("Write captions from the labels.")),
    "questions": (questions, "SRC -o DIR [OPTIONS]", Entry("Ask what the labels can answer.")),
    "encode": (encode, "SRC -o DIR [OPTIONS]", Entry("Store codes and features for training.")),
    "stats": (stats, "SET [-o FILE.html] [OPTIONS]", Entry("Count what is in a set; a page to look at.")),
    "check": (check, "SET [OPTIONS]", Entry("Find what is wrong with a set.")),
    "calibrate": (calibrate, "SET [-o FILE] [OPTIONS]", Entry("Measure how sure a model has to be to annotate.")),
    "export": (export, "SRC -o DIR [OPTIONS]", Entry("Write WebDataset tars for other loaders.")),
}
