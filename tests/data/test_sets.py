"""A set as training reads it: rows in the order of the shards, photos likewise, keys by what the photos are.

pytest tests/data/test_sets.py
"""

from __future__ import annotations

from pathlib import Path

import factory_toys as toys
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from unif2ace_core.data.pixels import aligned_pixels, framed_photo
from unif2ace_core.data.sets import SetRecords, data_directory, is_set, preferred_sources
from unif2ace_core.data.shards import read_shard, records_of, shards_of, with_column, write_shard
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.photos import aligned_photos, located_photos
from unif2ace_core.train.records import split_records

pytestmark = pytest.mark.usefixtures("own_cache")


def brightness(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=int)


def two_sources(aligned_faces: Path, folder: Path) -> Path:
    """The set with every other photo said to be of a second source."""
    for shard in shards_of(toys.captioned(aligned_faces, folder)):
        table = read_shard(shard.path)
        names = [("mine", "yours")[row % 2] for row in range(len(table))]
        write_shard(shard.path, with_column(table, "source", names, pa.string()))
    return folder


def test_records_are_those_of_the_shards_in_order(aligned_faces: Path) -> None:
    expected = [
        r for s in shards_of(aligned_faces) if s.name.startswith("train") for r in records_of(read_shard(s.path))
    ]
    found = SetRecords(aligned_faces, "train")
    assert list(found) == expected and len(found) == 10
    assert found[3] == expected[3] and found[2:4] == expected[2:4] and found[len(found) - 1] == expected[-1]
    assert not found.has("captions")


def test_some_sources_are_chosen_alike_in_records_and_photos(aligned_faces: Path, tmp_path: Path) -> None:
    mixed = two_sources(aligned_faces, tmp_path / "mixed")
    found = SetRecords(mixed, "train", ("yours",))
    assert len(found) == 5 and {record.source for record in found} == {"yours"}
    photos = aligned_pixels(mixed, found, 64)
    rows = [row for s in shards_of(mixed) if "train" in s.name for row in read_shard(s.path).to_pylist()]
    for record, photo in zip(found, photos, strict=True):
        (row,) = [row for row in rows if row["file"] == record.file]
        assert np.array_equal(photo, framed_photo(row["image"]["bytes"], 64))
    assert preferred_sources(mixed, ("yours", "theirs")) == ("yours",)
    assert preferred_sources(mixed, ("theirs",)) == ("mine", "yours")


def test_the_key_is_the_same_until_the_photos_change(aligned_faces: Path, tmp_path: Path) -> None:
    text = toys.asked(toys.captioned(aligned_faces, tmp_path / "captioned"), tmp_path / "asked")
    turned = toys.captioned(aligned_faces, tmp_path / "turned")
    first = shards_of(turned)[0].path
    write_shard(first, read_shard(first).take([1, 0, 2, 3]))
    assert SetRecords(turned, "train").key != SetRecords(aligned_faces, "train").key
    assert SetRecords(text, "train").key == SetRecords(aligned_faces, "train").key
    assert SetRecords(text, "val").key != SetRecords(aligned_faces, "train").key


def test_photos_of_another_side_are_resized(aligned_faces: Path) -> None:
    assert aligned_pixels(aligned_faces, SetRecords(aligned_faces, "val"), 32).shape == (6, 32, 32, 3)


def test_what_cannot_be_trained_on_is_said(made_up_faces: Path, aligned_faces: Path, tmp_path: Path) -> None:
    raw = toys.imported(made_up_faces, tmp_path / "raw")
    with pytest.raises(UserError, match="not aligned; run 'unif2ace data align'"):
        SetRecords(raw, "train")
    with pytest.raises(UserError, match="no photos of split 'test'"):
        split_records(aligned_faces, "test")
    shards_of(aligned_faces)[0].path.rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks train-00000"):
        SetRecords(aligned_faces, "train")
    (tmp_path / "away").rename(aligned_faces / "data" / "train-00000.parquet")


def test_a_name_that_is_no_folder_is_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def snapshot(name: str, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"has no stages\.json"):
        data_directory("owner/faces")
    (tmp_path / "stages.json").write_text("{}")
    assert data_directory("owner/faces") == tmp_path and is_set(tmp_path) and asked == ["owner/faces"] * 2
    assert data_directory(str(tmp_path)) == tmp_path and data_directory("./a") == Path("a")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    assert data_directory("sets/typo") == Path("sets/typo") and len(asked) == 2


def test_shards_without_rows_are_no_hindrance(aligned_faces: Path, tmp_path: Path) -> None:
    import datasets

    thin = toys.captioned(aligned_faces, tmp_path / "thin")
    for shard in shards_of(thin):
        if shard.name in ("train-00000", "val-00000", "val-00001"):
            write_shard(shard.path, read_shard(shard.path).slice(0, 0))
    found = SetRecords(thin, "train")
    assert len(found) == 6 and len(list(found)) == 6 and found.texts(0)["captions"]
    assert len(aligned_pixels(thin, found, 64)) == 6
    with pytest.raises(UserError, match="no photos of split 'val'"):
        split_records(thin, "val")
    files = sorted(str(path) for path in (thin / "data").glob("train-*.parquet"))
    assert datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "hf"))["train"].num_rows == 6


def test_damage_is_named_in_one_line(aligned_faces: Path, tmp_path: Path) -> None:
    broken = toys.captioned(aligned_faces, tmp_path / "broken")
    path = shards_of(broken)[0].path
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"train-00000\.parquet cannot be read"):
        SetRecords(broken, "train")


def test_a_model_is_measured_on_a_set_as_on_the_folder_it_was_made_of(aligned_faces: Path, made_up_faces: Path) -> None:
    records = list(SetRecords(aligned_faces, "val"))[::-2]
    found = aligned_photos(aligned_faces, records, 64)
    assert list(found) == [record.key for record in records]
    originals = {path.name: brightness(Image.open(path)) for path in (made_up_faces / "mine").iterdir()}
    for record in records:
        crop = brightness(found[record.key])
        assert min(originals, key=lambda name: np.abs(originals[name] - crop).mean()) == record.file
    assert list(located_photos(aligned_faces, records, lambda image: None)) == []
