"""The wording of attributes as data: how each known value is said in a caption.

A phrase has a slot, its place in a sentence:

    adj      before the noun, or after "is"      smiling, bald, clean-shaven
    color    colour of the hair                  blond     } joined: "wavy blond hair"
    texture  texture of the hair                 wavy      }
    with     what the face has                   a goatee, rosy cheeks
    wear     what it wears; also with "with"     glasses, a hat
    is       after the noun or "is"              looking up, not smiling
    without  what it does not wear               glasses -> "no glasses", "without glasses"

`weight` is how eagerly a short caption picks the phrase: 1 / sqrt(share of faces that have it), lower
for matters of taste and for absences.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """Ways to say one value of one attribute, plain one first; `tags` are for tag lists only."""

    slot: str
    texts: tuple[str, ...]
    weight: float
    tags: tuple[str, ...] = ()


def _seen(slot: str, texts: str, share: float, tags: str = "", taste: float = 1.0) -> Phrase:
    return Phrase(slot, tuple(texts.split("|")), taste * share**-0.5, tuple(tags.split("|")) if tags else ())


def _absent(slot: str, texts: str, tags: str = "", weight: float = 0.3) -> Phrase:
    return Phrase(slot, tuple(texts.split("|")), weight, tuple(tags.split("|")) if tags else ())


_TASTE = 0.5

PHRASES: dict[str, dict[str, Phrase]] = {
    # hair
    "Black_Hair": {"yes": _seen("color", "black|black|dark", 0.22)},
    "Blond_Hair": {"yes": _seen("color", "blond|blond|blonde", 0.17)},
    "Brown_Hair": {"yes": _seen("color", "brown", 0.23, tags="brown hair|brunette")},
    "Gray_Hair": {"yes": _seen("color", "gray|grey", 0.045)},
    "Hair_Color": {"red": _seen("color", "red", 0.02, tags="redhead|ginger hair")},
    "Wavy_Hair": {"yes": _seen("texture", "wavy", 0.36, taste=0.8)},
    "Straight_Hair": {"yes": _seen("texture", "straight", 0.22, taste=0.7)},
    "Bald": {"yes": _seen("adj", "bald", 0.024, tags="bald head|no hair|bald")},
    "Bangs": {
        "yes": _seen("with", "bangs|bangs|a fringe", 0.18),
        "no": _absent("without", "bangs", weight=0.06),
    },
    "Receding_Hairline": {"yes": _seen("with", "a receding hairline", 0.085, taste=0.7)},
    # beard
    "5_o_Clock_Shadow": {"yes": _seen("with", "stubble|a five o'clock shadow|light stubble|5 o'clock shadow", 0.15)},
    "Goatee": {"yes": _seen("with", "a goatee|a goatee|a goatee beard", 0.075)},
    "Mustache": {"yes": _seen("with", "a mustache|a mustache|a moustache", 0.057)},
    "Sideburns": {"yes": _seen("with", "sideburns", 0.08)},
    "No_Beard": {
        "no": _seen("with", "a beard", 0.12, tags="beard|bearded|facial hair"),
        "yes": _absent("adj", "clean-shaven", tags="no beard|clean-shaven|clean shaven|without a beard", weight=0.9),
    },
    # features
    "Arched_Eyebrows": {"yes": _seen("with", "arched eyebrows|arched brows", 0.37, taste=_TASTE)},
    "Bushy_Eyebrows": {"yes": _seen("with", "bushy eyebrows|thick eyebrows", 0.19, taste=0.7)},
    "Bags_Under_Eyes": {"yes": _seen("with", "bags under the eyes|eye bags", 0.29, taste=_TASTE)},
    "Narrow_Eyes": {"yes": _seen("with", "narrow eyes", 0.12, taste=_TASTE)},
    "Big_Lips": {"yes": _seen("with", "full lips|big lips", 0.36, taste=_TASTE)},
    "Big_Nose": {"yes": _seen("with", "a big nose|a large nose", 0.32, taste=_TASTE)},
    "Pointy_Nose": {"yes": _seen("with", "a pointy nose|a pointed nose", 0.32, taste=_TASTE)},
    "Oval_Face": {"yes": _seen("with", "an oval face", 0.21, taste=_TASTE)},
    "High_Cheekbones": {"yes": _seen("with", "high cheekbones", 0.46, taste=_TASTE)},
    "Chubby": {"yes": _seen("with", "a chubby face|chubby cheeks|a plump face", 0.07, taste=0.7, tags="chubby")},
    "Double_Chin": {"yes": _seen("with", "a double chin", 0.06, taste=0.7)},
    "Pale_Skin": {"yes": _seen("with", "pale skin|pale skin|fair skin", 0.05, taste=0.8)},
    "Rosy_Cheeks": {
        "yes": _seen("with", "rosy cheeks|rosy cheeks|flushed cheeks|pink cheeks", 0.11, taste=1.2),
        "no": _absent("without", "rosy cheeks", weight=0.04),
    },
    "Blurry": {"yes": _seen("is", "slightly out of focus", 0.5, tags="blurry")},
    # worn
    "Eyeglasses": {
        "yes": _seen("wear", "glasses|glasses|eyeglasses|spectacles", 0.05),
        "no": _absent("without", "glasses|eyeglasses", weight=0.3),
    },
    "Wearing_Hat": {
        "yes": _seen("wear", "a hat|a hat|a hat|a cap", 0.035),
        "no": _absent("without", "a hat", weight=0.25),
    },
    "Wearing_Earrings": {
        "yes": _seen("wear", "earrings|earrings|hoop earrings|dangling earrings", 0.2),
        "no": _absent("without", "earrings", weight=0.2),
    },
    "Wearing_Necklace": {
        "yes": _seen("wear", "a necklace", 0.17),
        "no": _absent("without", "a necklace", weight=0.08),
    },
    "Wearing_Necktie": {
        "yes": _seen("wear", "a necktie|a tie|a tie", 0.073, tags="suit and tie|tie|necktie"),
        "no": _absent("without", "a tie", weight=0.06),
    },
    "Wearing_Lipstick": {
        "yes": _seen("wear", "lipstick", 0.5, taste=0.8),
        "no": _absent("without", "lipstick", weight=0.2),
    },
    "Heavy_Makeup": {
        "yes": _seen("wear", "heavy makeup|makeup|a lot of makeup", 0.46, taste=0.8),
        "no": _absent("without", "makeup", weight=0.35),
    },
    # action
    "Smiling": {
        "yes": _seen("adj", "smiling", 0.47, tags="smiling|smile|a smile"),
        "no": _absent("is", "not smiling|not smiling|unsmiling", tags="not smiling|no smile|serious", weight=0.45),
    },
    "Mouth_Slightly_Open": {
        "yes": _seen(
            "with",
            "an open mouth|a slightly open mouth|parted lips",
            0.47,
            taste=0.6,
            tags="mouth open|mouth slightly open|open mouth",
        ),
        "no": _absent("with", "a closed mouth|closed lips", weight=0.2),
    },
    "Head_Pose": {
        "facing forward": _absent("is", "facing the camera|facing forward|looking straight ahead", weight=0.25),
        "turned to the side": _seen(
            "is",
            "turned to the side|looking to the side",
            0.15,
            tags="side view|head turned|looking to the side",
        ),
        "tilted up": _seen("is", "looking up", 0.2),
        "tilted down": _seen("is", "looking down", 0.2),
    },
    "Emotion": {
        "neutral": _seen(
            "with",
            "a neutral expression|a serious expression|a neutral face",
            0.5,
            tags="neutral expression|serious|neutral",
        ),
        "happiness": _seen("adj", "happy|happy|cheerful|joyful", 0.45, tags="happy|happiness|happy expression"),
        "surprise": _seen("adj", "surprised", 0.03, tags="surprised|surprise|surprised expression"),
        "anger": _seen("adj", "angry", 0.02, tags="angry|anger|angry expression"),
        "sadness": _seen("adj", "sad", 0.02, tags="sad|sadness|sad expression"),
        "contempt": _seen("adj", "contemptuous", 0.05),
        "disgust": _seen("adj", "disgusted", 0.05),
        "fear": _seen("adj", "frightened|scared", 0.05),
    },
}

# Age words before the noun: (word, how often). "" leaves the age unsaid.
AGE_WORDS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "child": (("", "little", "young"), (60, 20, 20)),
    "teenager": (("teenage", "young"), (70, 30)),
    "young adult": (("young", ""), (55, 45)),
    "middle-aged": (("middle-aged", ""), (60, 40)),
    "senior": (("old", "elderly", "senior", "older", ""), (40, 25, 10, 15, 10)),
    "Young": (("young", ""), (45, 55)),
    "not Young": (("older", "old", "middle-aged", ""), (30, 30, 15, 25)),
    "": (("",), (1,)),
}

_MAN = ("man", "guy", "gentleman", "male")
_WOMAN = ("woman", "lady", "female")
_PERSON = ("person", "face", "human face")
# Nouns by (adult or not, value of Male).
NOUNS: dict[tuple[bool, str], tuple[tuple[str, ...], tuple[int, ...]]] = {
    (True, "yes"): (_MAN, (82, 6, 5, 7)),
    (True, "no"): (_WOMAN, (82, 9, 9)),
    (True, ""): (_PERSON, (60, 30, 10)),
    (False, "yes"): (("boy", "child"), (85, 15)),
    (False, "no"): (("girl", "child"), (85, 15)),
    (False, ""): (("child", "kid"), (85, 15)),
}

PREFIXES: tuple[tuple[str, ...], tuple[int, ...]] = (
    ("", "portrait of ", "a portrait of ", "photo of ", "a photo of ", "face of ", "close-up of "),
    (62, 12, 5, 7, 8, 4, 2),
)
