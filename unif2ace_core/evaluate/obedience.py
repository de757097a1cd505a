"""Suite `prompts`: does a generated face show what its prompt asks for? The judge reads it (evaluate/judge.py).

    plan (prompts, what each asks for) -> generate -> judge -> balanced accuracy of each attribute

    single    a person with one attribute, or without it: 12 attributes that a look decides, and four small ones beside
    five      five of the 12 at once, as a held-out person has them
    photos    the judge's balanced accuracies on held-out photos: what a perfect generator reaches

A prompt for the absence of a hair colour asks for another one. Where captions have no words for an absence (rosy
cheeks), the prompt is silent about it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.data.attributes import derive
from unif2ace_core.data.dense import make_caption
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.fidelity import LEAST_NAMED, Reader
from unif2ace_core.evaluate.metrics import as_signed, bootstrap_interval, hits_by_value, mean_recall, rounded

COUNT = 2000  # pictures where nothing else is said
SHARE_OF_FIVE = 0.4  # of the pictures
TWELVE = (
    "Male", "Young", "Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat",
    "Black_Hair", "Blond_Hair", "Gray_Hair", "Bald", "Bangs", "No_Beard",
)  # fmt: skip
SMALL = ("Wearing_Earrings", "Rosy_Cheeks", "Wearing_Lipstick", "Wearing_Necktie")
COLORS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
OF_MEN, OF_WOMEN = ("Bald", "No_Beard", "Wearing_Necktie"), ("Wearing_Earrings", "Rosy_Cheeks", "Wearing_Lipstick")
STYLES = ("short", "medium", "tags")
TRIES = 12  # captions drawn until one says all that is wanted
EAGER = 3.0  # how much oftener a prompt for five takes what is there than what is not


Value = tuple[str, str]  # attribute, yes or no


@dataclass(frozen=True)
class Asked:
    """A prompt, the seed of its picture, and the values that it asks for."""

    kind: str  # single, five
    text: str
    seed: int
    wanted: Mapping[str, str]


# --- What to ask for -------------------------------------------------------------------------------------


def plan(records: Sequence[FaceRecord], rng: random.Random, count: int) -> list[Asked]:
    """About `count` prompts; those for five attributes follow the labels of records, none where there are no labels."""
    together = round(count * SHARE_OF_FIVE)
    each = max(1, (count - together) // (2 * len(TWELVE + SMALL)))
    single = [
        one_attribute(name, value, rng) for name in TWELVE + SMALL for value in ("no", "yes") for _ in range(each)
    ]
    pools = having(records)
    five = [five_attributes(pools, rng) for _ in range(together if pools else 0)]
    return [asked for asked in [*single, *five] if asked is not None][:count]


def having(records: Sequence[FaceRecord]) -> dict[Value, list[FaceRecord]]:
    """Records with labels of five of the attributes or more, by each value that they have."""
    found: dict[Value, list[FaceRecord]] = {}
    for record in records:
        values = [(name, record.labels[name]) for name in TWELVE if name in record.labels]
        for value in values if len(values) >= 5 else ():
            found.setdefault(value, []).append(record)
    return found


def one_attribute(name: str, value: str, rng: random.Random) -> Asked:
    """A prompt for one value, of a man or a woman as the attribute is used of."""
    labels = {"Male": "yes" if name in OF_MEN else "no" if name in OF_WOMEN else rng.choice(("yes", "no"))}
    if value == "no" and name in (*COLORS, "Bald"):
        labels[rng.choice([color for color in COLORS if color != name])] = "yes"
    else:
        labels[name] = value
    return Asked("single", worded(labels, rng)[0], rng.randrange(2**31), {name: value})


def five_attributes(pools: Mapping[Value, Sequence[FaceRecord]], rng: random.Random) -> Asked | None:
    """A prompt for five values of a record, one of them drawn first, so that rare ones come too; None where none fits.

    Not every five can be said: hats hide bangs.
    """
    for _ in range(20 * TRIES):
        first = rng.choice(sorted(pools))
        labels = rng.choice(pools[first]).labels
        others = [name for name in TWELVE if name in labels and name != first[0]]
        odds = {name: rng.random() ** (1 / EAGER if labels[name] == "yes" else 1) for name in others}
        names = [first[0], *sorted(odds, key=lambda name: -odds[name])[:4]]
        chosen = {name: labels[name] for name in names}
        text, all_said = worded(chosen, rng, ("medium",))
        if all_said:
            return Asked("five", text, rng.randrange(2**31), chosen)
    return None


def worded(labels: Mapping[str, str], rng: random.Random, styles: Sequence[str] = STYLES) -> tuple[str, bool]:
    """A caption of a face with these labels, and whether it says them all."""
    record = FaceRecord("prompt", "", "val", derive(dict(labels)), None, None)
    text = ""
    for _ in range(TRIES):
        made = make_caption(record, rng.choice(styles), rng)
        text = made.text
        if labels.items() <= made.attributes.items():
            return text, True
    return text, False


# --- Reading the pictures ----------------------------------------------------------------------------------


def report(
    asked: Sequence[Asked],
    images: Tensor,
    reader: Reader,
    generator: torch.Generator,
    records: Sequence[FaceRecord] = (),
    photos: Tensor | None = None,
) -> dict[str, Any]:
    """Balanced accuracies with 95% intervals; images (n, H, W, 3) uint8, `photos` those of the records."""
    seen = read(images, reader)
    result: dict[str, Any] = {"n": len(asked)}
    for title, kind, names in (("single", "single", TWELVE), ("small", "single", SMALL), ("five", "five", TWELVE)):
        rows = [n for n, each in enumerate(asked) if each.kind == kind]
        result[title] = summary([asked[n].wanted for n in rows], [seen[n] for n in rows], names, generator)
    result["all_five"] = all_right([(a.wanted, s) for a, s in zip(asked, seen) if a.kind == "five"])
    if photos is not None:
        found = read(photos, reader)
        result["photos"] = summary([record.labels for record in records], found, TWELVE + SMALL, generator)
    return result


def read(images: Tensor, reader: Reader, batch_size: int = 64) -> list[dict[str, str]]:
    """What the judge sees in each picture: attribute -> yes or no."""
    found: list[dict[str, str]] = []
    for part in images.split(batch_size):
        chances = {name: values.argmax(1).tolist() for name, values in reader(as_signed(part)).items()}
        found += [{name: ("no", "yes")[rows[n]] for name, rows in chances.items()} for n in range(len(part))]
    return found


def summary(
    wanted: Sequence[Mapping[str, str]],
    seen: Sequence[Mapping[str, str]],
    names: Sequence[str],
    generator: torch.Generator,
) -> dict[str, Any]:
    """Balanced accuracy of each attribute of which both values were asked for often enough, and their mean."""
    table: dict[str, dict[str, Any]] = {}
    strata: list[Tensor] = []
    for name in names:
        pairs = [(s.get(name), w[name]) for w, s in zip(wanted, seen, strict=True) if name in w]
        hits = hits_by_value([s for s, _ in pairs], [w for _, w in pairs])
        row: dict[str, Any] = {f"n_{value}": len(hits.get(value, ())) for value in ("yes", "no")}
        if min(row.values()) >= LEAST_NAMED:
            strata += hits.values()
            accuracy = rounded(mean_recall([s for s, _ in pairs], [w for _, w in pairs]))
            recall = {f"recall_{value}": rounded(float(part.mean())) for value, part in hits.items()}
            row = {"balanced_accuracy": accuracy} | recall | row
        table[name] = row
    scores = [row["balanced_accuracy"] for row in table.values() if "balanced_accuracy" in row]
    return {
        "mean_balanced_accuracy": rounded(sum(scores) / len(scores)) if scores else None,
        "interval": [rounded(value) for value in bootstrap_interval(strata, generator)],
        "attributes": len(scores),
        "by_attribute": table,
    }


def all_right(pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]) -> float | None:
    """Share of the pictures that show all that was wanted; None for no pictures."""
    right = [wanted.items() <= seen.items() for wanted, seen in pairs]
    return rounded(sum(right) / len(right)) if right else None
