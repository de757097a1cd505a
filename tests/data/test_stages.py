"""Stages of the data factory: the same bytes however often they stop and however many processes share them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory_toys import FRAMED, Killed, aligned, asked, captioned, contents, imported, no_locator
from PIL import Image, ImageFilter

from unif2ace_core.data import shards
from unif2ace_core.data.card import card, write_card
from unif2ace_core.data.importers import open_importer
from unif2ace_core.data.parse import parse
from unif2ace_core.data.shards import (
    Job,
    Share,
    following,
    own_share,
    read_shard,
    record_of,
    records_of,
    run_stage,
    shards_of,
    wait_for,
)
from unif2ace_core.data.sources import read_records
from unif2ace_core.data.stages.align import (
    FACES,
    decoded,
    distinct_jobs,
    face_jobs,
    finish,
    settings_dict,
    start,
    unless_complete,
)
from unif2ace_core.data.stages.hashes import difference_hash, repeats
from unif2ace_core.data.stages.imports import import_jobs
from unif2ace_core.data.stages.texts import STYLES, all_records, caption_jobs
from unif2ace_core.errors import UserError


@pytest.fixture
def raw(made_up_faces: Path, tmp_path: Path) -> Path:
    return imported(made_up_faces, tmp_path / "raw")


def test_an_import_holds_the_photos_and_labels_of_its_source(made_up_faces: Path, raw: Path) -> None:
    found = {record.key: record for record in all_records(raw)}
    assert found == {record.key: replace(record, labels=found[record.key].labels) for record in found.values()}
    for record in read_records(made_up_faces):
        assert dict(found[record.key].labels) == dict(record.labels)
        assert (found[record.key].split, found[record.key].person) == (record.split, record.person)
    row = read_shard(shards_of(raw)[0].path).to_pylist()[0]
    assert row["image"]["bytes"] == (made_up_faces / "mine" / row["file"]).read_bytes()


def test_shards_hold_one_split_each_and_no_more_rows_than_asked(raw: Path) -> None:
    for shard in shards_of(raw):
        splits = {record.split for record in records_of(read_shard(shard.path))}
        assert splits == {shard.name.partition("-")[0]} and len(read_shard(shard.path)) <= 4


STAGES: dict[str, Callable[..., Path]] = {"align": aligned, "caption": captioned, "questions": asked}


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_make_the_set_of_one(raw: Path, tmp_path: Path, stage: str) -> None:
    make = STAGES[stage]
    one = make(raw, tmp_path / "one")
    if stage == "align":  # its second half waits for the first halves of all: here they take turns
        stages = following(raw, "align", settings_dict(FRAMED))
        for index in range(2):
            run_stage(tmp_path / "two" / FACES, stages, face_jobs(raw, FRAMED, no_locator), Share(index, 2))
    for index in (1, 0):
        make(raw, tmp_path / "two", Share(index, 2))
    assert contents(tmp_path / "two") == contents(one)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_goes_on_to_the_same_bytes(
    raw: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = STAGES[stage]
    whole = contents(make(raw, tmp_path / "whole"))
    write, written = shards.write_shard, []

    def killed(path: Path, table: Any) -> None:
        if len(written) == 2:
            path.with_name(f".{path.name}.abc.tmp").write_bytes(b"half")
            (path.parents[1] / "reports" / stage / f".{path.stem}.json.abc.tmp").write_bytes(b"half")
            raise Killed
        written.append(path)
        write(path, table)

    monkeypatch.setattr(shards, "write_shard", killed)
    with pytest.raises(Killed):
        make(raw, tmp_path / "again")
    monkeypatch.setattr(shards, "write_shard", write)
    assert contents(make(raw, tmp_path / "again")) == whole


def test_a_set_that_was_begun_otherwise_is_refused(raw: Path, tmp_path: Path) -> None:
    captioned(raw, tmp_path / "made")
    stages = following(raw, "caption", {"seed": 1})
    with pytest.raises(UserError, match="begun otherwise"):
        run_stage(tmp_path / "made", stages, caption_jobs(raw, STYLES, 1))
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "notes.txt").touch()
    with pytest.raises(UserError, match="not of a data set"):
        run_stage(tmp_path / "mine", stages, caption_jobs(raw, STYLES, 1))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no data set"):
        caption_jobs(tmp_path, STYLES, 0)


def test_captions_are_stored_with_what_they_say(raw: Path, tmp_path: Path) -> None:
    for shard in shards_of(captioned(raw, tmp_path / "made")):
        for row in read_shard(shard.path).to_pylist():
            labels = record_of(row).labels
            assert [caption["style"] for caption in row["captions"]] == list(STYLES)
            for caption in row["captions"]:
                said = {pair["name"]: pair["value"] for pair in caption["attributes"]}
                assert parse(caption["text"]) == said and said.items() <= labels.items()


def test_every_photo_is_asked_as_often_as_wanted(raw: Path, tmp_path: Path) -> None:
    for shard in shards_of(asked(raw, tmp_path / "made")):
        assert all(len(row["questions"]) >= 8 for row in read_shard(shard.path).to_pylist())


def test_texts_of_a_photo_do_not_depend_on_its_shard(made_up_faces: Path, raw: Path, tmp_path: Path) -> None:
    other = imported(made_up_faces, tmp_path / "other", rows=7)
    texts = []
    for source, name in ((raw, "a"), (other, "b")):
        rows = [
            row for shard in shards_of(captioned(source, tmp_path / name)) for row in read_shard(shard.path).to_pylist()
        ]
        texts.append({row["file"]: row["captions"] for row in rows})
    assert texts[0] == texts[1]


# --- Aligning ------------------------------------------------------------------------------------------------


def picture(seed: int, side: int = 96) -> Image.Image:
    """Smooth shapes that no other seed has."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def folder_of(pictures: dict[str, Image.Image], folder: Path) -> Path:
    """A source of pictures, in this order, with splits by the first letter."""
    (folder / "mine").mkdir(parents=True)
    rows = [f"{name},{'val' if name.startswith('v') else 'train'},yes" for name in pictures]
    (folder / "mine.csv").write_text("\n".join(["file,split,Smiling", *rows]) + "\n")
    for name, image in pictures.items():
        image.save(folder / "mine" / name)
    return folder


