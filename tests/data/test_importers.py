"""Importing face data sets: labels on one schema, unknown stays absent, persons stay in one split, errors are plain."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unif2ace_core.data import sources
from unif2ace_core.data.attributes import BY_NAME, derive
from unif2ace_core.data.importers import KINDS, Imported, Importer, open_importer
from unif2ace_core.data.importers.ffhq import features_row
from unif2ace_core.data.importers.mapping import load_mapping
from unif2ace_core.errors import UserError


def _picture(shade: int = 0, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 40, 90)).save(file, kind)
    return file.getvalue()


def _put(folder: Path, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix, "JPEG")
        path.write_bytes(_picture(place * 7, kind))


def _zip(folder: Path) -> None:
    """Turns FOLDER/ into FOLDER.zip."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
                path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    folder.rmdir()


def _all(importer: Importer) -> dict[str, Imported]:
    return {row.file: importer.read(row) for row in importer.rows()}


def _labels(importer: Importer) -> dict[str, dict[str, str]]:
    return {row.file: dict(importer.record(row).labels) for row in importer.rows()}


def _mapping(folder: Path, **content: Any) -> Path:
    path = folder / "mapping.json"
    path.write_text(json.dumps(content))
    return path


# --- CelebA ----------------------------------------------------------------------------------------


def _celeba(folder: Path, rows: Mapping[str, Sequence[int]], name: str = "list_attr_celeba.txt") -> None:
    columns = ("Attractive", "Male", "Smiling", "Pale_Skin")
    lines = [str(len(rows)), " ".join(columns), *(f"{f}  {' '.join(map(str, v))}" for f, v in rows.items())]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text("\n".join(lines) + "\n")


_TWO = {"000001.jpg": (1, -1, 1, 1), "000002.jpg": (-1, 1, -1, -1)}


@pytest.mark.parametrize("packed", [False, True])
def test_celeba_has_human_labels_official_splits_and_numbered_persons(tmp_path: Path, packed: bool) -> None:
    _celeba(tmp_path, _TWO)
    _put(tmp_path / "img_align_celeba", [*_TWO, "extra.jpg"])
    if packed:
        _zip(tmp_path / "img_align_celeba")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 2\n000002.jpg 1\n")
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 12\n000002.jpg 7\n")
    found = _all(open_importer("celeba", tmp_path))
    first, second = found["000001.jpg"].record, found["000002.jpg"].record
    assert dict(first.labels) == {"Male": "no", "Smiling": "yes", "Pale_Skin": "yes", "Skin_Tone": "pale"}
    assert dict(second.labels) == {"Male": "yes", "Smiling": "no", "Pale_Skin": "no"}
    assert (first.split, first.person, second.split, second.person) == ("test", "12", "val", "7")
    assert first.source == "celeba" and found["000001.jpg"].image == _picture(0, "JPEG") and len(found) == 2


def test_celeba_csv_says_the_same_as_the_list(tmp_path: Path) -> None:
    _celeba(tmp_path / "a", _TWO)
    rows = [",".join((name, *map(str, values))) for name, values in _TWO.items()]
    (tmp_path / "b").mkdir()
    header = "image_id,Attractive,Male,Smiling,Pale_Skin"
    (tmp_path / "b" / "list_attr_celeba.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "b" / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,1\n000002.jpg,0\n")
    for place in ("a", "b"):
        _put(tmp_path / place / "images", list(_TWO))
    assert _labels(open_importer("celeba", tmp_path / "a")) == _labels(open_importer("celeba", tmp_path / "b"))
    assert [row.split for row in open_importer("celeba", tmp_path / "b").rows()] == ["val", "train"]


