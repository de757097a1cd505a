"""Reading label tables and photos: unknown stays unknown, contradictions are dropped, errors are plain."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.sources import PhotoStore, read_descriptors, read_landmarks, read_records
from unif2ace_core.errors import UserError


def _table(folder: Path, name: str, rows: list[dict[str, object]], packed: bool = False) -> None:
    """A source of grey squares, as a folder or a zip."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(columns), *(",".join(str(row.get(key, "")) for key in columns) for row in rows)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    photos = folder / name
    photos.mkdir()
    for place, row in enumerate(rows):
        Image.new("L", (8, 8), place * 10).save(photos / str(row["file"]), format="PNG")
    if packed:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path in sorted(photos.iterdir()):
                archive.write(path, path.name)
                path.unlink()
        photos.rmdir()


def test_own_table_is_read_by_schema_names(tmp_path: Path) -> None:
    rows = [
        {"file": "a.png", "split": "val", "Male": 1, "Smiling": "no", "Emotion": "Neutral", "age": 34},
        {"file": "b.png", "split": "train", "Male": 0, "Bald": "", "Emotion": "bored", "person": "p1"},
    ]
    _table(tmp_path, "mine", rows)
    first, second = read_records(tmp_path)
    assert dict(first.labels) == {
        "Male": "yes", "Smiling": "no", "Emotion": "neutral", "Age_Group": "young adult",
    }  # fmt: skip
    assert first.age == 34.0 and first.split == "val"
    assert dict(second.labels) == {"Male": "no"} and second.age is None and second.person == "p1"


@pytest.mark.parametrize(
    ("no", "yes"), [("0", "1"), ("-1", "1"), ("-1.0", "1.0"), ("False", "True"), ("false", "TRUE"), ("No", "Yes")]
)
def test_own_table_may_write_no_and_yes_in_any_usual_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, no: str, yes: str
) -> None:
    _table(tmp_path, "mine", [{"file": "a.png", "Smiling": no, "Eyeglasses": yes, "Bald": ""}])
    with caplog.at_level("INFO", "unif2ace_core"):
        assert dict(read_records(tmp_path)[0].labels) == {"Smiling": "no", "Eyeglasses": "yes"}
    assert not caplog.messages


def test_values_that_cannot_be_read_are_counted_in_one_line_a_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        rows = [{"file": f"{n}.png", "Smiling": value, "Emotion": "bored"} for n, value in enumerate(("maybe", 1))]
        _table(tmp_path, name, rows)
    _table(tmp_path, "utkface", [{"file": "a.png", "age": 30, "gender": 0, "Smiling": 0.5}])
    with caplog.at_level("INFO", "unif2ace_core"):
        assert [dict(r.labels) for r in read_records(tmp_path, sources=["one", "two"])] == [{}, {"Smiling": "yes"}] * 2
        read_records(tmp_path, sources=["utkface"])
    assert len(caplog.messages) == 2 and all(".csv: 3 values" in line for line in caplog.messages)


