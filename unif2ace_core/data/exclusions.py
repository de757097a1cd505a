"""Which values of the 46 categories cannot both be said of one face: bald and brown hair, a beard on a child.

Labels of sources are sometimes like that, and are left as they are; what a model fills in must not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from unif2ace_core.data.attributes import AGE_GROUPS, EMOTIONS, SCHEMA
from unif2ace_core.data.facts import known

Pair = tuple[str, str]  # attribute, value

_HAIR_COLORS: tuple[Pair, ...] = tuple((f"{color}_Hair", "yes") for color in ("Black", "Brown", "Blond", "Gray"))
_BEARDS: tuple[Pair, ...] = tuple((n, "yes") for n in ("Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow"))
_MAKEUP: tuple[Pair, ...] = (("Heavy_Makeup", "yes"), ("Wearing_Lipstick", "yes"))
_MINORS: tuple[Pair, ...] = (("Age_Group", "child"), ("Age_Group", "teenager"))

# One value, and those that it excludes; beyond these, two values of one attribute, and what values mean (`known`).
_EXCLUDES: tuple[tuple[Pair, tuple[Pair, ...]], ...] = (
    *((color, tuple(other for other in _HAIR_COLORS if other != color)) for color in _HAIR_COLORS),
    (("Hair_Color", "red"), _HAIR_COLORS),
    (("Bald", "yes"), (*_HAIR_COLORS, ("Bangs", "yes"), ("Wavy_Hair", "yes"), ("Straight_Hair", "yes"))),
    (("Bald", "yes"), tuple(("Hair_Color", color) for color in ("black", "brown", "blond", "red", "gray"))),
    (("Wearing_Hat", "yes"), (("Bald", "yes"), ("Receding_Hairline", "yes"))),  # nobody sees that
    (("Straight_Hair", "yes"), (("Wavy_Hair", "yes"),)),
    *((who, (*_BEARDS, ("No_Beard", "no"))) for who in (("Male", "no"), *_MINORS)),
    *((who, _MAKEUP) for who in (("Male", "yes"), *_MINORS)),
    *((who, (("Gray_Hair", "yes"), ("Bald", "yes"), ("Receding_Hairline", "yes"))) for who in _MINORS),
    (("No_Beard", "yes"), _BEARDS),
    (("Young", "yes"), tuple(("Age_Group", group) for group in AGE_GROUPS[3:])),
    (("Young", "no"), tuple(("Age_Group", group) for group in AGE_GROUPS[:3])),
    (("Smiling", "yes"), tuple(("Emotion", name) for name in EMOTIONS if name != "happiness")),
    (("Smiling", "no"), (("Emotion", "happiness"),)),
    (("Eyes", "behind sunglasses"), (("Narrow_Eyes", "yes"), ("Bags_Under_Eyes", "yes"))),
    (("Eyeglasses", "yes"), (("Eyes", "open"), ("Eyes", "narrowed"))),
    (("Narrow_Eyes", "yes"), (("Eyes", "open"),)),
    (("Narrow_Eyes", "no"), (("Eyes", "narrowed"),)),
    (("Skin_Tone", "even"), (("Pale_Skin", "yes"), ("Rosy_Cheeks", "yes"))),
    (("Skin_Tone", "rosy"), (("Pale_Skin", "yes"),)),
    (("Skin_Tone", "pale"), (("Rosy_Cheeks", "yes"),)),
)


@cache
def excluded() -> Mapping[Pair, frozenset[Pair]]:
    """Every value -> the values that contradict it, other values of its own attribute among them."""
    direct = {frozenset((one, other)) for one, others in _EXCLUDES for other in others}
    pairs = [(attribute.name, value) for attribute in SCHEMA for value in attribute.values]
    meant = {pair: tuple(known(dict([pair])).items()) for pair in pairs}

    def clash(one: Pair, other: Pair) -> bool:
        return (one[0] == other[0] and one[1] != other[1]) or frozenset((one, other)) in direct

    return {
        pair: frozenset(other for other in pairs if any(clash(a, b) for a in meant[pair] for b in meant[other]))
        for pair in pairs
    }


def fits(name: str, value: str, pairs: Iterable[Pair]) -> bool:
    """Whether a value contradicts none of the others."""
    return excluded()[name, value].isdisjoint(pairs)


def contradictions(labels: Mapping[str, str]) -> list[tuple[Pair, Pair]]:
    """Pairs of labels that contradict each other."""
    pairs = list(labels.items())
    return [(one, other) for place, one in enumerate(pairs) for other in pairs[place + 1 :] if other in excluded()[one]]