def kept_and_dropped(output: Path) -> tuple[list[str], dict[str, str]]:
    """Files of a set, and why others are not in it."""
    from unif2ace_core.data.shards import reports_of

    kept = [record.file for record in all_records(output)]
    dropped = [each for report in reports_of(output, "align").values() for each in report["dropped"]]
    return sorted(kept), {each["file"]: each["reason"] for each in dropped}


def test_near_copies_are_dropped_and_those_of_val_kept(tmp_path: Path) -> None:
    photo, stream = picture(0), io.BytesIO()
    photo.resize((80, 80)).save(stream, "JPEG", quality=70)
    copy = Image.open(io.BytesIO(stream.getvalue()))
    data = folder_of({"a.png": photo, "b.png": picture(1), "v.png": copy, "c.png": picture(2)}, tmp_path / "data")
    kept, dropped = kept_and_dropped(aligned(imported(data, tmp_path / "raw"), tmp_path / "made"))
    assert kept == ["b.png", "c.png", "v.png"] and dropped == {"a.png": "near copy of mine/v.png"}


def test_blurred_and_small_faces_are_dropped_with_a_reason(tmp_path: Path) -> None:
    blurred = picture(1).filter(ImageFilter.GaussianBlur(20))
    data = folder_of({"a.png": picture(0), "b.png": blurred}, tmp_path / "data")
    raw = imported(data, tmp_path / "raw")
    kept, dropped = kept_and_dropped(aligned(raw, tmp_path / "made"))
    assert kept == ["a.png"] and dropped == {"b.png": "blurred"}


