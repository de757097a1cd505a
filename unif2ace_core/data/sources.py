"""The label tables as face records, and random access to their photos, landmarks and descriptors.

Each `NAME.csv` beside `NAME.zip` (or a folder `NAME/`) is one source. Four sources have their own
reading of the columns (see the data card: human labels are taken as they are, machine
probabilities only beyond cut-offs, what lies between stays unknown); any other table is read by the
schema's own names with 0/1, -1/1, no/yes, false/true or named values, plus the optional `split`, `age`, `person`;
a value that is none of these is unknown, and a log line says how many there were.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unif2ace_core.data.attributes import BY_NAME, EMOTIONS, Attribute, age_group, derive
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

logger = logging.getLogger(__name__)
Key = tuple[str, str]  # (source, file)


@dataclass(frozen=True)
class FaceRecord:
    """One photo and what is known of it; an attribute that is not in `labels` is unknown."""

    source: str
    file: str
    split: str
    labels: Mapping[str, str]
    age: float | None  # years
    person: str | None

    @property
    def key(self) -> Key:
        """(source, file), the name of the photo everywhere."""
        return self.source, self.file


# --- CelebA-HQ: 40 human labels ------------------------------------------------------------------

Row = Mapping[str, str]
_NO_YES = {
    **dict.fromkeys(("0", "0.0", "-1", "-1.0", "false"), "no"),  # -1 is CelebA's own no
    **dict.fromkeys(("1", "1.0", "true"), "yes"),
}


def read_value(attribute: Attribute, text: str) -> str | None:
    """The schema's value that a table's cell states; None where it states none."""
    value = _NO_YES.get(text.lower(), text.lower()) if attribute.binary else text.lower()
    return value if value in attribute.values else None


def _cells(row: Row) -> dict[str, str | None]:
    """The cells under the schema's names that are not blank, read; None where that failed."""
    return {name: read_value(attribute, text) for name, attribute in BY_NAME.items() if (text := row.get(name))}


def plain_labels(row: Row) -> dict[str, str]:
    """Columns that carry the schema's names with plain values; blank or unknown values are left out."""
    return {name: value for name, value in _cells(row).items() if value is not None}


def _unread(source: str, row: Row) -> int:
    """How many cells of a table without a reader of its own state no value of the schema."""
    return 0 if source in _READERS else sum(value is None for value in _cells(row).values())


# --- LFW and UTKFace: machine probabilities beyond cut-offs ----------------------------------------

# attribute -> (yes at or above, no at or below): the data card's cut-offs; None: a low value proves nothing
_CUTS: dict[str, tuple[float, float | None]] = {
    "Eyeglasses": (0.8, 0.1), "Smiling": (0.8, 0.1), "Mouth_Slightly_Open": (0.8, 0.1),
    "Blond_Hair": (0.8, 0.05), "Black_Hair": (0.8, 0.05), "Bangs": (0.8, 0.05), "Brown_Hair": (0.65, 0.05),
    "Gray_Hair": (0.7, 0.05), "Wearing_Hat": (0.9, 0.05), "Sideburns": (0.7, 0.05),
    "5_o_Clock_Shadow": (0.7, 0.05), "Mustache": (0.5, 0.05), "No_Beard": (0.5, 0.1), "Goatee": (9.9, 0.03),
    "Wearing_Lipstick": (0.8, 0.1), "Heavy_Makeup": (0.8, 0.05), "Wearing_Earrings": (0.85, None),
}  # fmt: skip
_LFW_CUTS = {**_CUTS, "Wearing_Necktie": (0.75, 0.05), "Male": (0.5, 0.1), "Young": (0.9, 0.1)}
_FACIAL_HAIR = ("Mustache", "Goatee", "Sideburns", "5_o_Clock_Shadow")
_MAKEUP = ("Wearing_Lipstick", "Heavy_Makeup")


def _probable(row: Row, cuts: Mapping[str, tuple[float, float | None]]) -> dict[str, str]:
    """Labels of the probabilities that are beyond their cut-offs."""
    labels: dict[str, str] = {}
    for name, (high, low) in cuts.items():
        text = row.get(name)
        if not text:
            continue
        probability = float(text)
        if probability >= high:
            labels[name] = "yes"
        elif low is not None and probability <= low:
            labels[name] = "no"
    if float(row.get("Goatee") or 0) >= 0.5:  # the network's goatee is any beard
        labels["No_Beard"] = "no"
    return labels


