"""Plain prompts, as people type them: one or two attributes of a man or a woman, there or not there.

    a woman without bangs
    man, black hair, no glasses

Captions say what is remarkable, so they rarely deny anything, and never that alone. A model that is to be told "no hat"
has to be shown so in training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from unif2ace_core.data.attributes import VISIBLE_30, derive
from unif2ace_core.data.dense import make_caption
from unif2ace_core.data.sources import FaceRecord

STYLES = ("short", "medium", "tags")
TRIES = 12  # captions drawn until one says all that it should
PRESENT = 2.0  # how much oftener a prompt takes what is there than what is not


def worded(labels: Mapping[str, str], rng: random.Random, styles: Sequence[str] = STYLES) -> tuple[str, bool]:
    """A caption of a face with these labels, and whether it says them all; some things are never said."""
    record = FaceRecord("prompt", "", "train", derive(dict(labels)), None, None)
    text = ""
    for _ in range(TRIES):
        made = make_caption(record, rng.choice(styles), rng)
        text = made.text
        if labels.items() <= made.attributes.items():
            return text, True
    return text, False


def chosen_names(
    labels: Mapping[str, str], names: Sequence[str], rng: random.Random, count: int, eager: float
) -> list[str]:
    """`count` of the attributes, without replacement; a yes is `eager` times as likely as a no."""
    odds = {name: rng.random() ** (1 / eager if labels[name] == "yes" else 1) for name in names}
    return sorted(odds, key=lambda name: -odds[name])[:count]


def plain_prompt(record: FaceRecord, rng: random.Random) -> str:
    """A prompt of one or two of the record's visible attributes, and mostly the gender."""
    known = [name for name in VISIBLE_30 if name in record.labels and name != "Male"]
    names = chosen_names(record.labels, known, rng, rng.choice((1, 1, 2)), PRESENT)
    if "Male" in record.labels and rng.random() < 0.9:
        names.append("Male")
    return worded({name: record.labels[name] for name in names}, rng)[0]
