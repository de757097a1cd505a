"""What a mapping file cannot say in columns and cut-offs: rules that weigh several labels, named in the file.

The rules are those of `sources`, in one place there; here they only get names. A rule leaves a row
alone that lacks the columns it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unif2ace_core.data import sources


@dataclass
class Reading:
    """A row while it is being read."""

    row: Mapping[str, str]
    labels: dict[str, str]
    age: float | None

    def has(self, *columns: str) -> bool:
        """Whether all these columns are filled."""
        return all(self.row.get(name) for name in columns)


def _age_labels(reading: Reading) -> None:
    """Age group, and `Young` away from its vague border."""
    if reading.age is not None:
        sources.label_age(reading.labels, reading.age)


def _unlikely(reading: Reading) -> None:
    """A guessed beard on a woman or a child, or lipstick on a man or a child, is forgotten."""
    sources.forget_unlikely(reading.labels, reading.age)


def _emotion_over_smile(reading: Reading) -> None:
    """A guessed smile against the stated emotion is forgotten."""
    emotion = reading.labels.get("Emotion")
    if emotion is not None:
        sources.forget(reading.labels, [("Smiling", "no" if emotion == "happiness" else "yes")])


def _ffhq_worn(reading: Reading) -> None:
    """Glasses, hat and lipstick where the annotator's columns agree."""
    if reading.age is not None and reading.has("glasses") and "accessories" in reading.row:
        row = {"hair_invisible": "", "mouth_occluded": "", **reading.row}
        sources.ffhq_worn(row, reading.labels, reading.age)


def _ffhq_hair(reading: Reading) -> None:
    """Hair colour by margins over the second colour; baldness."""
    if reading.has("hair_invisible", "bald"):
        colors = {"hair_" + name: "" for name in (*sources.HAIR_MARGIN, "other")}
        sources.ffhq_hair({**colors, **reading.row}, reading.labels)


def _ffhq_pose(reading: Reading) -> None:
    """Head pose of the angles, with a gap of unknown between the values."""
    if reading.has("yaw", "pitch"):
        pose = sources.head_pose(float(reading.row["yaw"]), float(reading.row["pitch"]))
        if pose:
            reading.labels["Head_Pose"] = pose


def _age_zero_unknown(reading: Reading) -> None:
    """An age of 0 stands for any baby: the group is known, the years are not."""
    if reading.age is not None and reading.age <= 0:
        reading.age = None


RULES: dict[str, Callable[[Reading], None]] = {
    "age_labels": _age_labels,
    "unlikely": _unlikely,
    "emotion_over_smile": _emotion_over_smile,
    "ffhq_worn": _ffhq_worn,
    "ffhq_hair": _ffhq_hair,
    "ffhq_pose": _ffhq_pose,
    "age_zero_unknown": _age_zero_unknown,
}