def forget(labels: dict[str, str], pairs: Iterable[Key]) -> None:
    """Drops labels that contradict a surer one."""
    for name, value in pairs:
        if labels.get(name) == value:
            del labels[name]


def forget_unlikely(labels: dict[str, str], age: float | None) -> None:
    """A guessed beard on a woman or a child, or lipstick on a man or a child, is the network's mistake."""
    child = age is not None and age < 18
    if labels.get("Male") == "no" or child:
        forget(labels, [("No_Beard", "no"), *((name, "yes") for name in _FACIAL_HAIR)])
    if labels.get("Male") == "yes" or child:
        forget(labels, [(name, "yes") for name in _MAKEUP])


def _lfw(row: Row) -> tuple[dict[str, str], float | None]:
    labels = _probable(row, _LFW_CUTS)
    emotion = row.get("emotion") or ""
    if emotion in EMOTIONS:
        labels["Emotion"] = emotion
        forget(labels, [("Smiling", "no" if emotion == "happiness" else "yes")])  # the human is right
    forget_unlikely(labels, None)
    return labels, None


def _utkface(row: Row) -> tuple[dict[str, str], float | None]:
    labels = _probable(row, _CUTS)
    labels["Male"] = "yes" if row["gender"] == "0" else "no"
    age = float(row["age"])
    forget_unlikely(labels, age)
    label_age(labels, age)
    return labels, age


def label_age(labels: dict[str, str], age: float) -> None:
    """Age group, and CelebA's `Young` away from its vague border."""
    labels["Age_Group"] = age_group(age)
    if age <= 33 or age >= 48:
        labels["Young"] = "yes" if age <= 33 else "no"


# --- FFHQ: one commercial annotator's columns ------------------------------------------------------

# Confidence margins over the second colour at which a look at the photos agrees with the first.
HAIR_MARGIN = {"black": 0.03, "brown": 0.15, "blond": 0.05, "gray": 0.12, "red": 0.0}


def _ffhq(row: Row) -> tuple[dict[str, str], float | None]:
    if not row.get("age"):  # 35 rows in which the annotator saw no face
        return {}, None
    age = float(row["age"])
    labels: dict[str, str] = {}
    label_age(labels, age)
    if age >= 4:  # a guess on babies
        labels["Male"] = "yes" if row["gender"] == "male" else "no"
    _ffhq_expression(row, labels)
    ffhq_worn(row, labels, age)
    ffhq_hair(row, labels)
    _ffhq_beard(row, labels)
    forget_unlikely(labels, age)
    pose = head_pose(float(row["yaw"]), float(row["pitch"]))
    if pose:
        labels["Head_Pose"] = pose
    return labels, age if age > 0 else None  # 0.0 stands for any baby, not for an age


def _ffhq_expression(row: Row, labels: dict[str, str]) -> None:
    smile = float(row["smile"])
    if smile >= 0.8 or smile <= 0.1:
        labels["Smiling"] = "yes" if smile >= 0.8 else "no"
    best = max(EMOTIONS, key=lambda name: float(row[name]))
    if float(row[best]) >= 0.8:
        labels["Emotion"] = best


def ffhq_worn(row: Row, labels: dict[str, str], age: float) -> None:
    """Adds glasses, hat and lipstick where FFHQ's columns agree on them."""
    glasses, extras = row["glasses"], row["accessories"]
    if glasses == "NoGlasses":
        if "glasses" not in extras:
            labels["Eyeglasses"] = "no"
    else:
        labels["Eyeglasses"] = "yes"
    if glasses == "Sunglasses":
        labels["Eyes"] = "behind sunglasses"
    if "headwear" not in extras:
        if row["hair_invisible"] == "0":
            labels["Wearing_Hat"] = "no"
    elif any(part.startswith("headwear") and float(part.split(":")[1]) >= 0.9 for part in extras.split("|")):
        labels["Wearing_Hat"] = "yes"
    if row["mouth_occluded"] == "0" and age >= 18:
        labels["Wearing_Lipstick"] = "yes" if row["lip_makeup"] == "1" else "no"


