"""`unif2ace data stats` and `unif2ace data check`: what is in a set, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unif2ace_cli import models, options, outputs
from unif2ace_cli.commands.eval import table_of
from unif2ace_cli.console import FAILED, Reporter, UsageError, is_terminal

if TYPE_CHECKING:
    from unif2ace_core.data.check import Findings
    from unif2ace_core.data.stats import Sample

SetArgument = Annotated[Path, typer.Argument(metavar="SET", show_default=False, help="Folder of a data set.")]
Table = tuple[str, Sequence[str], Iterable[Sequence[str]]]  # title, columns, rows
RULES = 12  # most that are printed of a kind


# --- stats -----------------------------------------------------------------------------------------------------


def stats(
    source: SetArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=options.OUTPUT_PANEL,
            show_default=False,
            help="Also write an HTML page with charts and samples; it needs no network. Replaces FILE.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=0, help="Photos on the page.")] = 12,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the draw of these photos.")] = 0,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="ID", help="Model in whose tokens captions are counted.")
    ] = "mini",
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Count what is in a set: photos, labels, captions, questions.

    Prints tables. With -o also a page with histograms, the co-occurrence of attributes, and samples.

    [dim]unif2ace data stats sets/asked[/dim]

    [dim]unif2ace data stats sets/asked -o stats.html --samples 24[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    if output is not None:
        check_page(output)
    models.listen(reporter)
    figures, found = count(reporter, source, samples if output is not None else 0, seed, tokenizer)
    page = write_page(output, figures, found) if output is not None else None
    if json:
        reporter.record(figures if page is None else {**figures, "page": str(page)})
        return
    show(figures)
    if page is not None:
        reporter.line(str(page))


def check_page(output: Path) -> None:
    """Refuse a page that cannot be written, before the work."""
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; give a file such as {output / 'stats.html'}")
    outputs.check_writable(output)


def count(
    reporter: Reporter, source: Path, samples: int, seed: int, tokenizer: str
) -> tuple[dict[str, Any], list[Sample]]:
    """The figures of a set and some of its photos, with progress meanwhile."""
    from unif2ace_core.data.shards import shards_of
    from unif2ace_core.data.stats import collect
    from unif2ace_core.tokens.text import TextTokenizer

    shards = shards_of(source)
    encode = TextTokenizer.load(model_folder(tokenizer) / "tokenizer.json").encode
    with reporter.progress("Counting", len(shards)) as advance:
        return collect(source, lambda text: len(encode(text)), samples, seed, lambda: advance(1))


def model_folder(model: str) -> Path:
    """The folder of a model; resolve.py imports torch, which a tokenizer does not need, so only hub ids get there."""
    import unif2ace_core

    if model == "mini":
        return Path(unif2ace_core.__file__).parent / "assets" / "mini"
    if (folder := Path(model).expanduser()).is_dir():
        return folder
    from unif2ace_core.weights.resolve import model_directory

    return model_directory(model)


def write_page(output: Path, figures: Mapping[str, Any], samples: Sequence[Sample]) -> Path:
    """The HTML page in its file, whole or not at all."""
    from unif2ace_core.data.stats_page import page

    text = page(figures, samples).encode("utf-8", "replace")
    return outputs.write_file(output, lambda file: file.write(text), force=True)


def show(figures: Mapping[str, Any]) -> None:
    """The figures on stdout, as tables."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if is_terminal(sys.stdout) else 120, highlight=False, markup=False)
    for title, columns, rows in tables(figures):
        console.print(table_of(title, columns, rows))


