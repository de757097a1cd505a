"""`unif2ace data annotate`: attributes that a source does not know, where a model's CLIP expert is sure of them.

    photo -> attribute logits -> calibrated probabilities -> sure and unknown? -> fits the labels? -> label, probability

The surest comes first, and what contradicts a known label or a surer one is left unknown. Labels of the source are
never changed; `probabilities` tells which labels are the model's. Photos are looked at on the CPU, in one thread:
then the same photos give the same bytes whatever the machine's load and the number of processes, which share shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unif2ace_core.data.attributes import SCHEMA, age_group, derive
from unif2ace_core.data.calibration import Calibration, HeadCalibration, probabilities, read_calibration
from unif2ace_core.data.exclusions import fits
from unif2ace_core.data.pixels import framed_photo
from unif2ace_core.data.sets import check_aligned
from unif2ace_core.data.shards import Job, Made, Shard, digest, image_files, read_shard, shards_of, with_column
from unif2ace_core.data.stages.threads import one_thread
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from unif2ace_core.experts.clip import ClipEncoder

STAGE = "annotate"
BATCH = 64  # photos looked at together; a shard is cut the same way whoever makes it
# A derived value and the attributes that it may come from.
_SOURCES = {
    "Hair_Color": ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair", "Bald"),
    "Skin_Tone": ("Pale_Skin", "Rosy_Cheeks"),
    "Mouth_Action": ("Smiling", "Mouth_Slightly_Open"),
    "Eyes": ("Narrow_Eyes", "Eyeglasses"),
}


# --- What the expert sees --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the heads say of some photos."""

    logits: Mapping[str, np.ndarray]  # attribute -> (B, values), (B, 1) of a binary one
    ages: np.ndarray  # (B,) years


Look = Callable[[Sequence[bytes]], Seen]  # of image files in the training frame


def clip_fingerprint(directory: Path, model: str) -> str:
    """Which CLIP expert a model has, and how it reads.

    Raises:
        UserError: it has none that names attributes.
    """
    from unif2ace_core.experts.clip import OPEN_CLIP
    from unif2ace_core.weights.parts import fingerprint, has_part, part_kind

    if not has_part(directory, "clip"):
        raise UserError(f"--model {model} has no CLIP expert; take another model")
    if part_kind(directory, "clip", (OPEN_CLIP,)):
        raise UserError(f"--model {model} has a published CLIP tower, which names no attributes; take another model")
    return fingerprint(directory, "clip")[:14] + "x2"  # what it says of a photo and of its mirror image, see `_heads`


def load_look(directory: Path) -> Look:
    """The attribute head of the CLIP expert in a folder, as a function from image files to what it says of them."""
    import torch

    from unif2ace_core.experts.clip import attribute_slices, load_clip
    from unif2ace_core.tokens.codec import to_image_tensor

    clip = load_clip(directory).to(memory_format=torch.channels_last)

    def look(files: Sequence[bytes]) -> Seen:
        parts = []
        with one_thread(), torch.inference_mode():
            for start in range(0, len(files), BATCH):
                photos = np.stack([framed_photo(each, clip.config.pixels) for each in files[start : start + BATCH]])
                images = to_image_tensor(torch.from_numpy(photos)).contiguous(memory_format=torch.channels_last)
                parts.append(_heads(clip, images))
        rows = np.concatenate(parts) if parts else np.zeros((0, clip.attributes.out_features), np.float32)
        return Seen({name: rows[:, part] for name, part in attribute_slices().items()}, rows[:, -1])

    return look


def _heads(clip: ClipEncoder, images: Any) -> np.ndarray:
    """Attribute logits and age in years of photos read twice, one after the other: (B, ATTRIBUTE_LOGITS + 1)."""
    found = clip.seen_twice(images)
    return np.concatenate([found.attributes.numpy(), found.age.numpy()[:, None]], 1)


# --- Annotating ----------------------------------------------------------------------------------------------


def open_calibration(path: Path, clip: str, model: str) -> Calibration:
    """Read a calibration of the CLIP expert that has a fingerprint.

    Raises:
        UserError: it is missing, damaged, or of another expert.
    """
    if not path.is_file():
        again = f"make one with 'unif2ace data calibrate SET --model {model}' and give it as --calibration"
        raise UserError(f"there is no {path}; {again}")
    found = read_calibration(path)
    if found.clip != clip:
        again = f"run 'unif2ace data calibrate SET --model {model}' and give what it writes as --calibration"
        raise UserError(f"{path} was measured on another CLIP expert than that of --model {model}; {again}")
    return found


