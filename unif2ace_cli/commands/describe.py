"""`unif2ace describe photo.jpg`: a paragraph about the face in a photo; with --json its attributes too."""

from __future__ import annotations

import shutil
import sys
import textwrap
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from unif2ace_cli import inputs, models, options, photos
from unif2ace_cli.console import Reporter, is_terminal, one_line

if TYPE_CHECKING:
    from unif2ace_core.tasks.understand import Description
    from unif2ace_core.weights.resolve import LoadedModel

USAGE = "IMAGE... [OPTIONS]"


def run(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            show_default=False,
            help="Photos: paths, folders, quoted globs, or - for stdin.",
        ),
    ],
    face: options.FaceOption = 0,
    align: options.AlignOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    timings: options.TimingsOption = False,
    debug: options.DebugOption = False,
    model: options.ModelOption = "mini",
    device: options.DeviceOption = options.Device.auto,
    quantize: options.QuantizeOption = None,
    batch_size: options.BatchOption = 8,
) -> None:
    """Describe the face in a photo.

    Prints a paragraph; with several photos one line each, PATH and TEXT with a tab between them (in a
    terminal: the path, then the paragraph). --json adds every attribute with its probability.

    [dim]unif2ace describe photo.jpg[/dim]

    [dim]unif2ace describe "holiday/*.jpg" --json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    names = inputs.find_images(images, reporter.failure)
    several = inputs.may_be_several(images)
    load = partial(models.load, reporter, model, device, quantize=quantize)

    def answer(loaded: LoadedModel, batch: list[photos.Photo]) -> None:
        from unif2ace_core.tasks.understand import describe

        pictures = [photo.picture for photo in batch]
        for photo, found in zip(batch, describe(loaded, pictures, batch_size=batch_size)):
            report(reporter, photo.name, found, several)

    wanted = [inputs.Request(name, "") for name in names]
    photos.process(reporter, wanted, batch_size, load, face if align else None, answer)
    raise typer.Exit(reporter.exit_code)


def report(reporter: Reporter, name: str, found: Description, several: bool) -> None:
    """One description on stdout."""
    text = one_line(found.description)
    if reporter.json:
        reporter.record(
            {
                "image": name,
                "description": text,
                "attributes": [
                    {"name": each.name, "value": each.value, "probability": round(each.probability, 4)}
                    for each in found.attributes
                ],
                "seconds": round(found.seconds, 3),
            }
        )
    elif is_terminal(sys.stdout):
        wrapped = textwrap.fill(text, min(shutil.get_terminal_size().columns, 100))
        reporter.line(f"{name}\n{textwrap.indent(wrapped, '  ')}\n" if several else wrapped)
    else:
        reporter.line(f"{name}\t{text}" if several else text)