def tables(figures: Mapping[str, Any]) -> Iterator[Table]:
    """The figures as tables, those that there are."""
    photos = figures["photos"]
    splits = figures["by_split"]
    rows = [(row["split"], row["source"], f"{row['photos']:,}", _percent(row["photos"], photos)) for row in splits]
    yield f"photos in {figures['shards']} shards", ("", "source", "photos", ""), [*rows, ("all", "", f"{photos:,}", "")]
    yield "persons and ages", ("", ""), list(_people(figures))
    yield "attributes", ("", "known", "by a model", "values"), list(_attributes(figures))
    if figures["captions"]:
        columns = ("", "source", "captions", "attributes", "words", "tokens", "most tokens")
        yield "captions", columns, list(_captions(figures["captions"]))
    if figures["questions"]:
        yield "questions", ("", ""), list(_questions(figures["questions"]))
        balance = figures["questions"]["yes_no"].items()
        answers = [(name, f"{row['questions']:,}", f"{row['yes']:.1%}") for name, row in balance]
        yield "yes/no questions", ("", "questions", "answered yes"), answers


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _people(figures: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    persons, ages = figures["persons"], figures["ages"]
    yield "persons (photos of which they are known)", f"{persons['persons']:,} ({persons['photos']:,})"
    yield "photos of known age", f"{ages['known']:,}"
    if ages["quantiles"]:
        names = " / ".join(f"{float(q):.0%}" for q in ages["quantiles"])
        yield f"years at {names}", " / ".join(f"{age:g}" for age in ages["quantiles"].values())


def _attributes(figures: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, row in figures["attributes"].items():
        values = {value: share for value, share in row["shares"].items() if value != "no"}
        text = ", ".join(f"{value} {share:.1%}" for value, share in values.items())
        filled = _percent(row["by_model"], row["known"]) if row["by_model"] else "-"
        yield name, _percent(row["known"], figures["photos"]), filled, text or ("never yes" if row["known"] else "-")


def _captions(captions: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for style, total in captions["styles"].items():
        for source, row in (("all", total), *total["by_source"].items()):
            means = [f"{row[name]:.1f}" for name in ("attributes", "words", "tokens")]
            yield style or "-", source, f"{row['captions']:,}", *means, f"{row['most_tokens']:,}"
    yield "categories", "", f"{captions['categories']} of 46", "", "", "", ""


def _questions(questions: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "questions", f"{questions['questions']:,}"
    yield "a photo: mean, least", f"{questions['per_photo']:.2f}, {questions['least']}"
    yield "photos with fewer than 8", f"{questions['below_8']:,}"
    yield "dialogues", f"{questions['dialogues']:,}"
    for kind, count in questions["kinds"].items():
        yield f"of kind {kind}", f"{count:,} ({_percent(count, questions['questions'])})"
    yield "categories that answers tell", f"{questions['categories']} of 46"


# --- check -----------------------------------------------------------------------------------------------------


def check(
    source: SetArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Examples shown of each kind.")] = 5,
    distance: Annotated[
        int,
        typer.Option(
            "--distance",
            metavar="N",
            min=-1,
            max=15,
            help="Signs of 256 in which near copies differ; -1 does not look for them.",
        ),
    ] = 6,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Look for what is wrong with a set; exit code 1 if anything is.

    Damaged shards and images, columns and values that the schema does not have, photos and persons in two splits,
    labels that contradict each other, captions and questions that say what the labels do not.

    [dim]unif2ace data check sets/asked[/dim]

    [dim]unif2ace data check sets/asked --limit 20 --json > findings.json[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    models.listen(reporter)
    from unif2ace_core.data.check import check_set
    from unif2ace_core.data.shards import shard_names

    with reporter.progress("Checking", len(shard_names(source))) as advance:
        findings = check_set(source, distance, limit, lambda: advance(1))
    if json:
        reporter.record({"set": str(source), **as_record(findings)})
    else:
        tell(reporter, findings)
    if findings.total:
        raise typer.Exit(FAILED)


def as_record(findings: Findings) -> dict[str, Any]:
    """The findings as JSON has them."""
    kinds = {
        kind: {
            "count": group.count,
            "rules": dict(group.rules.most_common()),
            "examples": [{"where": each.where, "what": each.what} for each in group.examples],
        }
        for kind, group in findings.found()
    }
    return {"photos": findings.photos, "findings": findings.total, "kinds": kinds}


def tell(reporter: Reporter, findings: Findings) -> None:
    """The findings by kind: how many, of which rules, the first ones; then one line on the whole."""
    from unif2ace_cli.console import one_line
    from unif2ace_core.data.check import KINDS

    for kind, group in findings.found():
        reporter.line(f"{KINDS[kind]}: {group.count:,}")
        rules = group.rules.most_common()
        for rule, count in rules[:RULES] if len(rules) > 1 else ():
            reporter.line(f"{count:>10,}  {rule}")
        if len(rules) > RULES:
            reporter.line(f"{sum(count for _, count in rules[RULES:]):>10,}  of {len(rules) - RULES} other rules")
        for each in group.examples:
            reporter.line(f"    {each.where}: {one_line(each.what)}")
    found = f"{findings.total:,} finding{'s' * (findings.total > 1)}" if findings.total else "nothing found"
    reporter.line(f"{findings.photos:,} photos, {found}")
