"""The 46 visible face categories (paper section 3.1): appearance, emotion and action.

The 40 CelebA names minus `Attractive` (a judgement, not an attribute) are binary with values
("no", "yes"); seven more have named values. An attribute without a label is unknown and absent,
never "no". Ethnicity is left out on purpose; `Skin_Tone` speaks of complexion only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal["appearance", "emotion", "action"]


@dataclass(frozen=True)
class Attribute:
    """One category of the schema; `visible` marks those that people agree on when they look."""

    name: str
    family: Family
    values: tuple[str, ...]
    visible: bool

    @property
    def binary(self) -> bool:
        """Whether the values are plain no and yes."""
        return self.values == NO_YES


NO_YES = ("no", "yes")

# The 20 well visible binary attributes that the evaluation asks about.
VISIBLE_20: tuple[str, ...] = (
    "Male", "Young", "Smiling", "Mouth_Slightly_Open", "Eyeglasses",
    "Wearing_Hat", "Wearing_Earrings", "Wearing_Necktie", "Wearing_Lipstick", "Heavy_Makeup",
    "Black_Hair", "Blond_Hair", "Gray_Hair", "Bald", "Bangs",
    "No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow",
)  # fmt: skip
# Ten more that a look at the photo decides, for a wider figure. Left out is what is a matter of taste or degree
# (noses, lips, eyes, Oval_Face, Chubby), of the light (Pale_Skin), of the photo (Blurry), and High_Cheekbones,
# whose label mostly follows the smile. `Attribute.visible`, which captions go by, is narrower.
FURTHER_10: tuple[str, ...] = (
    "Brown_Hair", "Wavy_Hair", "Straight_Hair", "Receding_Hairline", "Arched_Eyebrows",
    "Bushy_Eyebrows", "Bags_Under_Eyes", "Double_Chin", "Rosy_Cheeks", "Wearing_Necklace",
)  # fmt: skip
VISIBLE_30: tuple[str, ...] = (*VISIBLE_20, *FURTHER_10)

_CELEBA: tuple[str, ...] = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry",
    "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male",
    "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face",
    "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
_ACTIONS = frozenset({"Smiling", "Mouth_Slightly_Open"})
# Visible enough to be trusted in captions, beyond the 20 of the evaluation.
_ALSO_VISIBLE = frozenset({"Brown_Hair", "Wavy_Hair", "Straight_Hair", "Rosy_Cheeks", "Wearing_Necklace"})

AGE_GROUPS = ("child", "teenager", "young adult", "middle-aged", "senior")
EMOTIONS = ("neutral", "happiness", "surprise", "anger", "sadness", "contempt", "disgust", "fear")
HAIR_COLORS = ("black", "brown", "blond", "red", "gray", "bald")
# Horizontal flips must not change a label, so a turned head has no side.
HEAD_POSES = ("facing forward", "turned to the side", "tilted up", "tilted down")
EYES = ("open", "narrowed", "behind sunglasses")
SKIN_TONES = ("even", "pale", "rosy")
MOUTH_ACTIONS = ("closed", "open", "closed smile", "open smile")


def _celeba(name: str) -> Attribute:
    family: Family = "action" if name in _ACTIONS else "appearance"
    return Attribute(name, family, NO_YES, name in VISIBLE_20 or name in _ALSO_VISIBLE)


SCHEMA: tuple[Attribute, ...] = (
    *(_celeba(name) for name in _CELEBA),
    Attribute("Age_Group", "appearance", AGE_GROUPS, True),
    Attribute("Hair_Color", "appearance", HAIR_COLORS, True),
    Attribute("Skin_Tone", "appearance", SKIN_TONES, False),
    Attribute("Emotion", "emotion", EMOTIONS, True),
    Attribute("Head_Pose", "action", HEAD_POSES, True),
    Attribute("Eyes", "action", EYES, False),
    Attribute("Mouth_Action", "action", MOUTH_ACTIONS, True),
)

BY_NAME: dict[str, Attribute] = {attribute.name: attribute for attribute in SCHEMA}
BINARY: tuple[str, ...] = _CELEBA


def age_group(age: float) -> str:
    """The age group of an age in years."""
    limits = ((13.0, "child"), (20.0, "teenager"), (36.0, "young adult"), (60.0, "middle-aged"))
    return next((group for limit, group in limits if age < limit), "senior")


def derive(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels completed with what they imply: hair colour, complexion, mouth action. Adds, never changes."""
    full = dict(labels)
    for name, value in (
        ("Hair_Color", _hair_color(labels)),
        ("Skin_Tone", _skin_tone(labels)),
        ("Mouth_Action", _mouth_action(labels)),
        ("Eyes", _eyes(labels)),
    ):
        if value is not None:
            full.setdefault(name, value)
    return full


_COLOR_OF = {
    "Black_Hair": "black",
    "Brown_Hair": "brown",
    "Blond_Hair": "blond",
    "Gray_Hair": "gray",
    "Bald": "bald",
}


def _hair_color(labels: Mapping[str, str]) -> str | None:
    """The one colour that is marked yes; two colours are no answer."""
    found = [color for name, color in _COLOR_OF.items() if labels.get(name) == "yes"]
    return found[0] if len(found) == 1 else None


def _skin_tone(labels: Mapping[str, str]) -> str | None:
    pale, rosy = labels.get("Pale_Skin"), labels.get("Rosy_Cheeks")
    if pale == "yes":
        return "pale"
    if rosy == "yes":
        return "rosy"
    return "even" if pale == "no" and rosy == "no" else None


def _mouth_action(labels: Mapping[str, str]) -> str | None:
    smiling, opened = labels.get("Smiling"), labels.get("Mouth_Slightly_Open")
    if smiling is None or opened is None:
        return None
    if smiling == "yes":
        return "open smile" if opened == "yes" else "closed smile"
    return "open" if opened == "yes" else "closed"


def _eyes(labels: Mapping[str, str]) -> str | None:
    """Narrowed or open, where no glasses hide them; sunglasses are told apart by the sources that know."""
    narrow = labels.get("Narrow_Eyes")
    if narrow is None or labels.get("Eyeglasses") != "no":
        return None
    return "narrowed" if narrow == "yes" else "open"
