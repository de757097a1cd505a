"""Reads the short sentences of a question set into claims: what of the face a text states, denies or mentions.

    "No, she is not smiling, but she is wearing glasses."
        -> Smiling=yes denied; Eyeglasses=yes stated

It knows words, not the templates that the texts were made from. Some words have several readings ("black" is
Black_Hair=yes or Hair_Color=black): the attributes asked about decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Claim:
    """What a text says: one of the readings `facts` (the attributes asked decide which), stated or denied."""

    facts: tuple[Facts, ...]
    stated: bool

    def reading(self, declared: Iterable[str]) -> Facts | None:
        """The first reading that speaks of the declared attributes only."""
        allowed = (*declared, *INFERRED)
        return next((facts for facts in self.facts if all(name in allowed for name, _ in facts)), None)


# --- Words ---------------------------------------------------------------------------------------------

# Pattern -> readings, "A=v B=w | C=u"; the first pattern that matches a stretch of text takes it.
_LEXICON: tuple[tuple[str, str], ...] = (
    (r"smiling with the mouth open|open smile", "Mouth_Action=open smile | Smiling=yes & Mouth_Slightly_Open=yes"),
    (r"smiling with the mouth closed|closed smile",
     "Mouth_Action=closed smile | Smiling=yes & Mouth_Slightly_Open=no"),
    (r"(?:is|are|be) (?:wearing|behind) sunglasses|behind sunglasses", "Eyes=behind sunglasses"),
    (r"clean-shaven|beardless|without a beard|free of a beard|no beard", "No_Beard=yes"),
    (r"beard stubble|stubble|(?:five|5) o'clock shadow", "5_o_Clock_Shadow=yes"),
    (r"goatee", "Goatee=yes"), (r"moustache|mustache", "Mustache=yes"), (r"sideburns", "Sideburns=yes"),
    (r"bearded|beard", "No_Beard=no"),
    (r"no hair|bald", "Bald=yes | Hair_Color=bald"),
    (r"eyeglasses|spectacles|glasses", "Eyeglasses=yes"), (r"hat", "Wearing_Hat=yes"),
    (r"earrings?", "Wearing_Earrings=yes"), (r"necklace", "Wearing_Necklace=yes"),
    (r"necktie|tie", "Wearing_Necktie=yes"), (r"lipstick", "Wearing_Lipstick=yes"),
    (r"heavy (?:makeup|make-up)", "Heavy_Makeup=yes"), (r"bangs|fringe", "Bangs=yes"),
    (r"receding hairline|hairline receding", "Receding_Hairline=yes"),
    (r"bags under the eyes|eye bags", "Bags_Under_Eyes=yes"),
    (r"(?:arched|eyebrows arched) (?:eyebrows|brows)|arched", "Arched_Eyebrows=yes"),
    (r"(?:bushy|thick) eyebrows|bushy", "Bushy_Eyebrows=yes"),
    (r"narrowed|narrow", "Narrow_Eyes=yes | Eyes=narrowed"),
    (r"(?:full|big) lips|lips full", "Big_Lips=yes"), (r"big|large", "Big_Nose=yes"),
    (r"pointy|pointed", "Pointy_Nose=yes"), (r"oval", "Oval_Face=yes"),
    (r"high cheekbones|cheekbones high", "High_Cheekbones=yes"), (r"chubby", "Chubby=yes"),
    (r"double chin", "Double_Chin=yes"), (r"pale|fair skin", "Pale_Skin=yes | Skin_Tone=pale"),
    (r"(?:rosy|flushed|pink) cheeks|rosy|flushed|pink", "Rosy_Cheeks=yes | Skin_Tone=rosy"),
    (r"even", "Skin_Tone=even"),
    (r"blurry|unsharp|out of focus", "Blurry=yes"), (r"sharp", "Blurry=no"),
    (r"black", "Black_Hair=yes | Hair_Color=black"), (r"brown", "Brown_Hair=yes | Hair_Color=brown"),
    (r"blonde|blond|fair", "Blond_Hair=yes | Hair_Color=blond"), (r"gray|grey", "Gray_Hair=yes | Hair_Color=gray"),
    (r"red", "Hair_Color=red"), (r"wavy", "Wavy_Hair=yes"), (r"straight", "Straight_Hair=yes"),
    (r"may be speaking|speaking", "speech=yes"), (r"may be laughing|laughing", "laughter=yes"),
    (r"cheerful", "mood=cheerful"), (r"serious", "mood=serious"),
    (r"eyes (?:are )?visible|visible", "sight=yes"), (r"eyes (?:are )?hidden|hidden", "sight=no"),
    (r"mouth (?:is |slightly )*open|open mouth", "Mouth_Slightly_Open=yes | Mouth_Action=open"),
    (r"mouth (?:is )?closed|closed mouth|closed", "Mouth_Slightly_Open=no | Mouth_Action=closed"),
    (r"smiling|smiles?", "Smiling=yes"), (r"eyes (?:are )?open", "Eyes=open"),
    (r"open", "Eyes=open | Mouth_Slightly_Open=yes | Mouth_Action=open"),
    (r"happy|happiness", "Emotion=happiness"),
    (r"neutral expression|neutral|expressionless", "Emotion=neutral"), (r"surprised?", "Emotion=surprise"),
    (r"angry|anger", "Emotion=anger"), (r"sadness|sad", "Emotion=sadness"),
    (r"contemptuous|contempt", "Emotion=contempt"), (r"disgusted|disgust", "Emotion=disgust"),
    (r"afraid|fear", "Emotion=fear"),
    (r"(?:a|is|be) child", "Age_Group=child"), (r"teenager", "Age_Group=teenager"),
    (r"young adult", "Age_Group=young adult"), (r"middle-aged(?: adult)?", "Age_Group=middle-aged"),
    (r"senior", "Age_Group=senior"), (r"young", "Young=yes"), (r"older|old", "Young=no"),
    (r"facing forward", "Head_Pose=facing forward"), (r"turned to the side", "Head_Pose=turned to the side"),
    (r"looking up", "Head_Pose=tilted up"), (r"looking down", "Head_Pose=tilted down"),
    (r"female|woman|girl", "Male=no"), (r"male|man|boy", "Male=yes"),
)  # fmt: skip
# Words of an answer that state nothing by themselves.
_GLUE = frozenset(
    "s is are not no the this a an has have does of looks with and or neither nor "  # noqa: SIM905
    "hair eyes eyebrows nose face skin cheeks wearing photo".split()
)
_DENIAL = re.compile(r"\b(?:not|neither|no)\b")
_CLAUSE = re.compile(r": |, but |, and ")
_SUBJECT = re.compile(r"\b(?:(?:the|this) (?:person|man|woman|boy|girl|child)|he|she)(?!')\b")
_OWNER = re.compile(r"\b(?:(?:the|this) (?:person|man|woman|boy|girl|child)'s|his|her)\b")
# What follows from labels, see `_known`: name -> labels that it speaks of.
INFERRED = {"speech": (), "laughter": (), "mood": (), "sight": ("Eyes",)}


@cache
def _lexicon() -> tuple[tuple[re.Pattern[str], tuple[Facts, ...]], ...]:
    return tuple((re.compile(rf"\b(?:{pattern})\b"), _readings(text)) for pattern, text in _LEXICON)


def _readings(text: str) -> tuple[Facts, ...]:
    def fact(part: str) -> tuple[str, str]:
        name, _, value = part.strip().partition("=")
        return name, value

    return tuple(tuple(fact(part) for part in reading.split("&")) for reading in text.split("|"))


def plain(text: str) -> str:
    """Lower case, without the end mark and an opening yes or no, with "s" for the person and "the" for whose."""
    body = re.sub(r"^(?:yes|no), ", "", text.lower().strip().rstrip(".?"))
    return _OWNER.sub("the", _SUBJECT.sub("s", body))


@cache
def mentions(text: str) -> tuple[tuple[tuple[Facts, ...], ...], str]:
    """The facts that a plain text mentions, in its order, and the text without their words."""
    found: list[tuple[int, tuple[Facts, ...]]] = []
    for pattern, readings in _lexicon():
        while match := pattern.search(text):
            found.append((match.start(), readings))
            text = text[: match.start()] + "#" * (match.end() - match.start()) + text[match.end() :]
    found.sort(key=lambda pair: pair[0])
    return tuple(readings for _, readings in found), text.replace("#", " ")


def claims(answer: str) -> tuple[Claim, ...] | None:
    """What an answer says of the face, clause by clause; None where a word of it cannot be read."""
    found: list[Claim] = []
    for clause in _CLAUSE.split(plain(answer)):
        mentioned, rest = mentions(clause)
        if not mentioned or any(word not in _GLUE for word in re.findall(r"[a-z0-9'-]+", rest)):
            return None
        found += [Claim(readings, not _DENIAL.search(rest)) for readings in mentioned]
    return tuple(found)


def mentioned(question: str, declared: Iterable[str]) -> tuple[Facts, ...]:
    """The facts that a question names, in its order, read as facts of the declared attributes."""
    names = tuple(declared)
    readings = (Claim(readings, True).reading(names) for readings in mentions(plain(question))[0])
    return tuple(facts for facts in readings if facts is not None)
