"""Tars from anywhere: a JSON of wrong types is named, labels that are not the schema's are left out, names are free.

pytest tests/data/test_importer_webdataset.py
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unif2ace_core.data.importers import Imported, open_importer
from unif2ace_core.errors import UserError

GOOD: dict[str, Any] = {"source": "s", "file": "a.png", "split": "train", "labels": {"Male": "no", "Bald": ""}}


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 40, 90)).save(stream, "PNG")
    return stream.getvalue()


def tar_of(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def row(folder: Path, content: bytes | Any) -> Path:
    """A tar of one photo and what is said of it."""
    said = content if isinstance(content, bytes) else json.dumps(content).encode()
    return tar_of(folder / "x.tar", [("in/a.png", picture()), ("in/a.json", said)])


def read(path: Path) -> list[Imported]:
    importer = open_importer("webdataset", path)
    return [importer.read(each) for each in importer.rows()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": "x"}, "age is 'x', not a number"),
        ({"age": True}, "age is True, not a number"),
        ({"age": float("nan")}, "age is nan, not a number"),
        ({"age": 10**400}, r"age is 10+\.\.\., not a number"),
        ({"file": 3}, "file is 3, not a text"),
        ({"file": ""}, "file is '', not a name"),
        ({"source": None}, "source is None, not a text"),
        ({"split": " "}, "split is ' ', not a name"),
        ({"split": "half"}, "unknown split 'half'"),
        ({"person": 0}, "person is 0, not a text"),
        ({"labels": None}, "labels is None, not an object"),
        ({"labels": {"Male": 1}}, "label 'Male' is 1, not a text"),
        ({"labels": {"Male": ["no"]}}, "label 'Male' is \\['no'\\], not a text"),
        ({"labels": {"Male": "\ud800"}}, "label 'Male' is .*, not a text"),
        ({"probabilities": {"Male": "sure"}}, "probability 'Male' is 'sure', not a number"),
        ({"landmarks": [[1]]}, "landmarks is \\[\\[1\\]\\], not 5 points"),
        ({"landmarks": [[1, 2]]}, "not 5 points"),
        ({"landmarks": [[1, "2"]] * 5}, "a landmark is '2', not a number"),
        ({"landmarks": 5}, "landmarks is 5, not a list"),
        ({"source_captions": "hello"}, "source_captions is 'hello', not a list"),
        ({"source_captions": [1]}, "a source caption is 1, not a text"),
        ({"source_questions": ["Who?"]}, "a source question is 'Who\\?', not an object"),
        ({"source_questions": [{"question": "Who?"}]}, "a source answer is None, not a text"),
        ({"source_questions": {"a": "b"}}, "source_questions is .*, not a list"),
    ],
)
def test_a_value_of_a_wrong_type_names_tar_and_member_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_importer("webdataset", row(tmp_path, {**GOOD, **changes})).rows()
    said = str(caught.value)
    assert "in/a.json of " in said and "x.tar" in said and "\n" not in said and len(said) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "is no JSON object"),
        (b'"text"', "is no JSON object"),
        (b'{"source": "x"}', "has no 'file'"),
    ],
)
def test_a_json_that_is_no_row_names_tar_and_member(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"in/a\.json of .*x\.tar {message}"):
        open_importer("webdataset", row(tmp_path, content)).rows()


def test_labels_that_are_not_the_schemas_are_left_out_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"Male": "Yes", "Bald": "", "Smiling": "maybe", "Tall": "yes", "Wide": "", "Emotion": "fear"}
    chances = {"Male": -1, "Smiling": 0.5, "Tall": 0.5, "Emotion": 0.75}
    path = row(tmp_path, {**GOOD, "labels": labels, "probabilities": chances})
    (found,) = read(path)
    assert found.record.labels == {"Male": "yes", "Emotion": "fear"} and found.probabilities == {"Emotion": 0.75}
    said = f"{path}: 2 labels are none of the schema's and count as unknown"
    assert [record.message for record in caplog.records] == [said]


def test_null_is_unknown_wherever_something_may_be(tmp_path: Path) -> None:
    names = ("age", "person", "probabilities", "landmarks", "source_captions", "source_questions")
    (bare,) = read(row(tmp_path, GOOD))
    assert read(row(tmp_path, {**GOOD, **dict.fromkeys(names), "labels": {"Male": "no", "Bald": None}})) == [bare]
    assert bare.record.age is None and bare.record.person is None and bare.landmarks is None


@pytest.mark.parametrize("turned", [False, True])
def test_members_may_lie_in_folders_with_dots_and_stand_in_either_order(tmp_path: Path, turned: bool) -> None:
    members = [("./", b""), ("./._a-1.png", b"x"), ("./notes.txt", b"x")]
    for number in range(3):
        said = json.dumps({**GOOD, "file": f"{number}.png"}).encode()
        pair = [(f"./v1.0/a-{number}.png", picture()), (f"./v1.0/a-{number}.json", said)]
        members += pair[::-1] if turned else pair
    found = read(tar_of(tmp_path / "x.tar", members))
    assert [each.record.file for each in found] == ["0.png", "1.png", "2.png"]
    assert all(each.image == picture() for each in found)
