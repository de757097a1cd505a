"""Suite `prompts`: does a generated face show what its prompt asks for? The judge reads it (evaluate/judge.py).

    plan (prompts, what each asks for) -> generate -> judge -> balanced accuracy of each attribute

    single    a person with one attribute, or without it: 12 attributes that a look decides
    small     the same of four small ones
    five      five of the 12 at once, as a held-out person has them; `all_five` is the share that shows them all
    photos    the judge on held-out photos, where a perfect generator would be; `all_five` of prompts' photos likewise

A prompt for the absence of a hair colour asks for another one. Intervals resample pictures, not attributes: one
picture tells of several.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.data.plain import Value, chosen_names, worded
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.fidelity import Reader
from unif2ace_core.evaluate.metrics import as_signed, percentile_interval, ratio_interval, rounded

COUNT = 2000  # pictures where nothing else is said
SHARE_OF_FIVE = 0.4  # of the pictures
ATTRIBUTES = (
    "Male", "Young", "Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat",
    "Black_Hair", "Blond_Hair", "Gray_Hair", "Bald", "Bangs", "No_Beard",
)  # fmt: skip
SMALL = ("Wearing_Earrings", "Rosy_Cheeks", "Wearing_Lipstick", "Wearing_Necktie")
COLORS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
OF_MEN, OF_WOMEN = ("Bald", "No_Beard", "Wearing_Necktie"), ("Wearing_Earrings", "Rosy_Cheeks", "Wearing_Lipstick")
TRIES = 240  # fives drawn until a caption can say one
EAGER = 3.0  # how much oftener a prompt for five takes what is there than what is not


@dataclass(frozen=True)
class Asked:
    """A prompt, the seed of its picture, and the values that it asks for."""

    kind: str  # single, five
    text: str
    seed: int
    wanted: Mapping[str, str]
    record: int = -1  # which of the records has the five


# --- What to ask for -------------------------------------------------------------------------------------


def plan(records: Sequence[FaceRecord], rng: random.Random, count: int) -> list[Asked]:
    """At most `count` prompts in random order, as many for each value; those for five follow records with labels."""
    pools, values = having(records), [(n, v) for n in ATTRIBUTES + SMALL for v in ("no", "yes")]
    together = round(count * SHARE_OF_FIVE) if pools else 0
    each = max(1, (count - together) // len(values))
    single = [one_attribute(name, value, rng) for name, value in values for _ in range(each)]
    five = [five_attributes(records, pools, rng) for _ in range(together)]
    asked = [*single, *(one for one in five if one is not None)]
    return rng.sample(asked, min(count, len(asked)))


def having(records: Sequence[FaceRecord]) -> dict[Value, list[int]]:
    """Records with labels of five of the attributes or more, by each value that they have."""
    found: dict[Value, list[int]] = {}
    for row, record in enumerate(records):
        values = [(name, record.labels[name]) for name in ATTRIBUTES if name in record.labels]
        for value in values if len(values) >= 5 else ():
            found.setdefault(value, []).append(row)
    return found


def one_attribute(name: str, value: str, rng: random.Random) -> Asked:
    """A prompt for one value, of a man or a woman as the attribute is used of."""
    labels = {"Male": "yes" if name in OF_MEN else "no" if name in OF_WOMEN else rng.choice(("yes", "no"))}
    if value == "no" and name in (*COLORS, "Bald"):
        labels[rng.choice([color for color in COLORS if color != name])] = "yes"
    else:
        labels[name] = value
    return Asked("single", worded(labels, rng)[0], rng.randrange(2**31), {name: value})


def five_attributes(
    records: Sequence[FaceRecord], pools: Mapping[Value, Sequence[int]], rng: random.Random
) -> Asked | None:
    """A prompt for five values of a record, one of them drawn first, so that rare ones come too; None where none fits.

    Not every five can be said: hats hide bangs.
    """
    for _ in range(TRIES):
        first = rng.choice(sorted(pools))
        row = rng.choice(pools[first])
        labels = records[row].labels
        others = [name for name in ATTRIBUTES if name in labels and name != first[0]]
        names = [first[0], *chosen_names(labels, others, rng, 4, EAGER)]
        chosen = {name: labels[name] for name in names}
        text, all_said = worded(chosen, rng, ("medium",))
        if all_said:
            return Asked("five", text, rng.randrange(2**31), chosen, row)
    return None


# --- Reading the pictures ----------------------------------------------------------------------------------

Values = Mapping[str, str]  # attribute -> yes or no


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
    pairs = {kind: [(a.wanted, s) for a, s in zip(asked, seen) if a.kind == kind] for kind in ("single", "five")}
    result: dict[str, Any] = {
        "n": len(asked),
        "single": summary(pairs["single"], ATTRIBUTES, generator),
        "small": summary(pairs["single"], SMALL, generator),
        "five": summary(pairs["five"], ATTRIBUTES, generator) | all_right(pairs["five"], generator),
    }
    if photos is not None and len(photos):
        found = read(photos, reader)
        result["photos"] = summary([(r.labels, s) for r, s in zip(records, found)], ATTRIBUTES + SMALL, generator)
        result["photos"] |= all_right([(a.wanted, found[a.record]) for a in asked if a.kind == "five"], generator)
    return result


def read(images: Tensor, reader: Reader, batch_size: int = 64) -> list[dict[str, str]]:
    """What the judge sees in each picture: attribute -> yes or no."""
    found: list[dict[str, str]] = []
    for part in images.split(batch_size):
        chances = {name: values.argmax(1).tolist() for name, values in reader(as_signed(part)).items()}
        found += [{name: ("no", "yes")[rows[n]] for name, rows in chances.items()} for n in range(len(part))]
    return found


def summary(pairs: Sequence[tuple[Values, Values]], names: Sequence[str], generator: torch.Generator) -> dict[str, Any]:
    """Balanced accuracy of each attribute of which both values were asked for, and their mean.

    Pairs are (wanted, seen), one a picture.
    """
    there, hits = tallies(pairs, names)
    counts = there.sum(0)  # (names, 2)
    recall = hits.sum(0) / counts
    enough = counts.min(1).values > 0
    scores = recall.mean(1)
    table = {
        name: {
            **({"balanced_accuracy": rounded(float(scores[i]))} if enough[i] else {}),
            **{f"recall_{value}": rounded(float(recall[i, j])) for j, value in enumerate(("no", "yes"))},
            **{f"n_{value}": int(counts[i, j]) for j, value in enumerate(("no", "yes"))},
        }
        for i, name in enumerate(names)
    }
    return {
        "n": len(pairs),
        "mean_balanced_accuracy": rounded(float(scores[enough].mean())) if enough.any() else None,
        "interval": resampled(there[:, enough], hits[:, enough], generator) if enough.any() else [None, None],
        "attributes": int(enough.sum()),
        "by_attribute": table,
    }


def tallies(pairs: Sequence[tuple[Values, Values]], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(n, names, 2) in float64: whether no or yes was wanted of each picture, and whether it is seen as wanted."""
    there = torch.zeros(len(pairs), len(names), 2, dtype=torch.float64)
    hits = torch.zeros_like(there)
    for row, (wanted, seen) in enumerate(pairs):
        for column, name in enumerate(names):
            if name in wanted:
                value = int(wanted[name] == "yes")
                there[row, column, value] = 1
                hits[row, column, value] = float(seen.get(name) == wanted[name])
    return there, hits


def resampled(there: Tensor, hits: Tensor, generator: torch.Generator, draws: int = 1000) -> list[float | None]:
    """95% interval of the mean balanced accuracy under resampling of the pictures; tables as of `tallies`."""
    n = len(there)
    chosen = torch.randint(n, (draws, n), generator=generator)
    weights = torch.zeros(draws, n, dtype=torch.float64).scatter_add_(1, chosen, torch.ones(draws, n).double())
    above, below = weights @ hits.flatten(1), weights @ there.flatten(1)
    return [rounded(value) for value in percentile_interval((above / below).nanmean(1), 0.95)]


def all_right(pairs: Sequence[tuple[Values, Values]], generator: torch.Generator) -> dict[str, Any]:
    """Share of the pictures that show all that was wanted, with its interval; nothing for no pictures."""
    if not pairs:
        return {}
    right = torch.tensor([float(wanted.items() <= seen.items()) for wanted, seen in pairs])
    interval = ratio_interval(right, torch.ones_like(right), generator)
    return {"all_five": rounded(float(right.mean())), "all_five_interval": [rounded(value) for value in interval]}
