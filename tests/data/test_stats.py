"""`data stats`: the figures are those counted by hand, and the page is one file that shows texts as texts."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from unif2ace_core.data.shards import Job, Made, row_of, run_stage, shards_of, with_column
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.imports import table_of
from unif2ace_core.data.stages.texts import caption_type, question_type
from unif2ace_core.data.stats import Sample, collect, strongest
from unif2ace_core.data.stats_page import histogram, page, thumbnail
from unif2ace_core.errors import UserError

EVIL = '<script>alert(1)</script> & "quotes" \''


def image(colour: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (300, 200), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def record(number: int, split: str, source: str, labels: dict[str, str], **rest: Any) -> FaceRecord:
    return FaceRecord(source, f"{number}.png", split, labels, rest.get("age"), rest.get("person"))


TRAIN = [
    record(0, "train", "mine", {"Smiling": "yes", "Bald": "no", "Emotion": "happiness"}, age=10.0, person="secret"),
    record(1, "train", "mine", {"Smiling": "yes", "Bald": "yes"}, age=20.0, person="secret"),
    record(2, "train", EVIL, {"Smiling": "no", "Bald": "no", "Emotion": "anger"}, age=30.0),
]
VAL = [record(3, "val", "mine", {"Smiling": "no", "Bald": "yes", "Emotion": "anger"}, person="other")]


def caption(style: str, text: str, **said: str) -> dict[str, Any]:
    return {"style": style, "text": text, "attributes": [{"name": n, "value": v} for n, v in said.items()]}


def question(number: int, kind: str, answer: str, *names: str) -> dict[str, Any]:
    texts = {
        "kind": kind,
        "family": "action",
        "question": f"{EVIL}?",
        "answer": answer,
        "value": "",
        "dialogue": number,
    }
    return {**texts, "attributes": list(names)}


CAPTIONS = [
    [caption("dense", "one two three", Smiling="yes", Bald="no"), caption("tags", EVIL)],
    [caption("dense", "one two three four five", Smiling="yes", Bald="yes")],
    [caption("dense", "one", Emotion="anger")],
    [],
]
QUESTIONS = [
    [question(0, "yes_no", "Yes, he is.", "Smiling"), question(0, "open", "Happy.", "Emotion")],
    [question(n, "yes_no", "No.", "Smiling") for n in range(3)],
    [question(n, "unanswerable", "I cannot tell.", "Oval_Face") for n in range(8)],
    [],
]


def made(folder: Path, texts: bool = True) -> Path:
    """A set of four photos in two shards."""
    jobs = []
    for name, records, places in (("train-00000", TRAIN, slice(3)), ("val-00000", VAL, slice(3, 4))):
        table = table_of([row_of(each, image(n)) for n, each in enumerate(records)])
        rows = table.to_pylist()
        for row in rows:
            row["probabilities"]["Bald"] = 0.75 if row["file"] in ("0.png", "3.png") else None
        table = pa.Table.from_pylist(rows, schema=table.schema)
        if texts:
            table = with_column(table, "captions", CAPTIONS[places], caption_type())
            table = with_column(table, "questions", QUESTIONS[places], question_type())
        jobs.append(Job(name, lambda table=table: Made(table, {"rows": len(table)})))  # type: ignore[misc]
    run_stage(folder, [{"stage": "import"}], jobs)
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("stats") / "set")


@pytest.fixture(scope="module")
def counted(directory: Path) -> tuple[dict[str, Any], list[Sample]]:
    return collect(directory, lambda text: 2 * len(text.split()), samples=3, seed=1)


def test_photos_persons_and_ages_are_those_counted_by_hand(counted: tuple[dict[str, Any], list[Sample]]) -> None:
    figures, _ = counted
    assert (figures["photos"], figures["shards"], figures["stages"]) == (4, 2, ["import"])
    assert figures["by_split"] == [
        {"split": "train", "source": EVIL, "photos": 1},
        {"split": "train", "source": "mine", "photos": 2},
        {"split": "val", "source": "mine", "photos": 1},
    ]
    assert figures["persons"] == {"persons": 2, "photos": 3}
    assert figures["ages"]["known"] == 3 and figures["ages"]["quantiles"]["0.5"] == 20.0
    assert figures["ages"]["by_five_years"] == {"10": 1, "20": 1, "30": 1}


def test_attributes_are_those_counted_by_hand(counted: tuple[dict[str, Any], list[Sample]]) -> None:
    attributes = counted[0]["attributes"]
    assert len(attributes) == 46
    assert attributes["Smiling"]["shares"] == {"no": 0.5, "yes": 0.5} and attributes["Smiling"]["by_model"] == 0
    assert attributes["Bald"] == {
        "known": 4, "by_model": 2, "counts": {"no": 2, "yes": 2}, "shares": {"no": 0.5, "yes": 0.5},
    }  # fmt: skip
    assert attributes["Emotion"]["counts"] == {"happiness": 1, "anger": 2}
    assert attributes["Oval_Face"] == {"known": 0, "by_model": 0, "counts": {}, "shares": {}}


def test_co_occurrence_is_the_correlation_of_the_yes_values(counted: tuple[dict[str, Any], list[Sample]]) -> None:
    together = counted[0]["co_occurrence"]
    assert together["names"] == ["Bald", "Smiling"]
    assert together["photos"] == [[2, 1], [1, 2]]  # one photo of four has both
    assert together["phi"] == [[1.0, 0.0], [0.0, 1.0]] and together["lift"][0][1] == 1.0
    assert strongest(together, 5) == [("Smiling", "Bald", 0.0, 1)]


def test_captions_are_those_counted_by_hand(counted: tuple[dict[str, Any], list[Sample]]) -> None:
    captions = counted[0]["captions"]
    dense = captions["styles"]["dense"]
    assert captions["captions"] == 4 and captions["categories"] == 3 and len(captions["not_covered"]) == 43
    assert (dense["captions"], dense["attributes"], dense["words"], dense["tokens"]) == (3, 1.67, 3.0, 6.0)
    assert dense["by_source"]["mine"]["attributes"] == 2.0 and dense["by_source"]["mine"]["most_tokens"] == 10
    assert dense["histograms"]["words"] == {"1": 1, "3": 1, "5": 1}
    assert captions["styles"]["tags"]["attributes"] == 0.0


def test_questions_are_those_counted_by_hand(counted: tuple[dict[str, Any], list[Sample]]) -> None:
    questions = counted[0]["questions"]
    assert (questions["questions"], questions["per_photo"], questions["least"]) == (13, 3.25, 0)
    assert questions["below_8"] == 3 and questions["dialogues"] == 1
    assert questions["kinds"] == {"unanswerable": 8, "yes_no": 4, "open": 1}
    assert questions["yes_no"] == {"Smiling": {"questions": 4, "yes": 0.25}}
    assert questions["categories"] == 2  # what is declined covers nothing


def test_sets_without_texts_have_figures_and_a_page(tmp_path: Path) -> None:
    figures, samples = collect(made(tmp_path / "set", texts=False), len, samples=2)
    assert figures["captions"] is None and figures["questions"] is None and len(samples) == 2
    text = page(figures, samples)
    assert "Captions" not in text and "Questions" not in text and "Attributes" in text


def test_samples_are_a_function_of_the_seed_and_no_more_than_there_are(directory: Path) -> None:
    draws = [[sample.file for sample in collect(directory, len, 2, seed)[1]] for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1] and len({tuple(draw) for draw in draws}) > 1
    assert [sample.file for sample in collect(directory, len, 99)[1]] == ["0.png", "1.png", "2.png", "3.png"]
    assert collect(directory, len, 0)[1] == []


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    directory = made(tmp_path / "set")
    path = shards_of(directory)[0].path
    path.write_bytes(path.read_bytes()[:-50])
    for samples in (0, 2):
        with pytest.raises(UserError, match=r"train-00000\.parquet cannot be read .*run its stage again"):
            collect(directory, len, samples)


# --- The page --------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Whether tags are closed in order, and what addresses they have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(counted: tuple[dict[str, Any], list[Sample]]) -> str:
    return page(*counted)


def test_the_page_is_one_file_without_scripts(written: str) -> None:
    tags = Tags()
    tags.feed(written)
    assert tags.open == [] and not tags.seen & {"script", "link", "iframe", "object"}
    assert tags.addresses and all(each.startswith(("#", "data:image/webp;base64,")) for each in tags.addresses)
    assert not re.search(r"https?:|url\(|@import", written) and "default-src 'none'" in written


def test_the_page_shows_texts_as_texts(written: str) -> None:
    assert EVIL not in written and "<script" not in written
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in written


def test_the_page_names_no_person(written: str) -> None:
    assert "secret" not in written


def test_the_page_links_only_to_sections_that_it_has(written: str) -> None:
    assert set(re.findall(r'href="#(\w+)"', written)) <= set(re.findall(r'id="(\w+)"', written))
    assert "prefers-color-scheme: dark" in written and 'name="viewport"' in written


def test_thumbnails_are_small_and_missing_images_leave_a_gap(directory: Path) -> None:
    assert thumbnail(image()).startswith("data:image/webp;base64,") and len(thumbnail(image())) < 2000
    assert thumbnail(None) == "" == thumbnail(b"no image")
    figures, _ = collect(directory, len)
    assert "no image" in page(figures, [Sample("mine", "a.png", "val", None, (), ())])


def test_an_empty_histogram_has_no_bars_and_a_long_one_few() -> None:
    assert histogram({}) == []
    bars = histogram({str(value): 1 for value in range(100)}, bars=30)
    assert len(bars) == 25 and sum(bar.number for bar in bars) == 100 and bars[0].label == "0-3"
    assert [(bar.first, bar.number, bar.share) for bar in histogram({"2": 1, "4": 2})] == [
        (2, 1, 50.0), (3, 0, 0.0), (4, 2, 100.0),
    ]  # fmt: skip