def ffhq_hair(row: Row, labels: dict[str, str]) -> None:
    """Adds baldness, and a hair colour that is surer than the second by `HAIR_MARGIN`; faint ones become no."""
    bald = float(row["bald"] or 0)
    if row["hair_invisible"] != "0":
        return
    if bald >= 0.8 or bald <= 0.1:
        labels["Bald"] = "yes" if bald >= 0.8 else "no"
    if not row["hair_black"] or bald >= 0.8:
        return
    chances = {color: float(row["hair_" + color]) for color in HAIR_MARGIN}
    best, second = sorted(chances.values(), reverse=True)[:2]
    color = max(chances, key=lambda name: chances[name])
    sure = best >= 0.8 and best - second >= HAIR_MARGIN[color] and chances[color] >= float(row["hair_other"])
    for other, chance in chances.items():
        if other != "red" and other != color and chance <= (0.6 if sure else 0.1):
            labels[f"{other.capitalize()}_Hair"] = "no"
    if sure:
        labels["Hair_Color"] = color
        if color != "red":
            labels[f"{color.capitalize()}_Hair"] = "yes"


def _ffhq_beard(row: Row, labels: dict[str, str]) -> None:
    """Degrees are 0, .1, .4, .6, .9; .1 is too faint to say."""
    for column, name, yes, high in (
        ("moustache", "Mustache", "yes", 0.6),
        ("beard", "No_Beard", "no", 0.4),
        ("sideburns", "Sideburns", "yes", 0.4),
    ):
        degree = float(row[column])
        if degree >= high:
            labels[name] = yes
        elif degree == 0.0:
            labels[name] = "no" if yes == "yes" else "yes"


def head_pose(yaw: float, pitch: float) -> str | None:
    """Head pose of angles in degrees, with a gap of unknown between the values."""
    if abs(yaw) >= 20:
        return "turned to the side"
    if abs(yaw) <= 12 and (pitch >= 14 or pitch <= -16):
        return "tilted up" if pitch > 0 else "tilted down"
    return "facing forward" if abs(yaw) <= 10 and -10 <= pitch <= 8 else None


_READERS: dict[str, Callable[[Row], tuple[dict[str, str], float | None]]] = {
    "lfw": _lfw,
    "utkface": _utkface,
    "ffhq": _ffhq,
}


# --- Reading ---------------------------------------------------------------------------------------


def table_record(source: str, row: Row, landmarks: Mapping[Key, Any]) -> FaceRecord:
    """A table's row as a record, read as its source's columns are; landmarks tell the head pose where no column does.

    Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` for cells that cannot be read.
    """
    reader = _READERS.get(source)
    if reader is None:
        labels, age = plain_labels(row), float(row["age"]) if row.get("age") else None
        if age is not None:
            labels.setdefault("Age_Group", age_group(age))
    else:
        labels, age = reader(row)
    points = landmarks.get((source, row["file"]))
    if points is not None and "Head_Pose" not in labels:
        offset = abs(_nose_place(points) - 0.5)
        if offset <= 0.05 or offset >= 0.16:
            labels["Head_Pose"] = "facing forward" if offset <= 0.05 else "turned to the side"
    split, person = row.get("split") or "train", row.get("person") or None
    return FaceRecord(source, row["file"], split, derive(labels), age, person)


def _nose_place(points: np.ndarray) -> float:
    """Where the nose base falls on the line between the outer eye corners, 0..1; 0.5 is a frontal face."""
    left, right, nose = points[2], points[0], points[4]
    axis = right - left
    return float(((nose - left) * axis).sum() / max(float((axis * axis).sum()), 1e-6))


def source_names(data: Path) -> tuple[str, ...]:
    """The sources of a data folder: every NAME.csv with NAME.zip or a folder NAME/ beside it, sorted."""
    tables = sorted(Path(data).glob("*.csv"))
    return tuple(t.stem for t in tables if t.with_suffix(".zip").is_file() or t.with_suffix("").is_dir())


