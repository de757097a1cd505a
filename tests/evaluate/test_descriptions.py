"""Suite `descriptions`: the truth has precision 1, silence recall 0, and what counts is what is written down."""

from __future__ import annotations

import random

import pytest
import torch
from PIL import Image

from unif2ace_core.data.attributes import BINARY, derive
from unif2ace_core.data.descriptions import description
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.descriptions import describe_all, named, report


def face(number: int = 0, **labels: str) -> FaceRecord:
    return FaceRecord("celebahq", f"{number}.webp", "val", derive(labels), None, None)


def measured(records: list[FaceRecord], texts: list[str]) -> dict:
    return report(records, texts, torch.Generator().manual_seed(0))


def people(count: int = 40) -> list[FaceRecord]:
    rng = random.Random(0)
    return [face(number, **{name: rng.choice(("no", "yes")) for name in BINARY}) for number in range(count)]


def test_a_describer_that_names_only_true_labels_has_precision_1() -> None:
    records = people()
    found = measured(records, [description(record, random.Random(1)) for record in records])
    assert found["precision"] == 1.0 and found["precision_interval"] == [1.0, 1.0]
    assert 0 < found["recall"] <= 1.0 and found["named"] > 5 and found["naming_nothing"] == 0


def test_descriptions_of_other_faces_are_less_precise_and_recall_less() -> None:
    records = people()
    texts = [description(record, random.Random(1)) for record in records]
    right, wrong = measured(records, texts), measured(records, texts[1:] + texts[:1])
    assert wrong["precision_interval"][1] < right["precision"] and wrong["recall"] < right["recall"]


def test_silence_has_no_precision_and_no_recall() -> None:
    found = measured(people(), [""] * 40)
    assert (found["precision"], found["recall"], found["named"], found["naming_nothing"]) == (None, 0.0, 0.0, 40)
    assert found["precision_interval"] == [None, None] and found["precision_n"] == 0


@pytest.mark.parametrize(
    ("text", "precision", "recall"),
    [
        ("She is wearing glasses and is smiling.", 2 / 3, 0.5),  # a woman, glasses; not smiling
        ("She is not smiling.", 1.0, 0.0),
        ("A woman with brown hair.", 1.0, 0.5),  # Hair_Color follows from Brown_Hair
        ("A woman with a necklace.", 1.0, 0.0),  # unlabelled: neither right nor wrong
        ("A woman with a big nose.", 1.0, 0.0),  # right, but not among the visible
        ("Smiling, not smiling.", None, 0.0),
    ],
)
def test_what_counts_is_as_documented(text: str, precision: float | None, recall: float) -> None:
    record = face(Male="no", Eyeglasses="yes", Brown_Hair="yes", Smiling="no", Big_Nose="yes", No_Beard="yes")
    found = measured([record], [text])
    assert found["precision"] == (precision and round(precision, 4)) and found["recall"] == recall
    assert found["recall_n"] == 2, "a face without a beard shows none"


@pytest.mark.parametrize(
    ("text", "recall"),
    [
        ("He has a beard.", 1.0),
        ("He has a goatee.", 1.0),
        ("He has stubble.", 1.0),
        ("He has a mustache.", 0.0),
        ("He is clean-shaven.", 0.0),
    ],
)
def test_a_beard_is_what_is_present_of_no_beard_and_its_kind_names_it(text: str, recall: float) -> None:
    row = measured([face(Male="yes", No_Beard="no")], [text])["by_attribute"]["No_Beard"]
    assert (row["recall"], row["n_present"]) == (recall, 1)
    assert row["precision"] == {"He has a beard.": 1.0, "He is clean-shaven.": 0.0}.get(text)


def test_attributes_add_up_to_the_whole() -> None:
    records = people()
    found = measured(records, [description(record, random.Random(1)) for record in records])
    rows = found["by_attribute"].values()
    assert sum(row["n_named"] for row in rows) == found["precision_n"]
    assert sum(row["n_present"] for row in rows) == found["recall_n"]


def test_values_that_follow_are_not_named_again() -> None:
    assert named("a woman with black hair, smiling with her mouth open") == {
        "Black_Hair": "yes", "Male": "no", "Mouth_Slightly_Open": "yes", "Smiling": "yes",
    }  # fmt: skip


def test_texts_come_in_the_order_of_the_photos_whatever_the_chunk() -> None:
    photos, done = [Image.new("RGB", (8 + i, 8)) for i in range(7)], []
    expected = [str(photo.width) for photo in photos]
    for chunk in (3, 100):
        texts = describe_all(photos, lambda part: [str(p.width) for p in part], chunk, lambda *a: done.append(a))
        assert texts == expected
    assert done == [(3, 7), (6, 7), (7, 7), (7, 7)]