def test_celebamask_hq_finds_splits_and_persons_through_its_map(tmp_path: Path) -> None:
    _celeba(tmp_path, {"0.jpg": (1, 1, 1, 1), "1.jpg": (1, 1, 1, 1)}, "CelebAMask-HQ-attribute-anno.txt")
    _put(tmp_path / "CelebA-HQ-img", ["0.jpg", "1.jpg"])
    _put(tmp_path / "CelebAMask-HQ-mask-anno", ["0_hair.png"])
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx orig_file\n0 4 000005.jpg\n1 8 000009.jpg\n"
    )
    (tmp_path / "list_eval_partition.txt").write_text("000005.jpg 1\n000009.jpg 2\n0.jpg 0\n")
    (tmp_path / "identity_CelebA.txt").write_text("000005.jpg 44\n")
    rows = open_importer("celeba", tmp_path).rows()
    assert [(row.file, row.split, row.person) for row in rows] == [("0.jpg", "val", "44"), ("1.jpg", "test", None)]


def test_celeba_leaves_out_rows_without_image_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _celeba(tmp_path, _TWO)
    _put(tmp_path / "images", ["000002.jpg"])
    assert [row.file for row in open_importer("celeba", tmp_path).rows()] == ["000002.jpg"]
    assert "1 of 2 images are not there" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\nMale\n000001.jpg 1\n", "begins with 'x', not with the number of rows"),
        ("", "not with the number of rows"),
        ("1\nSex Mood\n000001.jpg 1 1\n", "wrong header"),
        ("2\nMale\n000001.jpg 1\n", "says 2 rows but has 1"),
        ("1\nMale Smiling\n000001.jpg 1\n", "line 3 has 2 cells for 3 columns"),
        ("1\nMale\n000009.jpg 1\n", "none of the 1 images"),
        ("2\nMale\n000001.jpg 1\n000001.jpg 1\n", "duplicate name 000001.jpg"),
        ("1\nMale Male\n000001.jpg 1 1\n", "two columns 'Male'"),
    ],
)
def test_broken_celeba_lists_are_user_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list_attr_celeba.txt").write_text(text)
    _put(tmp_path / "images", ["000001.jpg"])
    with pytest.raises(UserError, match=message):
        open_importer("celeba", tmp_path).rows()


def test_celeba_without_table_images_or_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist"):
        open_importer("celeba", tmp_path / "none")
    with pytest.raises(UserError, match=r"no attribute table"):
        open_importer("celeba", tmp_path)
    _celeba(tmp_path, _TWO)
    with pytest.raises(UserError, match=r"no images in"):
        open_importer("celeba", tmp_path)
    _put(tmp_path, ["x/000001.jpg", "y/000001.jpg"])
    with pytest.raises(UserError, match=r"duplicate name 000001.jpg: x/000001.jpg and y/000001.jpg"):
        open_importer("celeba", tmp_path).rows()


# --- UTKFace ---------------------------------------------------------------------------------------


def test_utkface_has_age_and_gender_and_never_the_race_field(tmp_path: Path) -> None:
    dates = [f"2017010400000000{n}" for n in range(5)]
    names = [f"30_0_{race}_{date}.jpg.chip.jpg" for race, date in enumerate(dates)]
    _put(tmp_path, names)
    found = _all(open_importer("utkface", tmp_path))
    assert len(found) == 5 and len({tuple(i.record.labels.items()) for i in found.values()}) == 1
    for name, item in found.items():
        assert dict(item.record.labels) == {"Male": "yes", "Young": "yes", "Age_Group": "young adult"}
        assert item.record.age == 30 and item.record.person is None and "_" not in name


def test_utkface_names_that_lack_a_field_keep_the_age_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _put(
        tmp_path, ["61_1_20170109142408075.jpg", "53__0_20170116184028385.jpg", "5_1_2_20170116184028380.jpg", "a.jpg"]
    )
    labels = sorted(map(sorted, map(dict.items, _labels(open_importer("utkface", tmp_path)).values())))
    senior, middle = [("Age_Group", "senior"), ("Young", "no")], [("Age_Group", "middle-aged"), ("Young", "no")]
    child = [("Age_Group", "child"), ("Male", "no"), ("Young", "yes")]
    assert labels == sorted([senior, middle, child])
    assert "1 names state no age" in caplog.text


