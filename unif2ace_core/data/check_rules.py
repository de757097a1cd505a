"""Labels that cannot all be true of one face, as data: "bald" with "blond hair", a bearded child, a young senior.

Only what excludes each other is here; exclusions.py, which limits what a model may fill in, is stricter. Neighbouring
hair colours (brown and blond, blond and gray), a receding hairline on a bald head, stubble without a beard or a smile
in surprise do happen, and are no contradictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unif2ace_core.data.attributes import AGE_GROUPS, age_group, derive

_BEARD = "No_Beard=no|Goatee=yes|Mustache=yes|Sideburns=yes|5_o_Clock_Shadow=yes"
_COLORS = "Black_Hair=yes|Brown_Hair=yes|Blond_Hair=yes|Gray_Hair=yes"
_NO_HAIR = f"{_COLORS}|Wavy_Hair=yes|Straight_Hair=yes|Bangs=yes"

# A label, and those that are false where it is true.
_PAIRS: tuple[tuple[str, str], ...] = (
    ("Bald=yes", _NO_HAIR),
    ("Hair_Color=bald", f"Bald=no|{_NO_HAIR}"),
    ("Hair_Color=black", "Black_Hair=no|Blond_Hair=yes|Bald=yes"),
    ("Hair_Color=brown", "Brown_Hair=no|Bald=yes"),
    ("Hair_Color=blond", "Blond_Hair=no|Black_Hair=yes|Bald=yes"),
    ("Hair_Color=gray", "Gray_Hair=no|Bald=yes"),
    ("Hair_Color=red", "Bald=yes"),
    ("Black_Hair=yes", "Blond_Hair=yes"),
    ("Wavy_Hair=yes", "Straight_Hair=yes"),
    ("No_Beard=yes", "Goatee=yes|Mustache=yes"),
    ("Male=no", _BEARD),
    ("Age_Group=child", f"{_BEARD}|Gray_Hair=yes|Young=no"),
    ("Age_Group=teenager", "Young=no"),
    ("Age_Group=senior", "Young=yes"),
    ("Smiling=yes", "Emotion=neutral|Emotion=anger|Emotion=sadness|Emotion=disgust|Emotion=fear"),
    ("Smiling=no", "Emotion=happiness"),
    ("Skin_Tone=pale", "Pale_Skin=no"),
    ("Skin_Tone=rosy", "Rosy_Cheeks=no"),
    ("Skin_Tone=even", "Pale_Skin=yes|Rosy_Cheeks=yes"),
    ("Mouth_Action=closed", "Smiling=yes|Mouth_Slightly_Open=yes"),
    ("Mouth_Action=open", "Smiling=yes|Mouth_Slightly_Open=no"),
    ("Mouth_Action=closed smile", "Smiling=no|Mouth_Slightly_Open=yes"),
    ("Mouth_Action=open smile", "Smiling=no|Mouth_Slightly_Open=no"),
    ("Eyes=open", "Narrow_Eyes=yes"),
    ("Eyes=narrowed", "Narrow_Eyes=no"),
    ("Eyes=behind sunglasses", "Eyeglasses=no"),
)
# A label, and the ages in years (from, below) at which it is false. A child's age group says the same where it is
# known, so what both exclude is told once.
_AGES: tuple[tuple[str, float, float], ...] = (
    ("Young=no", 0.0, 26.0),
    ("Young=yes", 60.0, 999.0),
    *((label, 0.0, 13.0) for label in (*_BEARD.split("|"), "Gray_Hair=yes")),
)
_DERIVED = ("Hair_Color", "Skin_Tone", "Mouth_Action", "Eyes")


def _parts(label: str) -> tuple[str, str]:
    name, _, value = label.partition("=")
    return name, value


_EXCLUDED = tuple((*_parts(one), *_parts(other)) for one, others in _PAIRS for other in others.split("|"))
_AT_AGES = tuple((*_parts(label), low, high) for label, low, high in _AGES)


def contradictions(labels: Mapping[str, str], age: float | None) -> list[str]:
    """What contradicts what among the labels of a face and its age in years; nothing where all may be true."""
    found = [
        f"{name}={value} with {other}={excluded}"
        for name, value, other, excluded in _EXCLUDED
        if labels.get(name) == value and labels.get(other) == excluded
    ]
    found += _misderived(labels, found)
    return [*found, *_against_age(labels, age, found)] if age is not None else found


def _misderived(labels: Mapping[str, str], found: list[str]) -> list[str]:
    """Values that `derive` would not have made of the other labels, where the pairs found do not say so already."""
    full = derive({name: value for name, value in labels.items() if name not in _DERIVED})
    return [
        f"{name}={labels[name]} where the labels that it comes from say {full[name]}"
        for name in _DERIVED
        if name in labels
        and name in full
        and not _compatible(labels[name], full[name])
        and not any(f"{name}={labels[name]}" in each for each in found)
    ]


def _compatible(value: str, meant: str) -> bool:
    """Sunglasses hide eyes of any kind, and a face that is pale may be rosy too."""
    return value == meant or value == "behind sunglasses" or (value, meant) == ("rosy", "pale")


def _against_age(labels: Mapping[str, str], age: float, found: list[str]) -> Iterator[str]:
    """Labels that the age excludes, but for those that are in `found` beside an age group."""
    group = labels.get("Age_Group")
    if group in AGE_GROUPS and group != age_group(age):
        yield f"Age_Group={group} where the age says {age_group(age)}"
    for name, value, low, high in _AT_AGES:
        told = f"Age_Group={group} with {name}={value}" in found
        if labels.get(name) == value and low <= age < high and not told:
            yield f"{name}={value} {f'from {low:g}' if low else f'below {high:g}'} years"