def test_crops_have_the_size_asked_for(raw: Path, tmp_path: Path) -> None:
    row = read_shard(shards_of(aligned(raw, tmp_path / "made"))[0].path).to_pylist()[0]
    image = Image.open(io.BytesIO(row["image"]["bytes"]))
    assert image.size == (64, 64) and row["phash"] == row["phash"].lower() and len(row["phash"]) == 64


def test_the_first_half_of_an_alignment_is_removed_when_it_is_done(raw: Path, tmp_path: Path) -> None:
    assert not (aligned(raw, tmp_path / "made") / FACES).exists()


def test_the_first_half_stays_until_the_last_process_has_read_it(raw: Path, tmp_path: Path) -> None:
    made, stages = tmp_path / "made", following(raw, "align", settings_dict(FRAMED))
    aligned(raw, made, Share(0, 1))
    jobs, first, second = distinct_jobs(raw, made, FRAMED), Share(0, 2), Share(1, 2)
    for share in (first, second):
        start(made, share)
    run_stage(made / FACES, stages, face_jobs(raw, FRAMED, no_locator))
    finish(made, jobs, first)
    assert (made / FACES).is_dir()  # the second may be in the middle of it
    start(made, first)  # comes again and reads
    finish(made, jobs, second)
    assert (made / FACES).is_dir()
    finish(made, jobs, first)
    assert not (made / FACES).exists()
    finish(made, jobs, second)


def test_a_first_half_that_another_process_removed_is_no_error_where_the_second_is_there(
    raw: Path, tmp_path: Path
) -> None:
    made, stages = tmp_path / "made", following(raw, "align", settings_dict(FRAMED))
    jobs, lost = distinct_jobs(raw, made, FRAMED), face_jobs(raw, FRAMED, no_locator)
    with pytest.raises(UserError, match="readable"), unless_complete(made, jobs):
        run_stage(made, stages, jobs)  # there is no first half
    (late,) = [job for job in jobs if job.name == "train-00000"]

    def removed() -> Any:  # by a process that was faster
        aligned(raw, made)
        return late.make()

    assert run_stage(made, stages, [replace(job, make=removed) if job is late else job for job in jobs]) == 0
    wait_for(made / FACES, lost)
    with unless_complete(made, jobs):
        raise FileNotFoundError
    assert not (made / FACES).exists()


def test_hashes_tell_copies_from_other_pictures() -> None:
    hashes = [difference_hash(picture(seed)) for seed in range(20)]
    again = [difference_hash(picture(seed).resize((70, 70))) for seed in range(20)]
    assert repeats([*hashes, *again], 12) == {20 + seed: seed for seed in range(20)}
    assert repeats([hashes[0], hashes[0]], 0) == {1: 0}


def test_jobs_are_made_once(tmp_path: Path, raw: Path) -> None:
    made: list[str] = []
    jobs = [Job(job.name, lambda job=job: made.append(job.name) or job.make()) for job in caption_jobs(raw, STYLES, 0)]  # type: ignore[misc, func-returns-value]
    stages = following(raw, "caption", {})
    assert run_stage(tmp_path / "made", stages, jobs) == len(jobs) == len(made)
    assert run_stage(tmp_path / "made", stages, jobs) == 0 and len(made) == len(jobs)


def test_hugging_face_datasets_reads_a_set_with_its_images(raw: Path, tmp_path: Path) -> None:
    import datasets

    made = captioned(raw, tmp_path / "made")
    write_card(made)
    found = datasets.load_dataset(str(made), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 10, "val": 6}
    row = next(iter(datasets.load_dataset(str(made), split="val", streaming=True)))
    assert row["image"].size == (64, 64) and row["captions"][0]["style"] == "dense"


