"""`data check`: a clean set has no finding, every kind of damage is found, and damage never ends the check."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from unif2ace_core.data.attributes import derive
from unif2ace_core.data.check import KINDS, Findings, check_set
from unif2ace_core.data.check_rules import contradictions
from unif2ace_core.data.shards import Job, Made, following, read_shard, row_of, run_stage, shards_of, write_shard
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.imports import table_of
from unif2ace_core.data.stages.texts import STYLES, caption_jobs, question_jobs
from unif2ace_core.errors import UserError

WOMAN = {"Male": "no", "Blond_Hair": "yes", "Black_Hair": "no", "Smiling": "yes", "Mouth_Slightly_Open": "yes"}
MAN = {"Male": "yes", "No_Beard": "no", "Goatee": "yes", "Eyeglasses": "yes", "Wearing_Hat": "no", "Young": "no"}


def picture(seed: int) -> bytes:
    """The file of a picture that no other seed has."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def row(number: int, split: str) -> dict[str, Any]:
    """A sound row: a woman of 30 or a man of 50, two photos of each person."""
    labels, age, group = (MAN, 50.0, "middle-aged") if number % 2 else (WOMAN, 30.0, "young adult")
    person = f"{split}{number % 4 // 2}"
    record = FaceRecord("mine", f"{number}.png", split, derive({**labels, "Age_Group": group}), age, person)
    return row_of(record, picture(number))


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set before and after its captions and questions."""
    folder = tmp_path_factory.mktemp("made")
    raw = folder / "raw"
    names = {"train-00000": range(4), "train-00001": range(4, 8), "val-00000": range(8, 12)}
    jobs = [
        Job(name, lambda n=name, r=numbers: Made(table_of([row(i, n[:-6]) for i in r]), {"rows": 4}))  # type: ignore[misc]
        for name, numbers in names.items()
    ]
    run_stage(raw, [{"stage": "import"}], jobs)
    run_stage(folder / "captioned", following(raw, "caption", {}), caption_jobs(raw, STYLES, 0))
    source = folder / "captioned"
    run_stage(folder / "set", following(source, "questions", {}), question_jobs(source, 8, 0))
    return folder


@pytest.fixture
def clean(made_once: Path, tmp_path: Path) -> Path:
    """A captioned and questioned set of two shards of train and one of val, four photos each."""
    return Path(shutil.copytree(made_once / "set", tmp_path / "set"))


def change(directory: Path, edit: Callable[[dict[str, Any]], None], shard: int = 0, number: int = 0) -> None:
    """Edit one row of a shard in place."""
    path = shards_of(directory)[shard].path
    table = read_shard(path)
    rows = table.to_pylist()
    edit(rows[number])
    write_shard(path, pa.Table.from_pylist(rows, schema=table.schema.remove_metadata()))


def counts(findings: Findings) -> dict[str, int]:
    return {kind: group.count for kind, group in findings.found()}


def setting(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that puts a value at a place in a row."""

    def edit(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return edit


def test_a_clean_set_has_no_finding(clean: Path) -> None:
    findings = check_set(clean)
    assert counts(findings) == {} and findings.photos == 12 and findings.total == 0


def test_a_folder_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no data set"):
        check_set(tmp_path)


# --- One row ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "edit", "words"),
    [
        ("values", setting("labels", "Oval_Face", value="perhaps"), "'perhaps'"),
        ("values", setting("labels", "Emotion", value="yes"), "none of neutral"),
        ("values", setting("age", value=-3.0), "-3 years"),
        ("values", setting("age", value=float("nan")), "nan years"),
        ("values", setting("landmarks", value=[[1.0, 2.0]] * 4), "five points"),
        ("splits", setting("split", value="val"), "in a shard of 'train'"),
        ("images", setting("image", "bytes", value=b"no image"), "cannot be decoded"),
        ("images", setting("image", "bytes", value=picture(0)[:-900]), "cannot be decoded"),
        ("images", setting("image", "bytes", value=None), "no bytes"),
        ("repeated_photos", setting("file", value="9.png"), "mine/0.png"),
        ("persons_across_splits", setting("person", value="val0"), "another split"),
        ("contradictory_labels", setting("labels", "Emotion", value="sadness"), "Smiling=yes with Emotion=sadness"),
        ("contradictory_labels", setting("age", value=70.0), "age says senior"),
        ("captions", setting("captions", 0, "text", value="a woman"), "is stored with"),
        ("captions", setting("captions", 3, "text", value=" "), "empty"),
        ("probabilities", setting("probabilities", "Smiling", value=1.5), "is 1.5"),
        ("probabilities", setting("probabilities", "Smiling", value=float("nan")), "is nan"),
        ("probabilities", setting("probabilities", "Oval_Face", value=0.5), "no label"),
    ],
)
def test_what_is_wrong_with_a_row_is_found(
    clean: Path, kind: str, edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    if kind == "repeated_photos":  # as the first of val, whose name is "8.png"
        change(clean, setting("file", value="0.png"), shard=2)
    else:
        change(clean, edit)
    group = check_set(clean).groups[kind]
    assert group.count == 1 and len(group.examples) == 1
    example = group.examples[0]
    assert words in f"{example.where}: {example.what}" and "mine/" in example.where


def test_a_question_that_the_labels_do_not_confirm_is_found(clean: Path) -> None:
    asked = {
        "dialogue": 0, "kind": "yes_no", "family": "action", "question": "Is she smiling?",
        "answer": "No, she is not smiling.", "value": "no", "attributes": ["Smiling"],
    }  # fmt: skip
    change(clean, lambda row: row.update(questions=[asked, {**asked, "answer": None}, None]))
    findings = check_set(clean)
    assert counts(findings) == {"questions": 3}
    assert dict(findings.groups["questions"].rules) == {"yes_no": 1, "incomplete": 2}


def test_a_caption_that_says_what_the_labels_do_not_is_found(clean: Path) -> None:
    said = [{"name": "Male", "value": "no"}, {"name": "Wearing_Hat", "value": "yes"}]
    false = {"style": "short", "text": "a woman wearing a hat", "attributes": said}
    change(clean, lambda row: row.update(captions=[false]))
    group = check_set(clean).groups["captions"]
    assert dict(group.rules) == {"say what labels do not": 1}
    assert "Wearing_Hat=yes where the labels have nothing" in group.examples[0].what


def test_persons_are_not_named(clean: Path) -> None:
    change(clean, setting("person", value="val0"))
    example = check_set(clean).groups["persons_across_splits"].examples[0]
    assert "val0" not in f"{example.where} {example.what}" and "mine/" in example.what


# --- Copies ----------------------------------------------------------------------------------------------------


def shrunk(content: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).resize((40, 40)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def test_a_copy_in_another_split_is_found_and_one_in_its_own_is_none(clean: Path) -> None:
    change(clean, setting("image", "bytes", value=shrunk(picture(0))), shard=1)
    assert counts(check_set(clean, distance=12)) == {}
    change(clean, setting("image", "bytes", value=shrunk(picture(1))), shard=2)
    findings = check_set(clean, distance=12)
    assert counts(findings) == {"copies_across_splits": 1}
    (example,) = findings.groups["copies_across_splits"].examples
    assert example.where == "mine/8.png (val)" and "mine/1.png (train)" in example.what
    assert counts(check_set(clean, distance=-1)) == {}


def with_hashes(directory: Path, hashes: Iterable[str | None]) -> None:
    """Store hashes of the photos, as `data align` does."""
    left = iter(hashes)
    for shard in shards_of(directory):
        table = read_shard(shard.path)
        table = table.append_column("phash", pa.array([next(left) for _ in range(len(table))], pa.string()))
        write_shard(shard.path, table.replace_schema_metadata(None))


def random_hashes(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [rng.bytes(32).hex() for _ in range(count)]


def test_stored_hashes_are_taken_where_there_are_some(clean: Path) -> None:
    hashes = random_hashes(12)
    hashes[8] = hashes[0]
    with_hashes(clean, hashes)
    assert counts(check_set(clean)) == {"copies_across_splits": 1}


def test_a_copy_of_a_copy_is_found_where_it_is_far_from_the_first(clean: Path) -> None:
    hashes = random_hashes(12)
    signs = np.unpackbits(np.frombuffer(bytes.fromhex(hashes[0]), np.uint8))
    for place, flipped in ((1, 5), (8, 10)):  # 5 from the first; 10 from the first and 5 from the second
        near = signs.copy()
        near[:flipped] ^= 1
        hashes[place] = np.packbits(near).tobytes().hex()
    with_hashes(clean, hashes)
    group = check_set(clean).groups["copies_across_splits"]
    assert group.count == 1 and "mine/1.png" in group.examples[0].what


def test_what_is_no_hash_is_found_and_the_photo_hashed(clean: Path) -> None:
    change(clean, setting("image", "bytes", value=picture(0)), shard=2)
    with_hashes(clean, ["nonsense", *[None] * 11])
    assert counts(check_set(clean)) == {"values": 1, "copies_across_splits": 1}


# --- Shards ----------------------------------------------------------------------------------------------------


def test_a_truncated_shard_is_found_and_the_others_are_checked(clean: Path) -> None:
    path = shards_of(clean)[0].path
    path.write_bytes(path.read_bytes()[:-200])
    findings = check_set(clean)
    assert counts(findings) == {"shards": 1} and findings.photos == 8
    assert findings.groups["shards"].examples[0].where == "data/train-00000.parquet"


def test_a_shard_with_damaged_pages_is_found(clean: Path) -> None:
    path = shards_of(clean)[1].path
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(bytes(content))
    findings = check_set(clean)
    assert counts(findings) == {"shards": 1} and findings.photos == 8


def test_an_empty_file_a_missing_shard_and_a_stray_one_are_found(clean: Path) -> None:
    first, second, third = (shard.path for shard in shards_of(clean))
    first.write_bytes(b"")
    third.rename(third.with_name("val-00007.parquet"))
    assert dict(check_set(clean).groups["shards"].rules) == {"damaged": 1, "missing": 1, "stray": 1}
    assert second.is_file()


@pytest.mark.parametrize(
    ("content", "rule"), [(None, "missing"), ("{", "unreadable"), ("[]", "unreadable"), ('{"rows": 3}', "other rows")]
)
def test_reports_are_looked_at(clean: Path, content: str | None, rule: str) -> None:
    path = clean / "reports" / "questions" / "train-00001.json"
    path.unlink() if content is None else path.write_text(content)
    findings = check_set(clean)
    assert counts(findings) == {"reports": 1} and dict(findings.groups["reports"].rules) == {rule: 1}


def rewrite(directory: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    path = shards_of(directory)[0].path
    parquet.write_table(edit(parquet.read_table(path).replace_schema_metadata(None)), path)


@pytest.mark.parametrize("name", ["image", "source", "file", "split", "person", "age", "labels", "probabilities"])
def test_a_missing_column_is_found_and_the_rest_is_checked(clean: Path, name: str) -> None:
    rewrite(clean, lambda table: table.drop_columns([name]))
    findings = check_set(clean)
    assert counts(findings) == {"columns": 1} and findings.photos == 12
    assert findings.groups["columns"].examples[0].what == f"column {name} is missing"


@pytest.mark.parametrize("name", ["age", "file", "labels", "captions", "questions"])
def test_a_column_of_another_type_is_found(clean: Path, name: str) -> None:
    def edit(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, pa.array([[1]] * len(table)))

    rewrite(clean, edit)
    findings = check_set(clean)
    assert (
        counts(findings) == {"columns": 1}
        and f"column {name} is of type" in findings.groups["columns"].examples[0].what
    )


def test_labels_of_another_schema_are_named(clean: Path) -> None:
    def edit(table: pa.Table) -> pa.Table:
        kept = [field for field in table.schema.field("labels").type if field.name != "Bald"]
        column = pa.array(table["labels"].to_pylist(), pa.struct(kept))
        return table.set_column(table.column_names.index("labels"), "labels", column)

    rewrite(clean, edit)
    assert "lacks Bald: string" in check_set(clean).groups["columns"].examples[0].what


def with_features(directory: Path, edit: Callable[[int, list[Any]], Any] = lambda place, rows: rows) -> None:
    """Store clip features of four numbers, those of a shard changed by `edit`."""
    for place, shard in enumerate(shards_of(directory)):
        table = read_shard(shard.path)
        values = edit(place, [[0.5, -1.0, 2.0, float(number)] for number in range(len(table))])
        if values is not None:
            column = values if isinstance(values, pa.Array) else pa.array(values, pa.list_(pa.float32()))
            table = table.append_column("clip", column)
        write_shard(shard.path, table.replace_schema_metadata(None))


@pytest.mark.parametrize("kind", [pa.list_(pa.float16(), 4), pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_sound_features_are_no_finding(clean: Path, kind: pa.DataType) -> None:
    with_features(clean, lambda place, rows: pa.array([[np.float16(n) for n in row] for row in rows], kind))
    assert counts(check_set(clean)) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "clip is null"),
        ([1.0, 2.0, 3.0], "clip has 3 numbers where others have 4"),
        ([1.0, None, 3.0, 4.0], "without a finite number"),
        ([1.0, float("nan"), 3.0, 4.0], "without a finite number"),
        ([1.0, float("inf"), 3.0, 4.0], "without a finite number"),
    ],
)
def test_features_that_training_cannot_take_are_found(clean: Path, value: Any, words: str) -> None:
    with_features(clean, lambda place, rows: [*rows[:2], value, *rows[3:]] if place == 1 else rows)
    findings = check_set(clean)
    assert counts(findings) == {"features": 1} and dict(findings.groups["features"].rules) == {"clip": 1}
    (example,) = findings.groups["features"].examples
    assert example.where == "mine/6.png (train)" and words in example.what


def test_fixed_lists_of_halves_are_looked_at_too(clean: Path) -> None:
    rows = [np.full(4, number, np.float16) for number in (1.0, np.nan, 3.0, 4.0)]
    with_features(clean, lambda place, _: pa.array([*rows[:3], None], pa.list_(pa.float16(), 4)))
    assert counts(check_set(clean)) == {"features": 6}


def test_a_shard_that_lacks_a_column_of_the_others_or_has_one_more_is_found(clean: Path) -> None:
    with_features(clean, lambda place, rows: None if place == 2 else rows)
    group = check_set(clean).groups["columns"]
    assert [(each.where, each.what) for each in group.examples] == [
        ("data/val-00000.parquet", "column clip is missing, which train-00000 has")
    ]
    rewrite(clean, lambda table: table.drop_columns(["clip"]))
    (example,) = check_set(clean).groups["columns"].examples
    assert (example.where, example.what) == ("data/train-00001.parquet", "column clip is not in train-00000")


def test_a_column_of_another_type_than_in_the_first_shard_with_rows_is_found(clean: Path) -> None:
    kinds = [pa.list_(pa.float16(), 4), pa.list_(pa.float16(), 2), pa.list_(pa.float16(), 4)]
    with_features(clean, lambda place, rows: pa.array([[np.float16(1)] * kinds[place].list_size] * 4, kinds[place]))
    group = check_set(clean).groups["columns"]
    assert group.count == 1 and group.examples[0].where == "data/train-00001.parquet"
    assert "of type fixed_size_list<item: halffloat>[2], not" in group.examples[0].what.replace("element", "item")


def test_shards_without_rows_are_sound(clean: Path) -> None:
    with_features(clean)
    path = shards_of(clean)[0].path
    table = read_shard(path).slice(0, 0)
    column = pa.array([], pa.list_(pa.int16(), 1))
    write_shard(path, table.set_column(table.column_names.index("clip"), "clip", column).replace_schema_metadata(None))
    (clean / "reports" / "questions" / "train-00000.json").write_text('{"rows": 0}')
    assert counts(check_set(clean)) == {}


def test_an_export_is_named_as_such(clean: Path) -> None:
    (clean / "stages.json").write_text('{"stages": [{"stage": "export"}], "shards": ["train-00000"]}')
    with pytest.raises(UserError, match="is an export; take the set it was made of"):
        check_set(clean)


def test_what_is_no_image_is_named_without_an_address_and_a_bomb_is_found(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(clean, setting("image", "bytes", value=b"no image"))
    (example,) = check_set(clean).groups["images"].examples
    assert example.what == "the image cannot be decoded (not an image)"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    group = check_set(clean).groups["images"]
    assert group.count == 12 and "decompression bomb" in group.examples[-1].what


@pytest.mark.parametrize("stage", ["raw", "captioned"])
def test_sets_without_texts_can_be_checked(made_once: Path, stage: str) -> None:
    assert counts(check_set(made_once / stage)) == {}


def test_examples_are_limited_and_all_are_counted(clean: Path) -> None:
    for shard in range(3):
        for number in range(4):
            change(clean, setting("labels", "Bangs", value="maybe"), shard, number)
    group = check_set(clean, limit=2).groups["values"]
    assert (group.count, len(group.examples), dict(group.rules)) == (12, 2, {"Bangs": 12})
    assert check_set(clean, limit=0).groups["values"].count == 12


def test_every_kind_has_words(clean: Path) -> None:
    assert set(check_set(clean).groups) == set(KINDS)
    assert json.loads((clean / "stages.json").read_text())["shards"]


# --- Contradictions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "age", "words"),
    [
        ({"Bald": "yes", "Blond_Hair": "yes"}, None, "Bald=yes with Blond_Hair=yes"),
        ({"Bald": "yes", "Bangs": "yes"}, None, "Bald=yes with Bangs=yes"),
        ({"Black_Hair": "yes", "Blond_Hair": "yes"}, None, "Black_Hair=yes with Blond_Hair=yes"),
        ({"No_Beard": "yes", "Goatee": "yes"}, None, "No_Beard=yes with Goatee=yes"),
        ({"No_Beard": "yes", "Mustache": "yes"}, None, "No_Beard=yes with Mustache=yes"),
        ({"Eyes": "behind sunglasses", "Eyeglasses": "no"}, None, "Eyes=behind sunglasses with Eyeglasses=no"),
        ({"Age_Group": "child"}, 30.0, "Age_Group=child where the age says young adult"),
        ({"Young": "no"}, 18.0, "Young=no below 26 years"),
        ({"Young": "yes"}, 75.0, "Young=yes from 60 years"),
        ({"Mustache": "yes"}, 7.0, "Mustache=yes below 13 years"),
        ({"Age_Group": "child", "No_Beard": "no"}, 7.0, "Age_Group=child with No_Beard=no"),
        ({"Male": "no", "Goatee": "yes"}, None, "Male=no with Goatee=yes"),
        ({"Hair_Color": "black", "Brown_Hair": "yes"}, None, "Hair_Color=black where the labels that it comes from"),
        ({"Hair_Color": "blond", "Blond_Hair": "no"}, None, "Hair_Color=blond with Blond_Hair=no"),
        ({"Mouth_Action": "closed", "Smiling": "yes"}, None, "Mouth_Action=closed with Smiling=yes"),
        ({"Skin_Tone": "even", "Pale_Skin": "yes"}, None, "Skin_Tone=even with Pale_Skin=yes"),
        ({"Smiling": "yes", "Emotion": "anger"}, None, "Smiling=yes with Emotion=anger"),
    ],
)  # fmt: skip
def test_a_contradiction_is_told_once(labels: dict[str, str], age: float | None, words: str) -> None:
    (text,) = contradictions(labels, age)
    assert text.startswith(words)


@pytest.mark.parametrize(
    ("labels", "age"),
    [
        ({"Brown_Hair": "yes", "Blond_Hair": "yes"}, None),
        ({"No_Beard": "yes", "5_o_Clock_Shadow": "yes"}, 30.0),
        ({"Bald": "yes", "Receding_Hairline": "yes", "Hair_Color": "bald"}, 60.0),
        ({"Smiling": "yes", "Emotion": "surprise"}, None),
        ({"Eyes": "behind sunglasses", "Eyeglasses": "yes", "Narrow_Eyes": "no"}, None),
        ({"Young": "yes", "Age_Group": "middle-aged"}, 45.0),
        ({"Pale_Skin": "yes", "Rosy_Cheeks": "yes", "Skin_Tone": "rosy"}, None),
        (derive({"Smiling": "yes", "Mouth_Slightly_Open": "no", "Black_Hair": "yes", "Brown_Hair": "yes"}), None),
        ({}, 5.0),
    ],
)
def test_what_may_be_true_together_is_no_contradiction(labels: dict[str, str], age: float | None) -> None:
    assert contradictions(labels, age) == []