def test_utkface_needs_its_names_once(tmp_path: Path) -> None:
    _put(tmp_path, ["a.jpg"])
    with pytest.raises(UserError, match=r"no UTKFace"):
        open_importer("utkface", tmp_path).rows()
    _put(tmp_path, ["x/5_1_2_20170116184028380.jpg", "y/5_1_2_20170116184028380.jpg"])
    with pytest.raises(UserError, match=r"duplicate name 5_1_2"):
        open_importer("utkface", tmp_path).rows()


# --- LFW -------------------------------------------------------------------------------------------


def test_lfw_keeps_persons_together_and_no_names(tmp_path: Path) -> None:
    people = [f"Ann_Example{chr(97 + n)}" for n in range(26)]
    _put(tmp_path / "lfw", [f"{name}/{name}_000{n}.jpg" for name in people for n in (1, 2)])
    importer = open_importer("lfw", tmp_path, val_share=0.3)
    found = _all(importer)
    records = [item.record for item in found.values()]
    assert len({r.person for r in records}) == 26 and len({(r.person, r.split) for r in records}) == 26
    assert {r.split for r in records} == {"train", "val"} and not any(r.labels for r in records)
    assert not any("Example" in f"{r.file}{r.person}" for r in records)
    assert [r.file for r in open_importer("lfw", tmp_path).rows()] == sorted(found)


def test_lfw_refuses_other_layouts_and_mappings(tmp_path: Path) -> None:
    _put(tmp_path, ["Ann/1.jpg"])
    with pytest.raises(UserError, match=r"Ann/1.jpg in .* this is no LFW"):
        open_importer("lfw", tmp_path).rows()
    with pytest.raises(UserError, match=r"lfw has no labels"):
        open_importer("lfw", tmp_path, Path("celeba"))
    _put(tmp_path / "b", ["x/Ann/Ann_0001.jpg", "y/Ann/Ann_0001.jpg"])
    with pytest.raises(UserError, match=r"duplicate name"):
        open_importer("lfw", tmp_path / "b").rows()


# --- FFHQ ------------------------------------------------------------------------------------------

_HAIR = {"black": 0.02, "brown": 0.99, "blond": 0.3, "red": 0.1, "gray": 0.05, "other": 0.1}


def _features(**changes: Any) -> list[dict[str, Any]]:
    attributes: dict[str, Any] = {
        "smile": 0.95, "headPose": {"pitch": 0.0, "roll": 1.0, "yaw": 2.5}, "gender": "female", "age": 28.0,
        "facialHair": {"moustache": 0.0, "beard": 0.0, "sideburns": 0.1}, "glasses": "NoGlasses",
        "emotion": {"anger": 0.0, "contempt": 0.0, "disgust": 0.0, "fear": 0.0, "happiness": 0.97, "neutral": 0.03,
                    "sadness": 0.0, "surprise": 0.0},
        "makeup": {"eyeMakeup": True, "lipMakeup": True}, "accessories": [{"type": "headwear", "confidence": 0.95}],
        "occlusion": {"foreheadOccluded": False, "eyeOccluded": False, "mouthOccluded": False},
        "hair": {"bald": 0.01, "invisible": False,
                 "hairColor": [{"color": color, "confidence": sure} for color, sure in _HAIR.items()]},
    }  # fmt: skip
    return [{"faceId": "x", "faceAttributes": {**attributes, **changes}}]


def _ffhq(folder: Path, features: Mapping[str, Any]) -> Importer:
    _put(folder, [f"images/00000/{name}.png" for name in features])
    (folder / "json").mkdir()
    for name, content in features.items():
        if content is not None:
            (folder / "json" / f"{name}.json").write_text(json.dumps(content))
    return open_importer("ffhq", folder)


def test_ffhq_features_become_labels(tmp_path: Path) -> None:
    record = _all(_ffhq(tmp_path, {"00000": _features()}))["00000.png"].record
    assert record.age == 28 and record.source == "ffhq" and record.file == "00000.png"
    assert dict(record.labels) == {
        "Age_Group": "young adult", "Young": "yes", "Male": "no", "Smiling": "yes", "Emotion": "happiness",
        "Eyeglasses": "no", "Wearing_Hat": "yes", "Wearing_Lipstick": "yes", "Mustache": "no", "No_Beard": "yes",
        "Bald": "no", "Hair_Color": "brown", "Brown_Hair": "yes", "Black_Hair": "no", "Blond_Hair": "no",
        "Gray_Hair": "no", "Head_Pose": "facing forward",
    }  # fmt: skip