def test_the_card_tells_the_stages_and_no_path_of_the_machine(raw: Path, made_up_faces: Path) -> None:
    text = card(raw)
    assert "| train | mine | 10 |" in text and "`import`" in text and str(made_up_faces) not in text


def test_an_incomplete_input_is_named_with_what_completes_it(raw: Path) -> None:
    shards_of(raw)[1].path.unlink()
    with pytest.raises(UserError, match="lacks train-00001; run 'unif2ace data import'"):
        caption_jobs(raw, STYLES, 0)


def test_an_input_that_changed_is_noticed(made_up_faces: Path, raw: Path, tmp_path: Path) -> None:
    captioned(raw, tmp_path / "made")
    other = imported(made_up_faces, tmp_path / "other", rows=3)
    with pytest.raises(UserError, match="begun otherwise"):
        captioned(other, tmp_path / "made")


def test_photos_that_all_fail_are_counted_by_reason(tmp_path: Path) -> None:
    blurred = {f"{number}.png": picture(number).filter(ImageFilter.GaussianBlur(20)) for number in range(3)}
    raw = imported(folder_of(blurred, tmp_path / "data"), tmp_path / "raw")
    with pytest.raises(UserError, match=r"no photo passed \(3 blurred\)"):
        aligned(raw, tmp_path / "made")


def test_a_shard_of_copies_alone_becomes_empty(tmp_path: Path) -> None:
    data = folder_of({name: picture(0) for name in ("a.png", "b.png", "c.png")}, tmp_path / "data")
    made = aligned(imported(data, tmp_path / "raw", rows=1), tmp_path / "made")
    assert [len(read_shard(shard.path)) for shard in shards_of(made)] == [1, 0, 0]