def read_records(data: Path, split: str | None = None, sources: Sequence[str] | None = None) -> list[FaceRecord]:
    """All records of the data folder, by source name and then in table order.

    `split` keeps "train" or "val"; `sources` keeps those sources, in the order given.
    Raises `UserError` for a folder without tables, a source that is not there, a table without `file`.
    """
    data = Path(data)
    found = source_names(data)
    if not found:
        raise UserError(f"no face data in {data}: needs NAME.csv beside NAME.zip or NAME/; check --data")
    for name in sources or ():
        if name not in found:
            raise UserError(f"no source {name!r} in {data}; there are: {', '.join(found)}")
    landmarks = read_landmarks(data) if (data / "landmarks.npz").is_file() else {}
    records: list[FaceRecord] = []
    for name in sources or found:
        records += _read_table(data / f"{name}.csv", split, landmarks)
    return records


def _read_table(path: Path, split: str | None, landmarks: Mapping[Key, Any]) -> list[FaceRecord]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if "file" not in (rows.fieldnames or ()):
            raise UserError(f"{path} has no column 'file'; name the photos there")
        records: list[FaceRecord] = []
        unread = 0
        try:
            for row in rows:
                if split is None or (row.get("split") or "train") == split:
                    records.append(table_record(path.stem, row, landmarks))
                    unread += _unread(path.stem, row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = f"{path} line {rows.line_num}"
            raise UserError(f"{where} cannot be read ({error}); mend the table") from error
    if unread:
        logger.info("%s: %d values are none of the schema's and count as unknown", path, unread)
    return records


class PhotoStore:
    """Random access to the photos by record, from NAME.zip or NAME/; safe to pickle and to fork."""

    def __init__(self, data: Path) -> None:
        self.data = Path(data)
        self._zips: dict[str, zipfile.ZipFile] = {}
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["data"])  # type: ignore[misc]

    def _zip(self, source: str) -> zipfile.ZipFile | None:
        if self._owner != os.getpid():  # a forked child shares the file offset: open its own
            self._zips, self._owner = {}, os.getpid()
        if source not in self._zips:
            path = self.data / f"{source}.zip"
            if not path.is_file():
                return None
            try:
                self._zips[source] = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} cannot be opened ({error}); fetch it again") from error
        return self._zips[source]

    def read(self, record: FaceRecord) -> bytes:
        """The photo's file as it is stored. Raises `UserError` where it is missing."""
        archive = self._zip(record.source)
        try:
            if archive is not None:
                return archive.read(record.file)
            return (self.data / record.source / record.file).read_bytes()
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            name = f"{record.source}/{record.file}"
            raise UserError(f"photo {name} is missing or damaged in {self.data}; fetch it again") from error

    def open(self, record: FaceRecord) -> Image.Image:
        """The photo as an RGB image. Raises `UserError` where it is missing or no image."""
        from PIL import Image

        content = self.read(record)
        try:
            return Image.open(io.BytesIO(content)).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"photo {record.source}/{record.file} is no image; fetch it again") from error


def _read_npz(path: Path, suffix: str, need: str) -> dict[Key, np.ndarray]:
    """Arrays `SOURCE<suffix>` by the names in `SOURCE_file`; rows whose `SOURCE_<need>` is 0 are left out."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"{path} is missing; it belongs in the data folder")
    found: dict[Key, np.ndarray] = {}
    with np.load(path) as arrays:
        for key in sorted(arrays.files):
            if not key.endswith("_file"):
                continue
            source = key[: -len("_file")]
            names, values = arrays[key], arrays[source + suffix].astype(np.float32)
            kept = arrays[f"{source}_{need}"] if f"{source}_{need}" in arrays.files else np.ones(len(names))
            found |= {(source, str(n)): v for n, v, keep in zip(names, values, kept, strict=True) if keep}
    return found


def read_landmarks(data: Path) -> dict[Key, np.ndarray]:
    """(source, file) -> (5, 2) float32 pixels x, y of the packed photo, where the detector hit.

    The order, as seen in the picture: right eye outer, right eye inner, left eye outer, left eye inner
    corner, nose base.
    """
    return _read_npz(Path(data) / "landmarks.npz", "_points", "hit")


def read_descriptors(data: Path) -> dict[Key, np.ndarray]:
    """(source, file) -> (128,) float32 face descriptor; one person lies within about 0.6."""
    return _read_npz(Path(data) / "face_descriptors.npz", "", "hit")
