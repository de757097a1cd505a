"""Suite `descriptions`: is what `describe` says of held-out photos true, and how much of the visible does it say?

    photo -> describe -> text -> data/parse.py -> attribute: value, against labels by people

A text names an attribute when the reader of captions finds a value of it, stated or denied ("not smiling"), and
no other value. Attributes whose values follow from others (`DERIVED`: hair colour from brown hair) would count twice
and are left out, and with them red hair, which nothing else tells.

    named        attributes named in a description, labelled or not
    precision    of the named values whose attribute is labelled: the share that equals the label, yes or no
    recall       of the attributes of `VISIBLE_30` labelled present: the share that the text names as present;
                 present is "yes", of `No_Beard` it is "no": a beard, which its kind names too (`BEARDS`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unif2ace_core.data.attributes import BY_NAME, VISIBLE_30
from unif2ace_core.data.parse import parse
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.metrics import bootstrap_interval, ratio_interval, rounded

if TYPE_CHECKING:
    from PIL import Image

Describe = Callable[[Sequence["Image.Image"]], Iterable[str]]
Labels = Mapping[str, str]

COUNT = 200  # photos where nothing else is said
SOURCES = ("celebahq",)  # labelled by people
BEARDS = ("Goatee", "5_o_Clock_Shadow")  # texts that name one of these do not say "a beard" as well
DERIVED = frozenset({"Hair_Color", "Skin_Tone", "Mouth_Action", "Eyes"})


def describe_all(
    photos: Sequence[Image.Image],
    describe: Describe,
    chunk: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The description of each photo, `chunk` at a time."""
    texts: list[str] = []
    for start in range(0, len(photos), chunk):
        texts += describe(photos[start : start + chunk])
        if on_progress:
            on_progress(len(texts), len(photos))
    return texts


def named(text: str) -> dict[str, str]:
    """attribute -> value of what a description names."""
    return {name: value for name, value in parse(text).items() if name not in DERIVED}


def present(name: str) -> str:
    """The value of a visible attribute that says that something is there to see."""
    return "no" if name == "No_Beard" else "yes"


def report(records: Sequence[FaceRecord], texts: Sequence[str], generator: torch.Generator) -> dict[str, Any]:
    """The suite's metrics with 95% intervals, for which descriptions are resampled as wholes."""
    pairs = [(record.labels, named(text)) for record, text in zip(records, texts, strict=True)]
    sizes = torch.tensor([float(len(said)) for _, said in pairs])
    result: dict[str, Any] = {
        "n": len(pairs),
        "named": rounded(float(sizes.mean())),
        "named_interval": [rounded(value) for value in bootstrap_interval([sizes], generator)],
        "naming_nothing": int((sizes == 0).sum()),
    }
    attributes = tuple(BY_NAME)
    for metric, count in (("precision", _true_of_named), ("recall", _named_of_present)):
        hits, of = _table(pairs, attributes, count)
        result[metric] = _share(hits.sum(), of.sum())
        result[f"{metric}_interval"] = [rounded(v) for v in ratio_interval(hits.sum(1), of.sum(1), generator)]
        result[f"{metric}_n"] = int(of.sum())
    result["by_attribute"] = _by_attribute(pairs, attributes)
    return result


def _true_of_named(name: str, labels: Labels, said: Labels) -> tuple[bool, bool]:
    """Whether the attribute counts for the precision, and whether it is a hit."""
    return name in said and name in labels, name in said and said[name] == labels.get(name)


def _named_of_present(name: str, labels: Labels, said: Labels) -> tuple[bool, bool]:
    """The same for the recall."""
    there = name in VISIBLE_30 and labels.get(name) == present(name)
    kinds = BEARDS if name == "No_Beard" else ()
    return there, there and (said.get(name) == present(name) or any(said.get(kind) == "yes" for kind in kinds))


def _table(
    pairs: Sequence[tuple[Labels, Labels]],
    attributes: Sequence[str],
    count: Callable[[str, Labels, Labels], tuple[bool, bool]],
) -> tuple[Tensor, Tensor]:
    """Hits, and what could have been one: (descriptions, attributes) of 0 and 1 each."""
    cells = torch.tensor([[count(name, *pair) for name in attributes] for pair in pairs], dtype=torch.float64)
    return cells[..., 1], cells[..., 0]


def _share(hits: Tensor, of: Tensor) -> float | None:
    return rounded(float(hits / of)) if of else None


def _by_attribute(pairs: Sequence[tuple[Labels, Labels]], attributes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision and recall of each attribute that is named or could be, beside what they are shares of."""
    right, said = (part.sum(0) for part in _table(pairs, attributes, _true_of_named))
    found, there = (part.sum(0) for part in _table(pairs, attributes, _named_of_present))
    return {
        name: {
            "precision": _share(right[i], said[i]),
            "n_named": int(said[i]),
            "recall": _share(found[i], there[i]),
            "n_present": int(there[i]),
        }
        for i, name in enumerate(attributes)
        if said[i] or there[i]
    }
