"""Reading short answers back into values, for evaluation: yes or no, an age, a value of the schema.

The readers take any text, also what an untrained model says, and give `None` where they can't tell.
"""

from __future__ import annotations

import re

from unif2ace_core.data.attributes import BY_NAME, age_group
from unif2ace_core.data.wordings import ASKED
from unif2ace_core.errors import UserError

_WORD = re.compile(r"[a-z0-9'-]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NEGATED = re.compile(r"\b(?:not|isn't|doesn't look|no)\s+(?:a\s+|an\s+|wearing\s+|very\s+)?[a-z-]+")
_YES = frozenset({"yes", "yeah", "yep", "yup", "true", "correct", "sure"})
_NO = frozenset({"no", "nope", "not", "false", "none", "nothing", "without"})
_DENIALS = frozenset({"not", "no", "isn't", "doesn't", "without", "never", "aren't"})

# Words of an answer that tell a value; the first that occurs decides.
_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "Emotion": (
        ("happ", "happiness"), ("joy", "happiness"), ("cheerful", "happiness"), ("smil", "happiness"),
        ("neutral", "neutral"), ("serious", "neutral"), ("calm", "neutral"), ("surpris", "surprise"),
        ("angry", "anger"), ("anger", "anger"), ("sad", "sadness"), ("contempt", "contempt"),
        ("disgust", "disgust"), ("afraid", "fear"), ("fear", "fear"), ("scared", "fear"),
        ("frighten", "fear"),
    ),
    "Hair_Color": (
        ("black", "black"), ("brown", "brown"), ("brunette", "brown"), ("blond", "blond"), ("red", "red"),
        ("ginger", "red"), ("gray", "gray"), ("grey", "gray"), ("white", "gray"), ("bald", "bald"),
        ("dark", "black"),
    ),
    "Age_Group": (
        ("child", "child"), ("baby", "child"), ("kid", "child"), ("teen", "teenager"),
        ("young", "young adult"),
        ("middle", "middle-aged"), ("senior", "senior"), ("elderly", "senior"), ("old", "senior"),
    ),
    "Head_Pose": (
        ("side", "turned to the side"), ("turned", "turned to the side"), ("up", "tilted up"),
        ("down", "tilted down"), ("forward", "facing forward"), ("camera", "facing forward"),
        ("straight", "facing forward"),
    ),
    "Eyes": (("sunglasses", "behind sunglasses"), ("narrow", "narrowed"), ("open", "open")),
    "Skin_Tone": (("pale", "pale"), ("rosy", "rosy"), ("even", "even")),
}  # fmt: skip
_GROUP_AGES = {"child": 6.0, "teenager": 16.0, "young adult": 28.0, "middle-aged": 48.0, "senior": 68.0}


def read_yes_no(answer: str) -> bool | None:
    """True for yes, False for no, by the first word, else by a denial in the sentence; `None` for neither."""
    words = _WORD.findall(answer.lower())
    if not words:
        return None
    if words[0] in _YES:
        return True
    if words[0] in _NO or any(word in _DENIALS for word in words):
        return False
    return True if any(word in _YES for word in words) else None


def read_age(answer: str) -> float | None:
    """Years: the first number, the middle of "20-30" style ranges, else the middle of a named age group."""
    numbers = [float(text) for text in _NUMBER.findall(answer)]
    if numbers:
        span = re.search(r"(\d+)\s*(?:-|to|and|–)\s*(\d+)", answer)
        years = (float(span[1]) + float(span[2])) / 2 if span else numbers[0]
        return years if years <= 130 else None
    group = _first("Age_Group", answer.lower())
    return _GROUP_AGES[group] if group else None


def read_value(attribute: str, answer: str) -> str | None:
    """The value of `attribute` that the answer states, or `None`. Raises `UserError` for an unknown name."""
    if attribute not in BY_NAME:
        raise UserError(f"no attribute {attribute!r} in the schema; see unif2ace_core.data.attributes.SCHEMA")
    text = answer.lower()
    if attribute in _STATED:
        return _STATED[attribute](text)
    if attribute == "Mouth_Action":
        return _mouth(text)
    if attribute in _WORDS:
        if attribute == "Age_Group" and (number := _NUMBER.search(text)):
            return age_group(float(number[0]))
        return _first(attribute, _NEGATED.sub(" ", text))
    return _plain(text) or _stated(attribute, text)


def _first(attribute: str, text: str) -> str | None:
    """The value whose word comes first in the text."""
    words = _WORD.findall(text)
    found = [
        (place, value)
        for place, word in enumerate(words)
        for stem, value in _WORDS[attribute]
        if (word.startswith(stem) if len(stem) > 2 else word == stem)
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _plain(text: str) -> str | None:
    verdict = read_yes_no(text)
    return None if verdict is None else "yes" if verdict else "no"


def _stated(attribute: str, text: str) -> str | None:
    """ "yes" where the sentence names what the attribute is about: "He is wearing a hat."."""
    asked = ASKED[attribute]
    words = {term.split()[-1] for term in (*asked.terms, asked.yes)}
    return "yes" if words & set(_WORD.findall(text)) else None


def _mouth(text: str) -> str | None:
    smile = "smil" in text and "not smil" not in text
    opened = "open" in text
    if not smile and not opened and "closed" not in text:
        return None
    return ("open" if opened else "closed") + (" smile" if smile else "")


def _male(text: str) -> str | None:
    words = set(_WORD.findall(_NEGATED.sub(" ", text.removeprefix("no,"))))
    if words & {"woman", "female", "lady", "girl"}:
        return "no"
    return "yes" if words & {"man", "male", "guy", "boy", "gentleman"} else _plain(text)


_SHAVEN = ("no beard", "clean-shaven", "clean shaven", "not have a beard", "no facial hair")


def _no_beard(text: str) -> str | None:
    body = text.removeprefix("no,").removeprefix("yes,")
    if any(part in body for part in _SHAVEN):
        return "yes"
    if any(part in body for part in ("beard", "goatee", "mustache", "moustache")):
        return "no"
    return _plain(text)


def _young(text: str) -> str | None:
    if "not young" in text or " old" in text or "elderly" in text:
        return "no"
    return "yes" if "young" in text or "not old" in text else _plain(text)


def _mouth_open(text: str) -> str | None:
    if "closed" in text or "not open" in text:
        return "no"
    return "yes" if "open" in text else _plain(text)


def _smiling(text: str) -> str | None:
    if "not smil" in text or "serious" in text:
        return "no"
    return "yes" if "smil" in text and not text.startswith("no") else _plain(text)


# Attributes whose answers state the value, so that the same reader serves questions of both polarities.
_STATED = {
    "Male": _male,
    "No_Beard": _no_beard,
    "Young": _young,
    "Mouth_Slightly_Open": _mouth_open,
    "Smiling": _smiling,
}