def test_ffhq_keeps_what_is_not_stated_or_contradicted_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    glasses, bare = [{"type": "glasses", "confidence": 0.9}], [{"faceAttributes": {"age": 50.0, "gender": "male"}}]
    features = {
        "00001": _features(age=0.0, gender="male"),
        "00002": _features(accessories=glasses, smile=0.5),
        "00003": [],
        "00004": None,
        "00005": bare,
        "00006": _features(glasses="Sunglasses", headPose={"pitch": 0.0, "roll": 0.0, "yaw": 15.0}),
    }
    importer = _ffhq(tmp_path, features)
    labels = _labels(importer)
    assert not {"Male", "Wearing_Lipstick"} & set(labels["00001.png"])
    assert labels["00001.png"]["Age_Group"] == "child" and importer.record(importer.rows()[0]).age is None
    assert not {"Eyeglasses", "Smiling"} & set(labels["00002.png"])
    assert labels["00003.png"] == labels["00004.png"] == {}
    assert labels["00005.png"] == {"Age_Group": "middle-aged", "Young": "no", "Male": "yes"}
    assert labels["00006.png"]["Eyes"] == "behind sunglasses" and "Head_Pose" not in labels["00006.png"]
    assert "1 images have no JSON" in caplog.text


@pytest.mark.parametrize("color", ["black", "gray", "red"])
def test_ffhq_json_and_table_are_read_alike(color: str) -> None:
    listed = [{"color": name, "confidence": 0.99 if name == color else 0.1} for name in _HAIR]
    row = features_row(_features(hair={"bald": 0.02, "invisible": False, "hairColor": listed}))
    expected, age = sources._ffhq(row)
    assert load_mapping(Path("ffhq")).read(row, "x") == (derive(expected), age)


def test_broken_ffhq_sources_are_user_errors(tmp_path: Path) -> None:
    _put(tmp_path, ["00000.png"])
    with pytest.raises(UserError, match=r"no ffhq-features JSON files"):
        open_importer("ffhq", tmp_path)
    (tmp_path / "00001.json").write_text("[]")
    with pytest.raises(UserError, match=r"no image of .* has a JSON"):
        open_importer("ffhq", tmp_path).rows()
    (tmp_path / "00000.json").write_text("{")
    with pytest.raises(UserError, match=r"00000.json in .* cannot be read"):
        _all(open_importer("ffhq", tmp_path))
    (tmp_path / "00000.json").write_text(json.dumps(_features(smile="broad")))
    with pytest.raises(UserError, match=r"smile is 'broad', not a number"):
        _all(open_importer("ffhq", tmp_path))


# --- Plain folders ---------------------------------------------------------------------------------


def test_folder_without_a_table_is_images_alone(tmp_path: Path) -> None:
    _put(tmp_path / "faces", ["a.jpg", "in/b.png", "in/deep/c.webp", ".hidden/d.png", "note.txt"])
    importer = open_importer("folder", tmp_path / "faces")
    found = _all(importer)
    assert list(found) == ["a.jpg", "in/b.png", "in/deep/c.webp"]
    assert {(i.record.source, i.record.age, i.landmarks) for i in found.values()} == {("faces", None, None)}
    assert not any(item.record.labels for item in found.values())
    _zip(tmp_path / "faces")
    assert _all(open_importer("folder", tmp_path / "faces.zip")) == found


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_folder_tables_use_the_schemas_own_names(tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str) -> None:
    _put(tmp_path / "faces", ["in/a.png", "b.png", "c.png"])
    rows: list[dict[str, Any]] = [
        {"file": "a.png", "split": "validation", "Male": 1, "Smiling": "no", "Emotion": "Fear", "age": 34,
         "person": "p", "caption": "A man."},
        {"file": "b.png", "split": None, "Male": False, "Smiling": "maybe", "Emotion": None, "age": None,
         "person": None, "caption": None},
    ]  # fmt: skip
    path = tmp_path / "faces" / f"labels.{form}"
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *map(",".join, cells)]))
    found = _all(open_importer("folder", tmp_path / "faces"))
    first = found["in/a.png"]
    assert dict(first.record.labels) == {
        "Male": "yes", "Smiling": "no", "Emotion": "fear", "Age_Group": "young adult",
    }  # fmt: skip
    assert (first.record.split, first.record.person, first.record.age) == ("val", "p", 34)
    assert first.captions == ("A man.",) and found["b.png"].captions == ()
    assert dict(found["b.png"].record.labels) == {"Male": "no"} and not found["c.png"].record.labels
    assert "1 values are none of the schema's" in caplog.text


