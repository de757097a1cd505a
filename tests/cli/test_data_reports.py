"""`unif2ace data stats` and `unif2ace data check`: tables, JSON, a page, and the exit code of what is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unif2ace_cli.app import Entry
from unif2ace_cli.commands import data
from unif2ace_cli.commands.data.reports import check, model_folder, stats


@pytest.fixture
def run(command_line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, made_up_faces: Path) -> Callable[..., Any]:
    """The command line in a folder with the set `captioned`, with both commands."""
    for name, function, usage in (("stats", stats, "SET [-o FILE] [OPTIONS]"), ("check", check, "SET [OPTIONS]")):
        if name not in data.SUBCOMMANDS:
            monkeypatch.setitem(data.SUBCOMMANDS, name, (function, usage, Entry("...")))
    assert command_line("data", "import", "packed", str(made_up_faces), "-o", "raw", "--rows", "5").code == 0
    assert command_line("data", "caption", "raw", "-o", "captioned").code == 0
    return command_line


def test_stats_prints_tables_and_writes_a_page(run: Callable[..., Any]) -> None:
    done = run("data", "stats", "captioned", "-o", "stats.html", "--samples", "3")
    assert done.code == 0 and done.err == "" and done.lines[-1] == "stats.html"
    assert all(title in done.out for title in ("photos", "persons", "attributes", "captions", "Smiling", "dense"))
    page = Path("stats.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.count("<article") == 3
    assert run("data", "stats", "captioned", "-o", "stats.html", "--samples", "0").code == 0
    assert "<article" not in Path("stats.html").read_text(encoding="utf-8")
    assert [path.name for path in Path().iterdir() if path.suffix in (".html", ".tmp")] == ["stats.html"]


def test_stats_as_json_is_one_record(run: Callable[..., Any]) -> None:
    done = run("data", "stats", "captioned", "--json", "-o", "a.html")
    record = json.loads(done.out)
    assert len(done.lines) == 1 and record["photos"] == 16 and record["page"] == "a.html"
    assert record["captions"]["styles"]["dense"]["tokens"] > 0 and record["questions"] is None


def test_check_of_contradictory_labels_ends_with_1_and_no_error(run: Callable[..., Any]) -> None:
    done = run("data", "check", "captioned", "--limit", "2", "--distance", "-1")  # their labels are random
    assert done.code == 1 and done.err == ""
    assert done.lines[0].startswith("labels that contradict each other: ") and done.lines[-1].startswith("16 photos, ")
    assert sum(line.startswith("    mine/") for line in done.lines) == 2


def test_check_as_json_is_one_record(run: Callable[..., Any]) -> None:
    Path("captioned/data/train-00000.parquet").write_bytes(b"PAR1")
    done = run("data", "check", "captioned", "--json")
    record = json.loads(done.out)
    assert done.code == 1 and len(done.lines) == 1 and record["kinds"]["shards"]["rules"] == {"damaged": 1}
    assert record["findings"] == sum(kind["count"] for kind in record["kinds"].values())


def test_check_of_a_clean_set_is_one_line(run: Callable[..., Any], made_up_faces: Path) -> None:
    folder = Path("plain/mine")
    folder.mkdir(parents=True)
    Path("plain/mine.csv").write_text("file,split,Smiling\n0.png,train,1\n1.png,val,0\n")
    for name in ("0.png", "1.png"):
        (folder / name).write_bytes((made_up_faces / "mine" / name).read_bytes())
    assert run("data", "import", "packed", "plain", "-o", "clean").code == 0
    done = run("data", "check", "clean")
    assert (done.code, done.lines, done.err) == (0, ["2 photos, nothing found"], "")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("stats", "nowhere"), 1, "holds no data set"),
        (("check", "nowhere"), 1, "holds no data set"),
        (("stats", "captioned", "-o", "raw"), 2, "is a folder"),
        (("stats", "captioned", "-o", "nowhere/a.html"), 1, "nowhere"),
        (("stats", "captioned", "--tokenizer", "nowhere"), 1, "no model 'nowhere'"),
        (("check", "captioned", "--distance", "16"), 2, "distance"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run: Callable[..., Any], args: tuple[str, ...], code: int, words: str
) -> None:
    done = run("data", *args)
    assert done.code == code and words in done.error and done.out == ""


def test_the_tokens_of_the_embedded_model_are_counted_where_no_other_is_named() -> None:
    from unif2ace_core.weights.resolve import EMBEDDED

    assert model_folder("mini") == EMBEDDED
