"""Suite `conditions`: what is left of the answers on other cameras and on spoiled pictures, as one table.

    a row per source, its photos as they are        every question that the source's labels can settle
    a row per spoiling, on labels by people         the questions of those rows again, on spoiled photos

People labelled the attributes of CelebA-HQ, the emotions of LFW and the ages of UTKFace (`HUMAN`); other labels
are a machine's. A spoiled row repeats the very probes of the rows as they are, so its metrics stand beside
`celebahq` (yes/no, glasses, hat, gender), `lfw` (emotion) and `utkface` (age). Photos are spoiled in the
training frame, after their alignment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageFilter

from unif2ace_core.data import wordings
from unif2ace_core.data.attributes import VISIBLE_20
from unif2ace_core.data.questions import yes_no_wordings
from unif2ace_core.data.sources import FaceRecord, Key
from unif2ace_core.evaluate.answers import EMOTION_QUESTIONS, Ask, Probe, ask_all, drawn, ordered, report, sources_of

COUNT = 760  # questions of a row, at most, where nothing else is said: ten photos a share
SOURCES = ("celebahq", "lfw", "ffhq", "utkface")
HUMAN = {"yes_no": "celebahq", "gender.all": "celebahq", "emotion": "lfw", "age.all": "utkface"}
SINGLE = ("Eyeglasses", "Wearing_Hat")  # yes/no attributes with a column of their own
OWN_SHARES = 4  # photos of a value with a column of its own, for each of one that only enters the mean
AGE_SHARES = 8  # photos asked for their age, for each of such a value
ALL_SHARES = 2 * (len(VISIBLE_20) - len(SINGLE)) + 2 * OWN_SHARES * (len(SINGLE) + 2) + AGE_SHARES
CLEAR_EMOTIONS = ("happiness", "neutral")

Photos = Mapping[Key, Image.Image]

# --- Spoiling ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoiling:
    """A way to make an RGB picture worse, which keeps its size."""

    how: str  # with its strength
    apply: Callable[[Image.Image], Image.Image]


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(image.width / 64))


def _dark(image: Image.Image) -> Image.Image:
    return image.point([round(0.3 * value) for value in range(256)] * len(image.getbands()))


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert(image.mode)


def _small(image: Image.Image) -> Image.Image:
    return image.resize((32, 32), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


SPOILINGS: dict[str, Spoiling] = {
    "blurred": Spoiling("Gaussian blur, sigma 1/64 of the side (2 pixels of 128)", _blurred),
    "dark": Spoiling("pixel values times 0.3", _dark),
    "grey": Spoiling("luma only (ITU-R 601)", _grey),
    "32 pixels": Spoiling("down to 32 x 32 pixels by areas, and back up bicubically", _small),
}

# --- What to ask -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of the table: what is asked, and how the photos are spoiled (None: not at all)."""

    probes: Sequence[Probe]
    spoiling: Spoiling | None


def plan(records: Sequence[FaceRecord], rng: random.Random, count: int = COUNT) -> dict[str, Row]:
    """The table's rows by name, at most `count` questions each; sources without photos have none."""
    by_source = sources_of(records)
    names = [name for name in SOURCES if by_source.get(name)] or list(by_source)
    plain = {name: _at_most(_questions(by_source[name], rng, count), rng, count) for name in names}
    human = [probe for name in names for probe in plain[name] if HUMAN[probe.section] == name]
    # with a share for every metric the labels by people fit into one row whole; all labels of one's own need not
    again = _at_most(human or [probe for probes in plain.values() for probe in probes], rng, count)
    rows = {name: Row(probes, None) for name, probes in plain.items()}
    rows |= {name: Row(again, spoiling) for name, spoiling in SPOILINGS.items()}
    return {name: row for name, row in rows.items() if row.probes}


