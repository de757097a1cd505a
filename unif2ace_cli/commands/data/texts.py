"""`unif2ace data caption` and `unif2ace data questions`: what the labels of each photo allow to be said and asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from unif2ace_cli import models, options
from unif2ace_cli.commands.data.common import (
    OutputOption,
    SeedOption,
    SourceArgument,
    apart,
    make,
    required,
    split_names,
)
from unif2ace_cli.console import Reporter, UsageError


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
    answers = place / ".rewrites"  # of an endpoint that may fail in the middle of a shard
    rewriter = None if rewriter_url is None else open_rewriter(rewriter_url, rewriter_model, answers)
    settings = {"styles": list(wanted), "seed": seed, "rewriter": rewriter_model if rewriter else ""}
    make(reporter, place, following(source, "caption", settings), caption_jobs(source, wanted, seed, rewriter))
    shutil.rmtree(answers, ignore_errors=True)


def open_rewriter(url: str, model: str, folder: Path) -> Any:
    """A function that has captions reworded by an endpoint, whose answers are kept in a folder until the end.

    OPENAI_API_KEY is sent where it is set. Raises `UserError` for an address that is none.
    """
    from unif2ace_core.data.rewrite import Answers, check_url, rewrite

    check_url(url)

    def reword(captions: Sequence[Any], shard: str) -> tuple[Sequence[Any], Mapping[str, int]]:
        with closing(Answers(folder / f"{shard}.jsonl")) as answers:
            found = rewrite(captions, url, model, os.environ.get("OPENAI_API_KEY"), answers=answers)
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