def test_photos_are_turned_upright_by_their_exif(tmp_path: Path) -> None:
    data = folder_of({"a.png": picture(0)}, tmp_path / "data")
    photo = picture(0, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    photo.transpose(Image.Transpose.ROTATE_90).save(data / "mine" / "a.png", exif=exif)
    row = read_shard(shards_of(aligned(imported(data, tmp_path / "raw"), tmp_path / "made"))[0].path).to_pylist()[0]
    seen = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"), float)
    assert abs(seen - np.asarray(photo.resize((64, 64), Image.Resampling.LANCZOS), float)).mean() < 6


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def kinds_of_images() -> dict[str, bytes]:
    """One picture in the forms in which photos come."""
    photo, grey = picture(0), picture(0).convert("L")
    wide = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    clear = photo.convert("RGBA")
    clear.putalpha(Image.new("L", photo.size, 255))
    palette = photo.quantize(256)
    turned, exif = photo.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    others = [picture(1), picture(2)]
    return {
        "grey.png": stored(grey, "PNG"),
        "wide.png": stored(wide, "PNG"),
        "clear.png": stored(clear, "PNG"),
        "pair.png": stored(grey.convert("LA"), "PNG"),
        "palette.png": stored(palette, "PNG", transparency=0),
        "print.jpg": stored(photo.convert("CMYK"), "JPEG", quality=95),
        "several.jpg": stored(photo, "MPO", save_all=True, append_images=others, quality=95),
        "turned.jpg": stored(turned, "JPEG", exif=exif, quality=95),
        "turned.webp": stored(turned, "WEBP", exif=exif, quality=95),
        "turned.png": stored(turned, "PNG", exif=exif),
        "moving.gif": stored(palette, "GIF", save_all=True, append_images=others),
        "moving2.webp": stored(photo, "WEBP", save_all=True, append_images=others, quality=95),
        "moving3.png": stored(photo, "PNG", save_all=True, append_images=others),
        "plain.jpg": stored(photo, "JPEG", quality=95),
    }


@pytest.mark.parametrize("name", kinds_of_images())
def test_photos_of_any_kind_are_decoded_alike(name: str) -> None:
    found = decoded(kinds_of_images()[name])
    assert found.mode == "RGB" and found.size == (96, 96)
    wanted = picture(0) if name.partition(".")[0] not in ("grey", "wide", "pair") else picture(0).convert("L")
    far = np.abs(np.asarray(found, float) - np.asarray(wanted.convert("RGB"), float)).mean()
    assert far < 12  # of a palette; another picture is some 60 away


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decoded(stored(clear, "PNG")).getpixel((3, 3)) == (255, 255, 255)
    assert decoded(stored(clear, "WEBP", lossless=True, exact=True)).getpixel((3, 3)) == (255, 255, 255)
    assert decoded(stored(Image.new("L", (8, 8), 7), "PNG", transparency=7)).getpixel((3, 3)) == (255, 255, 255)


def test_landmarks_are_those_of_the_photo_as_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = stored(picture(0).resize((96, 48)), "JPEG", exif=exif)
    assert decoded(lying).size == (48, 96) and decoded(lying, upright=False).size == (96, 48)


def test_no_good_photo_is_lost_on_the_way(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    data.mkdir()
    for name, content in kinds_of_images().items():
        (data / name).write_bytes(content)
    raw = tmp_path / "raw"
    run_stage(raw, [{"stage": "import"}], import_jobs(open_importer("folder", data, val_share=0)))
    assert len(list(all_records(raw))) == len(kinds_of_images())
    settings = replace(FRAMED, aligned=("photos",), distance=-1)
    assert len(list(all_records(aligned(raw, tmp_path / "made", settings=settings)))) == len(kinds_of_images())


def test_only_a_whole_share_of_the_environment_divides_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert own_share() == Share(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert own_share() == Share(2, 4)


def test_a_photo_that_is_not_there_ends_an_import_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    data = folder_of({"a.png": picture(0), "b.png": picture(1)}, tmp_path / "data")
    (data / "mine" / "b.png").write_bytes(b"no image")
    raw = imported(data, tmp_path / "raw")
    assert [record.file for record in all_records(raw)] == ["a.png"]
    (data / "mine" / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png is missing"):
        imported(data, tmp_path / "again")


def test_splits_are_known_words(tmp_path: Path) -> None:
    data = folder_of({"a.png": picture(0)}, tmp_path / "data")
    (data / "mine.csv").write_text("file,split\na.png,../evil\n")
    with pytest.raises(UserError, match="unknown split"):
        imported(data, tmp_path / "raw")


def sources_of(tables: dict[str, list[str]], folder: Path) -> Path:
    """A packed folder of tables with the columns file, split and person."""
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.csv").write_text("\n".join(["file,split,person", *rows]))
        for row in rows:
            picture(0, 32).save(folder / name / row.partition(",")[0])
    return folder


def test_packed_keeps_the_tables_splits_and_says_who_is_in_two(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (["a.png,train,p", f"b.png,{split},p", "c.png,val,"] for split in ("val", "train"))
    rows = open_importer("packed", sources_of({"one": one, "two": two}, tmp_path)).rows()
    assert [row.split for row in rows] == ["train", "val", "val", "train", "train", "val"]
    said = "1 persons are in two splits (person 'p' of one is in train and val); keep each in one"
    assert [record.message for record in caplog.records] == [said]


def test_a_limit_counts_for_each_split_of_each_source(tmp_path: Path) -> None:
    rows = [f"{number}.png,{'val' if number > 3 else 'train'}," for number in range(7)]
    importer = open_importer("packed", sources_of({"one": rows, "two": rows}, tmp_path))
    tables = {job.name: job.make().table.to_pylist() for job in import_jobs(importer, limit=2)}
    assert {name: [f"{row['source']}/{row['file']}" for row in rows] for name, rows in tables.items()} == {
        "train-00000": ["one/0.png", "one/1.png", "two/0.png", "two/1.png"],
        "val-00000": ["one/4.png", "one/5.png", "two/4.png", "two/5.png"],
    }