def test_folder_reads_other_columns_through_a_mapping(tmp_path: Path) -> None:
    _put(tmp_path / "faces", ["a.png", "b.png"])
    (tmp_path / "faces.csv").write_text("name,part,sex,smile,Male\na.png,test,m,0.9,0\nb.png,,f,0.5,1\n")
    male = {"column": "sex", "values": {"m": "yes", "f": "no"}}
    smile = {"column": "smile", "at_least": {"yes": 0.8}}
    given = {"file": "name", "split": "part", "attributes": {"Male": male, "Smiling": smile}}
    importer = open_importer("folder", tmp_path / "faces", _mapping(tmp_path, **given))
    assert _labels(importer) == {"a.png": {"Male": "yes", "Smiling": "yes"}, "b.png": {"Male": "no"}}
    assert importer.rows()[0].split == "test"
    given["attributes"] = {"Male": {"column": "gender"}}
    with pytest.raises(UserError, match=r"names column 'gender', which .*faces.csv does not have"):
        open_importer("folder", tmp_path / "faces", _mapping(tmp_path, **given))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name\na.png\n", "no column 'file'"),
        ("file\nz.png\n", "line 2: image 'z.png' is not there"),
        ("file\nb.png\n", "duplicate name b.png .x/b.png and y/b.png."),
        ("file\na.png\na.png\n", "line 3: duplicate name a.png"),
        ("file,split\na.png,half\n", "unknown split 'half' of .*line 2"),
        ("file,Male\na.png\n", "line 2 has 1 cells for 2 columns"),
        ("file,file\na.png,b\n", "two columns 'file'"),
        ("file,person,split\na.png,p,train\nx/b.png,p,val\n", "person 'p' is in train and val"),
        ("", "is empty"),
    ],
)
def test_broken_folder_tables_are_user_errors(tmp_path: Path, table: str, message: str) -> None:
    _put(tmp_path, ["a.png", "x/b.png", "y/b.png"])
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        open_importer("folder", tmp_path).rows()


def test_cells_that_are_no_number_name_the_image(tmp_path: Path) -> None:
    _put(tmp_path, ["a.png"])
    (tmp_path / "labels.csv").write_text("file,age\na.png,old\n")
    with pytest.raises(UserError, match=r"a.png: age is 'old', not a number"):
        _all(open_importer("folder", tmp_path))


def test_folders_without_images_or_with_two_tables_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist"):
        open_importer("folder", tmp_path / "none")
    with pytest.raises(UserError, match=r"no images in .* \(looked for .gif, .jpeg, .jpg"):
        open_importer("folder", tmp_path)
    _put(tmp_path, ["a.png"])
    for name in ("one.csv", "two.jsonl"):
        (tmp_path / name).write_text("file\na.png\n")
    with pytest.raises(UserError, match=r"label tables one.csv and two.jsonl"):
        open_importer("folder", tmp_path)
    (tmp_path / "labels.jsonl").write_text('{"file": "a.png"}\n[1]\n')
    with pytest.raises(UserError, match=r"line 2 cannot be read"):
        open_importer("folder", tmp_path)
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"cannot be opened as a zip"):
        open_importer("folder", tmp_path / "broken.zip")


