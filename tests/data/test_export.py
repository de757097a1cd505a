"""Exported tars: the same bytes however they were made, read by other loaders, and the same set when brought back."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from factory_toys import contents
from PIL import Image

from unif2ace_core.data.importers import open_importer
from unif2ace_core.data.shards import (
    EXPORT,
    Job,
    Made,
    Share,
    base_schema,
    following,
    is_complete,
    read_shard,
    record_of,
    row_of,
    run_stage,
    shards_of,
    write_shard,
)
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.export import ENCODED, export_jobs, plain, suffix_of, write_export_card, write_tar
from unif2ace_core.data.stages.imports import import_jobs
from unif2ace_core.data.stages.texts import STYLES, caption_jobs, question_jobs
from unif2ace_core.errors import UserError
from unif2ace_core.train.records import split_records

KEPT = ("image", "source", "file", "split", "person", "age", "labels", "probabilities", "landmarks",
        "source_captions", "source_questions")  # fmt: skip
GUESSES = {"Male": 0.7, "Emotion": 0.9375}  # by a model, of rows that know something


def image_file(shade: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (shade * 9, 40, 90)).save(stream, kind)
    return stream.getvalue()


def made_up_rows(kind: Callable[[int], str]) -> list[dict[str, Any]]:
    """Rows that know little at first and much later, as sources that follow each other do."""
    rows = []
    for place in range(14):
        known, split = place > 6, "val" if place > 9 else "train"
        labels = {"Male": "no", "Emotion": "fear"} if known else {}
        record = FaceRecord("a.b/c", f"in/{place}.x.png", split, labels, 20.1 + place if known else None,
                            f"p{place}" if known else None)  # fmt: skip
        points = [(1.5 + place, 2.0)] * 5 if known else None
        texts = (["Hübsch, says the source."], [("Who?", "Nobody.")]) if known else ([], [])
        rows.append(row_of(record, image_file(place, kind(place)), points, *texts))
    return rows


def set_of(rows: list[dict[str, Any]], folder: Path, size: int = 4, stage: str = "import") -> Path:
    """A data set of rows, shards of `size`."""
    jobs = []
    for split in ("train", "val"):
        chosen = [row for row in rows if row["split"] == split]
        for number, start in enumerate(range(0, len(chosen), size)):
            table = pa.Table.from_pylist(chosen[start : start + size], schema=base_schema())
            jobs.append(Job(f"{split}-{number:05d}", lambda table=table: Made(table, {})))  # type: ignore[misc]
    run_stage(folder, [{"stage": stage}], jobs)
    return folder


def exported(source: Path, output: Path, share: Share | None = None, rows: int = 5) -> Path:
    run_stage(output, following(source, EXPORT, {"rows": rows}), export_jobs(source, rows), share)
    if is_complete(output, export_jobs(source, rows)):
        write_export_card(source, output)
    return output


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [row for shard in shards_of(folder) for row in read_shard(shard.path, KEPT).to_pylist()]
    return {row["file"]: row for row in rows}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return set_of(made_up_rows(lambda place: ("PNG", "JPEG", "WEBP", "GIF")[place % 4]), tmp_path / "raw")


@pytest.fixture
def framed(tmp_path: Path) -> Path:
    """A set with captions and questions, all images of one kind."""
    raw = set_of(made_up_rows(lambda place: "WEBP"), tmp_path / "framed")
    said, asked = tmp_path / "said", tmp_path / "asked"
    run_stage(said, following(raw, "caption", {}), caption_jobs(raw, STYLES, 0))
    run_stage(asked, following(said, "questions", {}), question_jobs(said, 8, 0))
    return asked


def test_a_tar_has_image_and_json_of_each_row_under_one_plain_key(raw: Path, tmp_path: Path) -> None:
    made = exported(raw, tmp_path / "made")
    assert sorted(path.name for path in (made / "data").iterdir()) == [
        "train-00000.tar", "train-00001.tar", "val-00000.tar",
    ]  # fmt: skip
    seen, wanted = [], rows_of(raw)
    for path in sorted((made / "data").iterdir()):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for image, rest in zip(members[::2], members[1::2], strict=True):
                key, _, suffix = image.name.partition(".")
                assert rest.name == f"{key}.json" and "/" not in key and not image.mtime and not image.uid
                item = json.loads(tar.extractfile(rest).read())  # type: ignore[union-attr]
                content = tar.extractfile(image).read()  # type: ignore[union-attr]
                assert content == wanted[item["file"]]["image"]["bytes"] and suffix == suffix_of(content, key)
                seen.append(key)
    assert len(set(seen)) == len(wanted) == 14


def test_a_set_comes_back_equal(raw: Path, tmp_path: Path) -> None:
    made = exported(raw, tmp_path / "made")
    importer = open_importer("webdataset", made)
    run_stage(tmp_path / "back", [{"stage": "import"}], import_jobs(importer))
    before, after = rows_of(raw), rows_of(tmp_path / "back")
    assert before.keys() == after.keys()
    for file, row in before.items():
        assert after[file] == row
    assert [importer.record(row) for row in importer.rows()] == [record_of(row) for row in before.values()]


def test_what_a_model_guessed_comes_back_as_guessed_however_often(tmp_path: Path) -> None:
    rows = made_up_rows(lambda place: "PNG")
    for place in (8, 9):
        rows[place]["probabilities"] |= {"Male": GUESSES["Male"], "Emotion": GUESSES["Emotion"] if place > 8 else None}
    last = set_of(rows, tmp_path / "raw", stage="annotate")
    wanted = rows_of(last)
    for turn in range(2):
        made = exported(last, tmp_path / f"made{turn}")
        last = tmp_path / f"back{turn}"
        stages = [{"stage": "import", "kind": "webdataset"}]
        run_stage(last, stages, import_jobs(open_importer("webdataset", made)))
        assert rows_of(last) == wanted
    assert wanted["in/9.x.png"]["probabilities"]["Emotion"] == 0.9375
    assert sum(p is not None for row in wanted.values() for p in row["probabilities"].values()) == 3


def test_a_set_without_a_split_says_what_can_be_done_for_every_kind(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in made_up_rows(lambda place: "PNG")]
    whole = set_of(rows, tmp_path / "faces", stage="align")
    said = "split 'val'; mark some val in the source, or import it with --val-share where it has no splits"
    with pytest.raises(UserError, match=f"holds no photos of {said}"):
        split_records(whole, "val")


def test_processes_and_stops_change_no_byte(framed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(exported(framed, tmp_path / "whole"))
    for index in (1, 0):
        exported(framed, tmp_path / "shared", Share(index, 2))
    assert contents(tmp_path / "shared") == whole

    def broken(path: Path, table: Any) -> None:
        path.with_name(f".{path.name}.abc.tmp").write_bytes(b"half")
        raise KeyboardInterrupt

    jobs = export_jobs(framed, 5)
    with pytest.raises(KeyboardInterrupt):
        stages = following(framed, EXPORT, {"rows": 5})
        run_stage(tmp_path / "again", stages, [jobs[0], replace(jobs[1], write=broken), *jobs[2:]])
    assert contents(exported(framed, tmp_path / "again")) == whole


def test_tars_hold_as_many_rows_as_asked_whatever_the_shards(raw: Path, tmp_path: Path) -> None:
    for rows, counts in ((1, [1] * 14), (3, [3, 3, 3, 1, 3, 1]), (100, [10, 4])):
        jobs = export_jobs(raw, rows)
        assert [len(job.make().table) for job in jobs] == counts


def test_hugging_face_datasets_reads_what_the_first_rows_do_not_know(framed: Path, tmp_path: Path) -> None:
    import datasets

    made = exported(framed, tmp_path / "made")
    files = {"train": [str(path) for path in sorted((made / "data").glob("train-*.tar"))]}
    found = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"), split="train")
    assert len(found) == 10 and found[0]["webp"].size == (16, 16)
    first, last = found[0]["json"], found[9]["json"]
    assert first["labels"]["Emotion"] == "" and last["labels"]["Emotion"] == "fear"
    assert first["age"] == -1 and last["person"] == "p9" and last["age"] == pytest.approx(29.1)
    assert last["captions"][0]["style"] == "dense" and len(last["questions"]) >= 8
    whole = datasets.load_dataset(str(made), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in whole.items()} == {"train": 10, "val": 4}
    assert next(iter(datasets.load_dataset(str(made), split="val", streaming=True)))["__key__"] == "val-00000-000000"


def test_probabilities_are_exported_where_a_model_filled_in(raw: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", read_shard(shards_of(raw)[0].path))
    with tarfile.open(tmp_path / "a.tar") as tar:
        item = json.loads(tar.extractfile("a-000000.json").read())  # type: ignore[union-attr]
    assert item["probabilities"]["Male"] == -1 and item["labels"]["Male"] == "" and "landmarks" not in item
    with tarfile.open(exported(raw, tmp_path / "made") / "data" / "train-00000.tar") as tar:
        assert "probabilities" not in json.loads(tar.extractfile("train-00000-000000.json").read())  # type: ignore[union-attr]


def test_columns_of_encoders_are_left_out_and_the_card_says_so(raw: Path, tmp_path: Path) -> None:
    import numpy as np

    from unif2ace_core.train.encode import PARTS

    assert set(ENCODED) == set(PARTS)
    for shard in shards_of(raw):
        table = read_shard(shard.path)
        values = pa.array(np.zeros(3 * len(table), np.int16))
        for name in ENCODED:
            table = table.append_column(name, pa.FixedSizeListArray.from_arrays(values, 3))
        write_shard(shard.path, table)
    made = exported(raw, tmp_path / "made")
    with tarfile.open(made / "data" / "train-00000.tar") as tar:
        item = json.loads(tar.extractfile("train-00000-000000.json").read())  # type: ignore[union-attr]
    assert "labels" in item and not item.keys() & set(ENCODED)
    text = (made / "README.md").read_text()
    assert "codes and features of encoders" in text and "- `codes`" not in text and "- `labels`" in text


def test_lists_of_numbers_are_plain() -> None:
    import numpy as np

    codes = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.int16)), 3)
    halves = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float16) / 2), 3)
    assert plain(codes.to_pylist()[1], codes.type) == [3, 4, 5]
    assert json.dumps(plain(halves.to_pylist()[1], halves.type)) == "[1.5, 2.0, 2.5]"


def test_the_card_names_the_tars_and_the_stages(raw: Path, tmp_path: Path) -> None:
    text = (exported(raw, tmp_path / "made") / "README.md").read_text()
    assert "path: data/train-*.tar" in text and "2. `export`" in text and str(tmp_path) not in text


def test_an_export_is_no_input_of_a_stage(raw: Path, tmp_path: Path) -> None:
    made = exported(raw, tmp_path / "made")
    with pytest.raises(UserError, match=r"is an export; .*import webdataset"):
        caption_jobs(made, STYLES, 0)


def test_tars_of_others_and_damaged_ones_are_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tar in"):
        open_importer("webdataset", tmp_path / "nowhere")
    with pytest.raises(UserError, match="leave mapping"):
        open_importer("webdataset", tmp_path, Path("lfw"))
    path = exported(raw, tmp_path / "made") / "data" / "train-00000.tar"
    whole = path.read_bytes()
    for length in (700, 3000, len(whole) - 10000):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"train-00000\.tar is no whole tar"):
            open_importer("webdataset", path).rows()
    path.write_bytes(b"no tar at all")
    with pytest.raises(UserError, match="is no whole tar"):
        open_importer("webdataset", path).rows()
    with tarfile.open(path, "w"):
        pass
    with pytest.raises(UserError, match="has no images"):
        open_importer("webdataset", path).rows()


def test_a_damaged_image_in_a_tar_is_left_out(raw: Path, tmp_path: Path) -> None:
    path = exported(raw, tmp_path / "made") / "data" / "val-00000.tar"
    importer = open_importer("webdataset", path)
    _, start, size = map(int, importer.rows()[1].path.split(":"))
    whole = bytearray(path.read_bytes())
    whole[start + 20 : start + size] = bytes(size - 20)
    path.write_bytes(whole)
    (job,) = import_jobs(importer)
    made = job.make()
    assert len(made.table) == 3 and len(made.report["unreadable"]) == 1