def annotate_settings(calibration: Calibration) -> dict[str, Any]:
    """What the labels depend on."""
    return {"clip": calibration.clip, "calibration": digest(calibration), "precision": calibration.precision}


def annotate_jobs(source: Path, directory: Path, calibration: Calibration) -> list[Job]:
    """Shards whose unknown attributes are filled; the expert is loaded when a shard is missing."""
    check_aligned(source)
    look = cache(lambda: load_look(directory))
    return [_job(shard, calibration, look) for shard in shards_of(source)]


def _job(shard: Shard, calibration: Calibration, look: Callable[[], Look]) -> Job:
    return Job(shard.name, lambda: annotated(read_shard(shard.path), look(), calibration))


def annotated(table: pa.Table, look: Look, calibration: Calibration) -> Made:
    """The rows of a shard with what is sure."""
    sure = surely(look(image_files(table)), calibration)
    labels, chances = table["labels"].to_pylist(), table["probabilities"].to_pylist()
    filled, refused = Counter[str](), 0
    known = sum(value is not None for each in labels for value in each.values())
    for row, age in enumerate(table["age"].to_pylist()):
        found = fill(labels[row], age, sure[row])
        labels[row] |= found.labels
        chances[row] |= found.probabilities
        filled.update(found.labels.keys())  # counts names; a mapping would be taken for counts
        refused += found.refused
    made = with_column(table, "labels", labels, table.schema.field("labels").type)
    made = with_column(made, "probabilities", chances, table.schema.field("probabilities").type)
    by_attribute = {each.name: filled[each.name] for each in SCHEMA if filled[each.name]}
    report = {"rows": len(table), "known": known, "filled": filled.total(), "contradictory": refused}
    return Made(made, {**report, "attributes": by_attribute})


@dataclass(frozen=True)
class Guess:
    """A value that the head is sure of."""

    name: str
    value: str
    probability: float


def surely(seen: Seen, calibration: Calibration) -> list[list[Guess]]:
    """What is sure of each photo, the surest first."""
    found: list[list[Guess]] = [[] for _ in seen.ages]
    for each in SCHEMA:
        head = calibration.attributes.get(each.name)
        for row, guess in _sure_of(each.name, each.values, seen, head) if head else ():
            found[row].append(guess)
    return [sorted(guesses, key=lambda guess: -guess.probability) for guesses in found]


def _sure_of(name: str, values: Sequence[str], seen: Seen, head: HeadCalibration) -> Iterator[tuple[int, Guess]]:
    """Photos and values of which the head is sure, of one attribute."""
    chances = probabilities(seen.logits[name], head.temperature)
    limits = [head.values[value].threshold if value in head.values else None for value in values]
    least = np.array([np.inf if limit is None else limit for limit in limits])
    top = chances.argmax(1)
    for row in np.flatnonzero(chances.max(1) >= least[top]):
        yield int(row), Guess(name, values[top[row]], float(chances[row, top[row]]))


@dataclass(frozen=True)
class Filled:
    """What is added to the labels of a photo; a probability is None where the source's own labels say it."""

    labels: dict[str, str]
    probabilities: dict[str, float | None]
    refused: int  # sure values that contradict others


def fill(labels: Mapping[str, str | None], age: float | None, guesses: Sequence[Guess]) -> Filled:
    """What sure guesses, the surest first, add to what is known (None: unknown) of a photo and its age in years."""
    known = {name: value for name, value in labels.items() if value is not None}
    pairs = set(known.items())
    if age is not None:
        pairs.add(("Age_Group", age_group(age)))
    added: dict[str, str] = {}
    chances: dict[str, float | None] = {}
    refused = 0

    def add(name: str, value: str, chance: float | None) -> bool:
        if not fits(name, value, pairs):
            return False
        pairs.add((name, value))
        known[name] = added[name] = value
        chances[name] = chance
        return True

    for guess in guesses:
        refused += guess.name not in known and not add(guess.name, guess.value, guess.probability)
    for name, value in derive(known).items():
        if name not in known:
            add(name, value, _derived_probability(name, value, known, chances))
    return Filled(added, chances, refused)


def _derived_probability(
    name: str, value: str, known: Mapping[str, str], chances: Mapping[str, float | None]
) -> float | None:
    """The least probability of the labels without which `derive` would not say the value."""
    needed = [
        part
        for part in _SOURCES[name]
        if part in known and derive({other: known[other] for other in known if other != part}).get(name) != value
    ]
    guessed = [chance for part in needed if (chance := chances.get(part)) is not None]
    return min(guessed) if guessed else None