def _questions(records: Sequence[FaceRecord], rng: random.Random, count: int) -> list[Probe]:
    """One source's probes; a share is the same number of photos in every source, whatever its labels."""
    share = max(1, count // ALL_SHARES)
    own = OWN_SHARES * share
    moods = [record for record in records if record.labels.get("Emotion") in CLEAR_EMOTIONS]
    aged = [record for record in records if record.age is not None]
    probes: list[Probe] = []
    for name in VISIBLE_20:
        probes += drawn("yes_no", records, name, yes_no_wordings(name), rng, own if name in SINGLE else share)
    probes += drawn("gender.all", records, "Male", wordings.phrased(wordings.GENDER), rng, own)
    probes += drawn("emotion", moods, "Emotion", EMOTION_QUESTIONS, rng, own)
    ages = wordings.phrased(wordings.AGE)
    chosen = rng.sample(aged, min(len(aged), AGE_SHARES * share))
    return probes + [Probe("age.all", record, "Age", rng.choice(ages), str(record.age)) for record in chosen]


def _at_most(probes: list[Probe], rng: random.Random, count: int) -> list[Probe]:
    return ordered(probes if len(probes) <= count else rng.sample(probes, count))


# --- Measuring ---------------------------------------------------------------------------------------------


def measure(
    rows: Mapping[str, Row],
    photos: Photos,
    ask: Ask,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The suite's table.

    Args:
        rows: of `plan`.
        photos: aligned photos of all probes.
        ask: answers questions about photos.
        seed: of the intervals, the same resamplings in every row.
        on_progress: told (done, total) questions of all rows.
    """
    table: dict[str, Any] = {}
    total, before = sum(len(row.probes) for row in rows.values()), 0
    for name, row in rows.items():

        def progress(done: int, _: int, start: int = before) -> None:
            if on_progress:
                on_progress(start + done, total)

        said = ask_all(row.probes, shown(row, photos), ask, on_progress=progress)
        table[name] = headline(report(row.probes, said, torch.Generator().manual_seed(seed)))
        before += len(row.probes)
    used = {name: row.spoiling.how for name, row in rows.items() if row.spoiling}
    return {"n": total, "spoiled": used, "by_condition": table}


def shown(row: Row, photos: Photos) -> dict[Key, Image.Image]:
    """The row's photos as the model gets to see them."""
    keys = dict.fromkeys(probe.record.key for probe in row.probes if probe.record.key in photos)
    return {key: row.spoiling.apply(photos[key]) if row.spoiling else photos[key] for key in keys}


def headline(found: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the table from a report of suite `answers`; what the labels can't settle is left out.

    Balanced accuracies, that of `yes_no` as a mean over its `attributes` with both values; `age` is the mean
    absolute error in years. Each stands beside its number of questions; `by_interval` has the 95% intervals there are.
    """
    yes_no = found.get("yes_no", {})
    single = yes_no.get("by_attribute", {})
    parts: dict[str, tuple[Mapping[str, Any], str]] = {
        "yes_no": (yes_no, "mean_balanced_accuracy"),
        "glasses": (single.get("Eyeglasses", {}), "balanced_accuracy"),
        "hat": (single.get("Wearing_Hat", {}), "balanced_accuracy"),
        "gender": (found.get("gender", {}).get("all", {}), "balanced_accuracy"),
        "happy": (found.get("emotion", {}).get("happiness_neutral", {}), "balanced_accuracy"),
        "age": (found.get("age", {}).get("all", {}), "mean_absolute_error"),
    }
    known = {name: (part, metric) for name, (part, metric) in parts.items() if _settled(part, metric)}
    line: dict[str, Any] = {}
    for name, (part, metric) in known.items():
        line |= {name: part[metric], f"n_{name}": part["n"] if "n" in part else part["n_yes"] + part["n_no"]}
        if name == "yes_no":
            line["attributes"] = yes_no["attributes"]
    intervals = {name: part["interval"] for name, (part, _) in known.items() if "interval" in part}
    return line | {"by_interval": intervals} if line else {}


def _settled(part: Mapping[str, Any], metric: str) -> bool:
    """Whether the metric is there, and rests on both values where it is a balanced accuracy of an open question."""
    return part.get(metric) is not None and len(part.get("recall", ("no", "yes"))) > 1
