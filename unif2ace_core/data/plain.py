"""Plain prompts, as people type them: a man or a woman with one thing or a few, there or not there.

    a woman without bangs
    man, black hair, no glasses

Captions say what is remarkable, so they rarely deny anything, and never that alone. A model that is to be told "no hat"
has to be shown so in training, as often as "a hat": then what is named says nothing, and only how it is named does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from unif2ace_core.data.attributes import VISIBLE_20, VISIBLE_30, derive
from unif2ace_core.data.captions import WOMEN_LACK
from unif2ace_core.data.dense import make_caption
from unif2ace_core.data.lots import by_lot
from unif2ace_core.data.sources import FaceRecord

STYLES = ("short", "medium", "tags")
TRIES = 12  # captions drawn until one says all that it should
PRESENT = 2.0  # how much oftener a prompt takes what is there than what is not
OTHERS = {0: 9, 1: 4, 2: 2, 3: 2, 4: 3}  # odds of so many attributes beside the one that a prompt is about
NAMED = (*VISIBLE_20, *VISIBLE_30)  # what a prompt may be about: the well visible ones twice as often
OF_MEN = frozenset(
    ("Bald", "No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow", "Receding_Hairline", "Wearing_Necktie")
)
OF_WOMEN = frozenset(WOMEN_LACK)
UNSAID = frozenset((("Straight_Hair", "no"),))  # no caption says so

Value = tuple[str, str]  # attribute, yes or no


def worded(
    labels: Mapping[str, str], rng: random.Random, styles: Sequence[str] = STYLES, tries: int = TRIES
) -> tuple[str, bool]:
    """A caption of a face with these labels, and whether it says them all; some things are never said.

    Where none of the tries does, the first of those that say the most.
    """
    record = FaceRecord("prompt", "", "train", derive(dict(labels)), None, None)
    text, most = "", -1
    for _ in range(tries):
        made = make_caption(record, rng.choice(styles), rng)
        said = len(labels.items() & made.attributes.items())
        if said > most:
            text, most = made.text, said
        if said == len(labels):
            break
    return text, most == len(labels)


def chosen_names(
    labels: Mapping[str, str], names: Sequence[str], rng: random.Random, count: int, eager: float
) -> list[str]:
    """`count` of the attributes, without replacement; a yes is `eager` times as likely as a no."""
    return by_lot(names, lambda name: eager if labels[name] == "yes" else 1.0, rng)[:count]


def nameable(labels: Mapping[str, str]) -> list[Value]:
    """The values of visible attributes that a prompt may be about: a beard is looked for on men only."""
    male = labels.get("Male")
    hidden = (OF_WOMEN if male != "no" else frozenset()) | (OF_MEN if male != "yes" else frozenset())
    return [(n, labels[n]) for n in VISIBLE_30 if n in labels and n not in hidden and (n, labels[n]) not in UNSAID]


def plain_prompt(labels: Mapping[str, str], value: Value, rng: random.Random) -> str:
    """A prompt about one of the values of `nameable`, mostly with the gender and often with other attributes."""
    name = value[0]
    known = [other for other, _ in nameable(labels) if other not in (name, "Male")]
    count = rng.choices(list(OTHERS), list(OTHERS.values()))[0] if name != "Male" else 0
    names = [name, *chosen_names(labels, known, rng, count, PRESENT)]
    if "Male" in labels and name != "Male" and (name in OF_MEN | OF_WOMEN or rng.random() < 0.85):
        names.append("Male")
    styles = STYLES if count < 3 else ("medium",)
    return worded({name: labels[name] for name in names}, rng, styles, tries=4)[0]
