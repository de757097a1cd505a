"""`unif2ace ask photo.jpg "what emotion?"`: a question about the face in a photo, its answer on stdout."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from unif2ace_cli import inputs, models, options, photos
from unif2ace_cli.console import Reporter, UsageError, one_line

if TYPE_CHECKING:
    from unif2ace_core.tasks.understand import Answer
    from unif2ace_core.weights.resolve import LoadedModel

USAGE = "IMAGE... QUESTION [OPTIONS]"
EXAMPLE = 'for example: unif2ace ask photo.jpg "what emotion?"'


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE... QUESTION",
            show_default=False,
            help="Photos (paths, folders, quoted globs, or - for stdin), then the question.",
        ),
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests",
            metavar="FILE|-",
            rich_help_panel="Input",
            help='Read JSONL {"image", "question"} in place of the arguments.',
        ),
    ] = None,
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
    """Answer a question about the face in a photo.

    Prints the answer; with several photos one line each, PATH and ANSWER with a tab between them.
    A photo or a request that cannot be used is reported on stderr, the others go on.

    [dim]unif2ace ask photo.jpg "what emotion?"[/dim]

    [dim]unif2ace ask holiday/ "is the person wearing glasses?" --json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    wanted, columns = plan_requests(reporter, arguments or [], requests)
    load = partial(models.load, reporter, model, device, quantize=quantize)

    def answer(loaded: LoadedModel, batch: list[photos.Photo]) -> None:
        from unif2ace_core.tasks.understand import ask

        models.note_long_texts(reporter, loaded, (photo.question for photo in batch), "question")
        pairs = [(photo.picture, photo.question) for photo in batch]
        for photo, given in zip(batch, ask(loaded, pairs, batch_size=batch_size)):
            report(reporter, photo, given, columns)

    photos.process(reporter, wanted, batch_size, load, face if align else None, answer)
    raise typer.Exit(reporter.exit_code)


def plan_requests(reporter: Reporter, arguments: list[str], source: str | None) -> tuple[list[inputs.Request], int]:
    """(requests, columns of a plain line): 1 answer, 2 path and answer, 3 path, question and answer."""
    if source is not None:
        if arguments:
            raise UsageError("give IMAGE... QUESTION or --requests FILE, not both")
        return inputs.read_requests(source, reporter.failure), 3
    images, question = split_arguments(arguments)
    names = inputs.find_images(images, reporter.failure)
    return [inputs.Request(name, question) for name in names], 2 if inputs.may_be_several(images) else 1


def split_arguments(arguments: list[str]) -> tuple[list[str], str]:
    """(images, question): the last argument is the question."""
    if not arguments:
        raise UsageError(f"missing IMAGE and QUESTION; {EXAMPLE}")
    *images, last = arguments
    question = inputs.clean_text(last)
    if last == inputs.STDIN or looks_like_image(last):
        raise UsageError(
            f"the last argument '{one_line(last)}' is an image, the question seems to be missing; {EXAMPLE}"
        )
    if not images:
        raise UsageError(f"give at least one IMAGE before the QUESTION; {EXAMPLE}")
    if not question:
        raise UsageError(f"the question is empty; {EXAMPLE}")
    return images, question


def looks_like_image(text: str) -> bool:
    """Whether an argument is an existing file or folder, or has the name of a picture."""
    try:
        exists = os.path.exists(os.path.expanduser(text))
    except ValueError:
        exists = False
    return exists or (" " not in text and text.lower().endswith(inputs.SUFFIXES))


def report(reporter: Reporter, photo: photos.Photo, given: Answer, columns: int) -> None:
    """One line on stdout for one answer."""
    if reporter.json:
        reporter.record(
            {
                "image": photo.name,
                "question": photo.question,
                "answer": given.answer,
                "confidence": round(given.confidence, 4),
                "seconds": round(given.seconds, 3),
            }
        )
        return
    fields = (photo.name, photo.question, one_line(given.answer))
    reporter.line("\t".join({1: fields[2:], 2: (fields[0], fields[2]), 3: fields}[columns]))