@pytest.mark.parametrize("damage", [lambda old: b"no image", lambda old: old[: len(old) // 2], lambda old: b""])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_images_are_named(tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(file.getvalue())
    importer = open_importer("folder", tmp_path)
    (row,) = importer.rows()
    importer.read(row)
    path.write_bytes(damage(file.getvalue()))
    with pytest.raises(UserError, match=f"image a.{kind.lower()} cannot be read"):
        importer.read(row)
    path.unlink()
    with pytest.raises(UserError, match=r"missing or damaged"):
        importer.read(row)


def test_images_of_other_formats_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "BMP")
    with pytest.raises(UserError, match=r"a.jpg is BMP; convert it"):
        _all(open_importer("folder", tmp_path))


# --- Packed ----------------------------------------------------------------------------------------


def test_packed_has_the_records_photos_and_landmarks_of_training(made_up_faces: Path) -> None:
    importer = open_importer("packed", made_up_faces)
    records, store = sources.read_records(made_up_faces), sources.PhotoStore(made_up_faces)
    found = [importer.read(row) for row in importer.rows()]
    assert [item.record for item in found] == records
    assert [item.image for item in found] == [store.read(record) for record in records]
    points = sources.read_landmarks(made_up_faces)
    assert [item.landmarks for item in found] == [[tuple(p) for p in points[r.key].tolist()] for r in records]


def test_packed_import_of_the_real_sources_is_exactly_what_training_reads(data_dir: Path) -> None:
    importer = open_importer("packed", data_dir)
    rows = importer.rows()
    for row, record in zip(rows, sources.read_records(data_dir), strict=True):
        assert importer.record(row) == record
    hit, missed = importer.read(rows[-1]), importer.read(rows[0])
    assert hit.landmarks is not None and len(hit.landmarks) == 5 and missed.landmarks is None


def test_packed_errors_are_plain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no face data"):
        open_importer("packed", tmp_path)
    _put(tmp_path / "mine", ["a.png"])
    table = tmp_path / "mine.csv"
    table.write_text("name\na.png\n")
    with pytest.raises(UserError, match=r"no column 'file'"):
        open_importer("packed", tmp_path).rows()
    table.write_text("file,age\na.png,1\na.png,1\n")
    with pytest.raises(UserError, match=r"line 3: duplicate name a.png"):
        open_importer("packed", tmp_path).rows()
    table.write_text("file,age\na.png,old\n")
    with pytest.raises(UserError, match=r"row of a.png cannot be read"):
        _all(open_importer("packed", tmp_path))
    with pytest.raises(UserError, match=r"leave mapping"):
        open_importer("packed", tmp_path, Path("lfw"))


# --- All kinds -------------------------------------------------------------------------------------


def test_unknown_kinds_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"unknown kind 'celebs'; there are: {', '.join(KINDS)}"):
        open_importer("celebs", tmp_path)


def test_importers_survive_pickling_with_the_same_rows(tmp_path: Path) -> None:
    _put(tmp_path / "faces", ["a.png", "b/c.png"])
    _zip(tmp_path / "faces")
    importer = open_importer("folder", tmp_path / "faces.zip")
    copy = pickle.loads(pickle.dumps(importer))
    assert copy.rows() == importer.rows() and _all(copy) == _all(importer)


def test_an_index_row_stays_small(tmp_path: Path) -> None:
    count, columns = 4000, list(BY_NAME)[:40]
    images = tmp_path / "celeba.zip"
    with zipfile.ZipFile(images, "w") as archive:
        for n in range(count):
            archive.writestr(f"img/{n:06}.jpg", b"")
    lines = [f"{n:06}.jpg " + " ".join(["-1", "1"] * 20) for n in range(count)]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(columns), *lines]))
    sizes, peaks = [], []
    for _ in range(3):  # what other threads of the process allocate is traced too
        importer = open_importer("celeba", tmp_path)
        tracemalloc.start()
        rows = importer.rows()
        size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(rows) == count
        sizes.append(size)
        peaks.append(peak)
        del rows
    assert min(peaks) / count < 1200 and min(sizes) / count < 900  # 200,000 rows: below 240 MB
