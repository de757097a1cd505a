"""Annotation by the model: sure, consistent, the source's own labels untouched, the same bytes however it is run."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from factory_toys import contents
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unif2ace_core.data.attributes import BINARY, BY_NAME, SCHEMA
from unif2ace_core.data.calibration import (
    LEAST,
    NAME,
    AgeError,
    Calibration,
    HeadCalibration,
    Sureness,
    find_threshold,
    fit_head,
    fit_temperature,
    probabilities,
    read_calibration,
    to_json,
)
from unif2ace_core.data.check_rules import contradictions
from unif2ace_core.data.exclusions import excluded, fits
from unif2ace_core.data.importers import open_importer
from unif2ace_core.data.shards import Share, digest, following, read_shard, run_stage, shards_of, write_shard
from unif2ace_core.data.sources import PhotoStore, read_records
from unif2ace_core.data.stages.annotate import (
    Guess,
    Seen,
    annotate_jobs,
    annotate_settings,
    clip_fingerprint,
    fill,
    load_look,
    open_calibration,
    surely,
)
from unif2ace_core.data.stages.calibrate import calibrate
from unif2ace_core.data.stages.imports import import_jobs
from unif2ace_core.errors import UserError

ALIGNED = [{"stage": "import"}, {"stage": "align"}]


def credulous(clip: str, threshold: float = 0.6) -> Calibration:
    """A calibration by which nearly everything is sure."""
    sure = {each.name: dict.fromkeys(each.values, Sureness(threshold)) for each in SCHEMA}
    heads = {name: HeadCalibration(1.0, 0, None, None, values) for name, values in sure.items()}
    return Calibration(clip, threshold, heads, AgeError(0, None))


def data_folder(folder: Path, count: int, labels: Mapping[str, list[str]]) -> Path:
    """Noisy pictures with a few labels."""
    rng = np.random.default_rng(0)
    (folder / "mine").mkdir(parents=True)
    with (folder / "mine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", *labels])
        for number in range(count):
            table.writerow([f"{number}.png", "train", *(values[number % len(values)] for values in labels.values())])
            small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((64, 64)).save(folder / "mine" / f"{number}.png")
    return folder


def aligned_set(data: Path, output: Path, rows: int) -> Path:
    """The photos of a folder as a set that counts as aligned."""
    run_stage(output, ALIGNED, import_jobs(open_importer("packed", data), rows))
    return output


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photos, two in a shard; of some the source knows something."""
    folder = tmp_path_factory.mktemp("faces")
    known = {"Smiling": ["yes", "no", ""], "Male": ["no", "yes", "", ""], "Hair_Color": ["", "blond", "", "", ""]}
    return aligned_set(data_folder(folder / "data", 20, known), folder / "set", 2)


def annotate(source: Path, output: Path, model: Path, share: Share | None = None) -> Path:
    calibration = credulous(clip_fingerprint(model, "mini"))
    stages = following(source, "annotate", annotate_settings(calibration))
    run_stage(output, stages, annotate_jobs(source, model, calibration), share)
    return output


