"""Descriptions of a face record: a paragraph about everything known, always in the same order."""

from __future__ import annotations

import random
from collections.abc import Mapping

from unif2ace_core.data import wordings
from unif2ace_core.data.phrases import PHRASES
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import WEARABLES, beard_statement, join, knows_beard


def describe_question(rng: random.Random) -> str:
    """A request for a description."""
    return rng.choice(wordings.DESCRIBE)


_FEATURES = (
    "Bangs", "Receding_Hairline", "Bushy_Eyebrows", "Arched_Eyebrows", "Bags_Under_Eyes", "Big_Nose",
    "Pointy_Nose", "High_Cheekbones", "Rosy_Cheeks", "Pale_Skin", "Big_Lips", "Oval_Face", "Chubby",
    "Double_Chin",
)  # fmt: skip
_WEARABLE = (*WEARABLES, "Heavy_Makeup", "Wearing_Lipstick")
_MOST_FEATURES = 5


def description(record: FaceRecord, rng: random.Random) -> str:
    """A paragraph of up to six sentences about what is known."""
    labels = record.labels
    male = labels.get("Male", "")
    statements = [
        _features(labels),
        beard_statement(labels) if knows_beard(labels) else "",
        _mood(labels),
        _worn(labels),
        _absent(labels),
    ]
    told = [wordings.sentence(statement, male) for statement in statements if statement]
    return " ".join([_subject(record, rng), *told])


_AGE_WORDS = {"teenager": "teenage", "young adult": "young", "middle-aged": "middle-aged", "senior": "old"}


def _subject(record: FaceRecord, rng: random.Random) -> str:
    """ "This is a young woman, about 24 years old, with wavy brown hair." """
    labels, age = record.labels, record.age
    group = labels.get("Age_Group", "")
    nouns = ("boy", "girl", "child") if group == "child" else ("man", "woman", "person")
    noun = nouns[{"yes": 0, "no": 1}.get(labels.get("Male", ""), 2)]
    word = _AGE_WORDS.get(group, "")
    if not group and "Young" in labels:
        word = "young" if labels["Young"] == "yes" else "older"
    article = "an" if word in ("old", "older") else "a"
    text = f"{rng.choice(('This is', 'This is', 'The photo shows'))} {article} {f'{word} {noun}'.strip()}"
    if age is not None and group != "child" and rng.random() < 0.5:
        text += f", about {round(age)} years old,"
    hair = _hair(labels)
    return f"{text} with {hair}." if hair else f"{text.removesuffix(',')}."


def _hair(labels: Mapping[str, str]) -> str:
    color = labels.get("Hair_Color", "")
    if color == "bald":
        return "a bald head"
    textures = (("Wavy_Hair", "wavy"), ("Straight_Hair", "straight"))
    words = [word for name, word in textures if labels.get(name) == "yes"][:1] + ([color] if color else [])
    return " ".join([*words, "hair"]) if words else ""


def _features(labels: Mapping[str, str]) -> str:
    found = [PHRASES[name]["yes"].texts[0] for name in _FEATURES if labels.get(name) == "yes"]
    return f"{{s}} has {join(found[:_MOST_FEATURES])}" if found else ""


def _mood(labels: Mapping[str, str]) -> str:
    """Emotion, smile and head pose in one sentence."""
    parts = []
    if "Emotion" in labels:
        parts.append("looks " + wordings.EMOTION_WORDS[labels["Emotion"]])
    mouth = {"yes": "the mouth open", "no": "the mouth closed"}.get(labels.get("Mouth_Slightly_Open", ""))
    if labels.get("Smiling") == "yes":
        parts.append("is smiling" + (f" with {mouth}" if mouth else ""))
    elif "Smiling" in labels:  # "not smiling with the mouth open" would deny the mouth too
        parts += ["is not smiling", *([f"has {mouth}"] if mouth else [])]
    if "Head_Pose" in labels:
        parts.append(wordings.POSE_ANSWERS[labels["Head_Pose"]].removeprefix("{s} "))
    return f"{{s}} {join(parts)}" if parts else ""


def _worn(labels: Mapping[str, str]) -> str:
    worn = [PHRASES[name]["yes"].texts[0] for name in _WEARABLE if labels.get(name) == "yes"]
    return f"{{s}} is wearing {join(worn)}" if worn else ""


def _absent(labels: Mapping[str, str]) -> str:
    """What one would ask after: glasses, a hat, bangs."""
    parts = []
    absent = [WEARABLES[name] for name in ("Eyeglasses", "Wearing_Hat") if labels.get(name) == "no"]
    if absent:
        parts.append(f"is not wearing {join(absent, 'or')}")
    if labels.get("Bangs") == "no" and "yes" not in (labels.get("Bald"), labels.get("Wearing_Hat")):
        parts.append("has no bangs")
    return f"{{s}} {join(parts)}" if parts else ""