def test_split_and_source_choose_records(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _table(tmp_path, name, [{"file": "a.png", "split": "train"}, {"file": "b.png", "split": "val"}])
    assert [r.key for r in read_records(tmp_path, "val")] == [("one", "b.png"), ("two", "b.png")]
    assert [r.key for r in read_records(tmp_path, "train", ["two"])] == [("two", "a.png")]


def test_machine_probabilities_between_the_cuts_are_unknown(tmp_path: Path) -> None:
    rows = [{"file": f"{p}.png", "emotion": "", "Eyeglasses": p, "Wearing_Earrings": p} for p in (0.02, 0.5, 0.95)]
    _table(tmp_path, "lfw", rows)
    labels = [r.labels for r in read_records(tmp_path)]
    assert [row.get("Eyeglasses") for row in labels] == ["no", None, "yes"]
    assert [row.get("Wearing_Earrings") for row in labels] == [None, None, "yes"]
    assert all("Emotion" not in row for row in labels)


def test_machine_guess_against_a_human_label_is_dropped(tmp_path: Path) -> None:
    rows = [{"file": "a.png", "emotion": "neutral", "Smiling": 0.99}]
    _table(tmp_path, "lfw", rows)
    assert "Smiling" not in read_records(tmp_path)[0].labels


def test_children_get_no_guessed_beard_or_makeup(tmp_path: Path) -> None:
    rows = [{"file": "a.png", "age": 4, "gender": 0, "Mustache": 0.9, "Wearing_Lipstick": 0.9, "Smiling": 0.9}]
    _table(tmp_path, "utkface", rows)
    labels = read_records(tmp_path)[0].labels
    assert "Mustache" not in labels and "Wearing_Lipstick" not in labels
    assert labels["Age_Group"] == "child" and labels["Male"] == "yes" and labels["Smiling"] == "yes"


@pytest.mark.parametrize("packed", [False, True])
def test_photos_open_from_folder_and_zip_and_survive_pickling(tmp_path: Path, packed: bool) -> None:
    _table(tmp_path, "mine", [{"file": "a.png"}, {"file": "b.png"}], packed)
    records = read_records(tmp_path)
    store = PhotoStore(tmp_path)
    copy = pickle.loads(pickle.dumps(store))
    for each in (store, copy):
        assert each.open(records[1]).getpixel((0, 0)) == (10, 10, 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_photos_open_after_a_fork(tmp_path: Path) -> None:
    _table(tmp_path, "mine", [{"file": f"{i}.png"} for i in range(9)], packed=True)
    records, store = read_records(tmp_path), PhotoStore(tmp_path)
    store.open(records[0])
    child = os.fork()
    if child == 0:
        good = all(store.open(r).getpixel((0, 0))[0] == i * 10 for i, r in enumerate(records))
        os._exit(0 if good else 1)
    assert all(store.open(r).getpixel((0, 0))[0] == i * 10 for i, r in enumerate(records))
    assert os.waitpid(child, 0)[1] == 0


def test_missing_and_broken_data_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no face data"):
        read_records(tmp_path)
    _table(tmp_path, "mine", [{"file": "a.png"}])
    record = read_records(tmp_path)[0]
    with pytest.raises(UserError, match="no source 'other'"):
        read_records(tmp_path, sources=["other"])
    (tmp_path / "mine" / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="no image"):
        PhotoStore(tmp_path).open(record)
    (tmp_path / "mine" / "a.png").unlink()
    with pytest.raises(UserError, match="missing"):
        PhotoStore(tmp_path).open(record)
    with pytest.raises(UserError, match="missing"):
        read_landmarks(tmp_path)


def test_unreadable_tables_name_the_line(tmp_path: Path) -> None:
    _table(tmp_path, "utkface", [{"file": "a.png", "age": "old", "gender": 0}])
    with pytest.raises(UserError, match="line 2"):
        read_records(tmp_path)
    (tmp_path / "utkface.csv").write_text("name\nx\n")
    with pytest.raises(UserError, match="no column 'file'"):
        read_records(tmp_path)


def test_landmarks_leave_out_what_the_detector_missed(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "landmarks.npz",
        lfw_file=["a", "b"],
        lfw_points=np.ones((2, 5, 2), np.float16),
        lfw_hit=[1, 0],
    )
    points = read_landmarks(tmp_path)
    assert list(points) == [("lfw", "a")]
    assert points["lfw", "a"].shape == (5, 2) and points["lfw", "a"].dtype == np.float32


def test_real_data_has_only_schema_values_and_known_sizes(data_dir: Path) -> None:
    records = read_records(data_dir)
    assert len({r.key for r in records}) == len(records) > 50_000
    assert all(value in BY_NAME[name].values for r in records for name, value in r.labels.items())
    assert {r.split for r in records} == {"train", "val"}
    people = {split: {r.person for r in records if r.person and r.split == split} for split in ("train", "val")}
    assert not people["train"] & people["val"]


def test_real_photos_landmarks_and_descriptors_belong_to_records(data_dir: Path) -> None:
    records = read_records(data_dir)
    store = PhotoStore(data_dir)
    for record in records[::9000]:
        assert store.open(record).mode == "RGB"
    keys = {r.key for r in records}
    landmarks, descriptors = read_landmarks(data_dir), read_descriptors(data_dir)
    assert set(landmarks) <= keys and set(descriptors) <= keys
    assert {value.shape for value in descriptors.values()} == {(128,)}