@pytest.fixture(scope="module")
def annotated(faces: Path, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotate(faces, tmp_path_factory.mktemp("annotated") / "set", embedded)


def rows_of(folder: Path) -> list[dict]:
    return [row for shard in shards_of(folder) for row in read_shard(shard.path).to_pylist()]


# --- The stage -------------------------------------------------------------------------------------------------


def test_labels_of_the_source_never_change_and_the_models_have_their_probability(faces: Path, annotated: Path) -> None:
    filled = 0
    for before, after in zip(rows_of(faces), rows_of(annotated), strict=True):
        assert {**before, "labels": 0, "probabilities": 0} == {**after, "labels": 0, "probabilities": 0}
        for name, value in after["labels"].items():
            chance = after["probabilities"][name]
            if before["labels"][name] is not None:
                assert value == before["labels"][name] and chance is None
            elif value is not None and chance is not None:
                assert value in BY_NAME[name].values and 0.6 <= round(chance, 4) <= 1
                filled += 1
            else:
                assert chance is None
    assert filled > 20 * 10


def test_the_report_counts_what_was_filled(faces: Path, annotated: Path) -> None:
    shard = shards_of(annotated)[0]
    report = json.loads((annotated / "reports" / "annotate" / f"{shard.name}.json").read_text())
    counts = [
        sum(value is not None for row in rows_of(each)[:2] for value in row["labels"].values())
        for each in (faces, annotated)
    ]
    assert (report["rows"], report["known"]) == (2, counts[0])
    assert report["filled"] == sum(report["attributes"].values()) == counts[1] - counts[0]


def test_two_processes_and_any_number_of_threads_make_the_set_of_one(
    faces: Path, annotated: Path, embedded: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        for index, threads in ((1, 3), (0, 1)):
            torch.set_num_threads(threads)
            annotate(faces, tmp_path / "two", embedded, Share(index, 2))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path / "two") == contents(annotated)


STAGE = """
import sys
from pathlib import Path
from unif2ace_core.data.calibration import read_calibration
from unif2ace_core.data.shards import following, run_stage
from unif2ace_core.data.stages.annotate import annotate_jobs, annotate_settings
source, output, model, calibration = map(Path, sys.argv[1:])
found = read_calibration(calibration)
run_stage(output, following(source, "annotate", annotate_settings(found)), annotate_jobs(source, model, found))
"""


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(
    faces: Path, annotated: Path, embedded: Path, tmp_path: Path
) -> None:
    output, calibration = tmp_path / "again", tmp_path / NAME
    calibration.write_text(to_json(credulous(clip_fingerprint(embedded, "mini"))))
    arguments = map(str, (faces, output, embedded, calibration))
    threads = {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"}  # waiting in circles takes minutes on busy cores
    process = subprocess.Popen([sys.executable, "-c", STAGE, *arguments], env={**os.environ, **threads})
    until = time.monotonic() + 60
    while process.poll() is None and not list(output.glob("data/*.parquet")) and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(random.random() * 0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(output.glob("data/*.parquet"))
    assert contents(annotate(faces, output, embedded)) == contents(annotated)


def test_an_annotated_set_is_measured_by_the_labels_of_its_sources_alone(
    faces: Path, annotated: Path, embedded: Path
) -> None:
    found = [calibrate(source, "train", embedded, "mini", 0.9) for source in (faces, annotated)]
    assert found[0] == found[1] and found[0].attributes["Smiling"].photos > 0
    assert found[0].attributes["Bangs"].photos == 0


def test_another_calibration_is_another_set(faces: Path, annotated: Path, embedded: Path) -> None:
    other = credulous(clip_fingerprint(embedded, "mini"), 0.7)
    with pytest.raises(UserError, match="begun otherwise"):
        run_stage(
            annotated,
            following(faces, "annotate", annotate_settings(other)),
            annotate_jobs(faces, embedded, other),
        )


def test_photos_must_be_aligned(made_up_faces: Path, embedded: Path, tmp_path: Path) -> None:
    run_stage(tmp_path / "raw", ALIGNED[:1], import_jobs(open_importer("packed", made_up_faces), 9))
    with pytest.raises(UserError, match="not aligned"):
        annotate(tmp_path / "raw", tmp_path / "made", embedded)
    with pytest.raises(UserError, match="not aligned"):
        calibrate(tmp_path / "raw", "train", embedded, "mini", 0.9)


def test_a_split_without_labels_or_photos_is_named(faces: Path, embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        calibrate(faces, "test", embedded, "mini", 0.9)
    plain = aligned_set(data_folder(tmp_path / "data", 2, {}), tmp_path / "plain", 2)
    with pytest.raises(UserError, match="no labelled photos in train"):
        calibrate(plain, "train", embedded, "mini", 0.9)


def test_shards_without_rows_are_passed_over(faces: Path, annotated: Path, embedded: Path, tmp_path: Path) -> None:
    for name, source in (("faces", faces), ("annotated", annotated)):
        some, none = (Path(shutil.copytree(source, tmp_path / f"{name}{end}")) for end in ("-some", "-none"))
        shards = shards_of(none)
        empty = read_shard(shards[0].path).slice(0, 0)
        for shard in shards:
            write_shard(shard.path, empty)
        with pytest.raises(UserError, match="no labelled photos in train"):
            calibrate(none, "train", embedded, "mini", 0.9)
        write_shard(shards_of(some)[0].path, empty)
        assert calibrate(some, "train", embedded, "mini", 0.9).attributes["Smiling"].photos > 0


@pytest.mark.parametrize("content", [b"", b"no Parquet", None])
def test_damaged_shards_end_a_calibration_in_one_line(
    faces: Path, embedded: Path, tmp_path: Path, content: bytes | None
) -> None:
    copy = Path(shutil.copytree(faces, tmp_path / "copy"))
    path = shards_of(copy)[3].path
    if content is None:
        write_shard(path, read_shard(path).drop_columns(["labels"]).replace_schema_metadata(None))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path.name} (cannot be read|has no column 'labels')") as error:
        calibrate(copy, "train", embedded, "mini", 0.9)
    assert "\n" not in str(error.value)


# --- What is filled ----------------------------------------------------------------------------------------------

VALUES = st.fixed_dictionaries({}, optional={each.name: st.sampled_from(each.values) for each in SCHEMA})


@settings(max_examples=60, deadline=None)
@given(VALUES, st.none() | st.floats(0, 100), st.randoms(use_true_random=False))
def test_what_is_filled_contradicts_nothing(labels: dict[str, str], age: float | None, rng: random.Random) -> None:
    width = {each.name: 1 if each.binary else len(each.values) for each in SCHEMA}
    logits = {name: np.array([[rng.uniform(-9, 9) for _ in range(count)]]) for name, count in width.items()}
    (guesses,) = surely(Seen(logits, np.zeros(1)), credulous("", 0.5))
    assert guesses == sorted(guesses, key=lambda guess: -guess.probability) and guesses
    full = {each.name: labels.get(each.name) for each in SCHEMA}
    found = fill(full, age, guesses)
    assert not found.labels.keys() & labels.keys() and found.labels.keys() == found.probabilities.keys()
    after = {**labels, **found.labels}
    for name, value in found.labels.items():
        assert fits(name, value, after.items()), (name, value, after)
    assert set(contradictions(after, age)) <= set(contradictions(labels, age))


def filled(labels: Mapping[str, str], *guesses: tuple[str, str, float], age: float | None = None) -> dict[str, str]:
    return fill({each.name: labels.get(each.name) for each in SCHEMA}, age, [Guess(*each) for each in guesses]).labels


def test_of_two_that_contradict_each_other_the_surer_is_filled() -> None:
    assert filled({}, ("Bald", "yes", 0.99), ("Black_Hair", "yes", 0.98)) == {"Bald": "yes", "Hair_Color": "bald"}
    assert filled({"Male": "no"}, ("Mustache", "yes", 0.99), ("Goatee", "no", 0.9)) == {"Goatee": "no"}
    assert filled({}, ("Wearing_Lipstick", "yes", 0.99), age=9.0) == {}
    assert filled({}, ("Age_Group", "senior", 0.99), age=9.0) == {}


def test_what_follows_is_filled_with_the_least_probability_that_it_rests_on() -> None:
    guesses = [Guess("Mouth_Slightly_Open", "no", 0.97), Guess("Smiling", "yes", 0.94), Guess("Black_Hair", "yes", 0.9)]
    found = fill(dict.fromkeys(BY_NAME), None, guesses)
    assert (found.labels["Mouth_Action"], found.probabilities["Mouth_Action"]) == ("closed smile", 0.94)
    assert (found.labels["Hair_Color"], found.probabilities["Hair_Color"]) == ("black", 0.9)
    known = fill({**dict.fromkeys(BY_NAME), "Smiling": "yes"}, None, guesses[:1])
    assert known.probabilities == {"Mouth_Slightly_Open": 0.97, "Mouth_Action": 0.97}
    own = fill({**dict.fromkeys(BY_NAME), "Gray_Hair": "yes"}, None, [])
    assert own.labels == {"Hair_Color": "gray"} and own.probabilities == {"Hair_Color": None}


def test_exclusion_is_mutual_and_no_value_excludes_itself() -> None:
    table = excluded()
    assert all(one in table[other] for one, others in table.items() for other in others)
    assert all(one not in others for one, others in table.items())


# --- Calibration -------------------------------------------------------------------------------------------------


def made_up_answers(count: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (B, 1) that are `scale` times too large, and what is true."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 1))
    return logits * scale, (rng.random(count) < 1 / (1 + np.exp(-logits[:, 0]))).astype(int)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(scale: float) -> None:
    logits, values = made_up_answers(6000, scale)
    assert fit_temperature(logits, values) == pytest.approx(scale, rel=0.1)
    head = fit_head(logits, values, np.zeros(6000), ("no", "yes"), 0.9)
    assert head.ece_after is not None and head.ece_after < 0.03


@pytest.mark.parametrize("precision", [0.8, 0.9, 0.95])
def test_thresholds_reach_the_precision_on_photos_not_measured(precision: float) -> None:
    logits, values = made_up_answers(3000, 2.0)
    head = fit_head(logits, values, np.zeros(3000), ("no", "yes"), precision)
    others, truth = made_up_answers(3000, 2.0, seed=1)
    chances = probabilities(others, head.temperature)
    for place, value in enumerate(("no", "yes")):
        threshold = head.values[value].threshold
        assert threshold is not None
        passed = chances[:, place] >= threshold
        assert passed.sum() > 100 and (truth[passed] == place).mean() >= precision - 0.02


def test_a_value_hardly_ever_seen_is_never_sure_nor_is_its_absence() -> None:
    values = np.r_[np.ones(LEAST - 1, int), np.zeros(500, int)]
    head = fit_head(np.where(values, 5.0, -5.0)[:, None], values, np.zeros(len(values)), ("no", "yes"), 0.9)
    assert [each.threshold for each in head.values.values()] == [None, None]


def test_a_source_in_which_a_value_is_wrong_raises_the_threshold() -> None:
    chances, right = np.repeat([0.99, 0.85], 200), np.ones(400, bool)
    one, two = np.zeros(400), np.zeros(400)
    right[380:], two[360:] = False, 1  # of the 40 photos of the second source half are wrong
    assert find_threshold(chances, right, one, 0.9, 0.8) == 0.85
    assert find_threshold(chances, right, two, 0.9, 0.8) == 0.99


def test_nobody_passes_against_whom_the_photo_speaks() -> None:
    chances = np.r_[np.full(300, 0.99), np.full(100, 0.9)]
    assert find_threshold(chances, np.ones(400, bool), np.zeros(400), 0.9, 0.95) == 0.99


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    logits, values = made_up_answers(400, 1.0)
    head = fit_head(logits, values, np.zeros(400), ("no", "yes"), 0.9)
    written = Calibration("abc", 0.9, {"Bangs": head}, AgeError(3, 1.5))
    (tmp_path / NAME).write_text(to_json(written))
    assert read_calibration(tmp_path / NAME) == written == open_calibration(tmp_path / NAME, "abc", "mini")
    assert digest(read_calibration(tmp_path / NAME)) == digest(written)


def edited(text: str, **fields: object) -> str:
    """A calibration with other fields."""
    return json.dumps({**json.loads(text), **fields})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "{", "not valid JSON"),
        (lambda text: "{}", "is no calibration"),
        (lambda text: text.replace('"no"', '"maybe"'), "no value 'maybe'"),
        (lambda text: text.replace('"temperature": 1.0', '"temperature": 0'), "temperature 0"),
        (lambda text: text.replace('"threshold": 0.6', '"threshold": 7'), "threshold 7"),
        (lambda text: text.replace('"photos"', '"pictures"'), "pictures"),
        (lambda text: text.replace('"precision": 0.6', '"precision": "high"'), "precision is 'high'"),
        (lambda text: text.replace('"precision": 0.6', '"precision": NaN'), "precision is 'nan'"),
        (lambda text: text.replace('"precision": 0.6', '"precision": 7'), "precision 7"),
        (lambda text: edited(text, attributes={}), "attributes is empty"),
        (lambda text: edited(text, attributes=[]), "attributes is no object"),
        (lambda text: edited(text, attributes={"Smiling": None}), "attributes.Smiling is missing"),
        (lambda text: edited(text, attributes={"Smiling": {}}), "attributes.Smiling.values is missing"),
        (lambda text: edited(text, attributes={"Fame": {"values": {}}}), "attributes.Fame is none of the categories"),
        (lambda text: edited(text, age=None), "age is missing"),
        (lambda text: edited(text, age={"photos": 1.5}), "age.photos is '1.5'"),
        (lambda text: edited(text, age={"photos": 1}), "age.mean_absolute_error is missing"),
        (lambda text: edited(text, clip=3), "clip is '3'"),
        (lambda text: text.replace('"threshold": 0.6', '"threshold": "0.6"'), "threshold is '0.6'"),
        (lambda text: text.replace('"temperature": 1.0', '"temperature": true'), "temperature is 'True'"),
        (lambda text: text.replace('"abc"', '"other"'), "another CLIP expert than that of --model my; run 'unif2ace"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_what_to_do(tmp_path: Path, change, words: str) -> None:
    (tmp_path / NAME).write_text(change(to_json(credulous("abc"))))
    with pytest.raises(UserError, match=words) as error:
        open_calibration(tmp_path / NAME, "abc", "my")
    assert "\n" not in str(error.value) and NAME in str(error.value) and "data calibrate" in str(error.value)


def test_models_without_an_attribute_head_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model x has no CLIP expert"):
        clip_fingerprint(tmp_path, "x")
    (tmp_path / "clip.json").write_text('{"kind": "open_clip"}')
    with pytest.raises(UserError, match="--model x has a published CLIP tower"):
        clip_fingerprint(tmp_path, "x")


def test_the_embedded_calibration_is_that_of_the_embedded_expert(embedded: Path) -> None:
    found = open_calibration(embedded / NAME, clip_fingerprint(embedded, "mini"), "mini")
    assert found.precision == 0.9 and found.attributes.keys() == BY_NAME.keys()
    assert all(each.photos > 500 for each in found.attributes.values())
    sure = [each for head in found.attributes.values() for each in head.values.values() if each.threshold]
    assert len(sure) > 50 and all(each.photos >= LEAST and (each.precision or 0) >= 0.9 for each in sure)


def test_it_is_right_about_photos_whose_labels_it_does_not_know(data_dir: Path, embedded: Path) -> None:
    records, store, look = read_records(data_dir, "val", ["celebahq"])[:360], PhotoStore(data_dir), load_look(embedded)
    seen = look([store.read(record) for record in records])
    truth = [{name: record.labels[name] for name in BINARY} for record in records]
    heads = {}
    for each in SCHEMA:  # measured on the first half
        values = np.array([each.values.index(record.labels[each.name]) if each.name in record.labels else -1
                           for record in records[:180]])  # fmt: skip
        heads[each.name] = fit_head(seen.logits[each.name][:180], values, np.zeros(180), each.values, 0.9)
    rest = Seen({name: logits[180:] for name, logits in seen.logits.items()}, seen.ages[180:])
    found = [
        (value == labels[name], name)
        for guesses, labels in zip(surely(rest, Calibration("", 0.9, heads, AgeError(0, None))), truth[180:])
        for name, value in fill(dict.fromkeys(BY_NAME), None, guesses).labels.items()
        if name in labels
    ]
    assert np.mean([right for right, _ in found]) >= 0.92 and len(found) > 180 * 12
    for name in ("Smiling", "Male", "Wearing_Lipstick", "Heavy_Makeup"):
        own = [right for right, other in found if other == name]
        assert len(own) > 50 and np.mean(own) >= 0.87, name
