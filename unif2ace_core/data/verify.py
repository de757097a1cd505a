"""Checks the answers of a question set against a record's labels alone.

The checker reads the two texts (claims.py) and nothing of how they were made: the answer into claims, the
question into the facts it mentions. Every word of an answer must be accounted for.

Then each claim must be what the labels say, yes and no must fit what the question mentions, a list must be
complete, a count must be right, and what is declined must be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from unif2ace_core.data.answers import read_age, read_yes_no
from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.claims import INFERRED, Claim, Facts, claims, mentioned, mentions, plain
from unif2ace_core.data.facts import unasked
from unif2ace_core.data.sources import FaceRecord

if TYPE_CHECKING:
    from unif2ace_core.data.question_kinds import Question

Known = Mapping[str, str]
_DECLINE = re.compile(
    r"cannot be told|does not tell that|not known|no telling|cannot tell|do not (?:identify|say|name)"
)

# --- What the labels say --------------------------------------------------------------------------------


def _known(record: FaceRecord) -> dict[str, str]:
    """The labels, the age, and what follows: who may be speaking or laughing, looks cheerful, shows the eyes."""
    labels = record.labels
    known = dict(labels)
    if record.age is not None:
        known["Age"] = str(round(record.age))
    smiling, opened, emotion = (labels.get(name) for name in ("Smiling", "Mouth_Slightly_Open", "Emotion"))
    if opened is not None:
        known["speech"] = opened
    if smiling is not None and opened is not None:
        known["laughter"] = "yes" if smiling == opened == "yes" else "no"
    if smiling == "yes" and emotion in (None, "happiness"):
        known["mood"] = "cheerful"
    elif smiling == "no" and opened == "no" and emotion in (None, "neutral"):
        known["mood"] = "serious"
    if "Eyes" in labels:
        known["sight"] = "no" if labels["Eyes"] == "behind sunglasses" else "yes"
    return known


def _true(facts: Facts, known: Known) -> bool:
    return all(known.get(name) == value for name, value in facts)


_COLORS = {"Black_Hair": "black", "Brown_Hair": "brown", "Blond_Hair": "blond", "Gray_Hair": "gray", "Bald": "bald"}
_BEARDS = ("No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow")
# attribute -> labels of which any tells it at least in part
_TOLD_BY: dict[str, tuple[str, ...]] = {
    "Age": ("Age_Group", "Young"),
    "Age_Group": ("Age", "Young"),
    "Young": ("Age", "Age_Group"),
    "Mouth_Action": ("Smiling", "Mouth_Slightly_Open"),
    "Smiling": ("Mouth_Action",),
    "Mouth_Slightly_Open": ("Mouth_Action",),
    "Eyes": ("Narrow_Eyes",),
    "Narrow_Eyes": ("Eyes",),
    "Skin_Tone": ("Pale_Skin", "Rosy_Cheeks"),
    "Pale_Skin": ("Skin_Tone",),
    "Rosy_Cheeks": ("Skin_Tone",),
}
# (attribute, label, value): the value of the label tells the attribute at least in part
_TOLD_IF: tuple[tuple[str, str, str], ...] = (
    ("Smiling", "Emotion", "happiness"),
    ("Emotion", "Smiling", "yes"),
    ("Wavy_Hair", "Straight_Hair", "yes"),
    ("Straight_Hair", "Wavy_Hair", "yes"),
    ("Wavy_Hair", "Bald", "yes"),
    ("Straight_Hair", "Bald", "yes"),
    ("Bangs", "Bald", "yes"),
    ("Receding_Hairline", "Bald", "yes"),
    ("Wearing_Lipstick", "Male", "yes"),
    ("Heavy_Makeup", "Male", "yes"),
)


def settled(attribute: str, record: FaceRecord) -> bool:
    """Whether the labels tell the attribute ("Age" too), in part or by what they imply, so that it is no secret."""
    known = _known(record)
    if attribute in known or any(name in known for name in _TOLD_BY.get(attribute, ())):
        return True
    if any(name == attribute and known.get(label) == value for name, label, value in _TOLD_IF):
        return True
    if attribute in _COLORS or attribute == "Hair_Color":
        return "Hair_Color" in known or any(known.get(name) == "yes" for name in _COLORS)
    if attribute in _BEARDS:
        child = known.get("Age_Group") == "child" or known.get("Male") == "no"
        grown = any(known.get(name) == "yes" for name in _BEARDS)
        return child or grown or (attribute == "No_Beard" and known.get("Mustache") == "no")
    return False


# --- Checks ------------------------------------------------------------------------------------------------


def verify(question: Question, record: FaceRecord) -> str | None:
    """None where the answer can be derived from the record's labels, else what is wrong with it."""
    known = _known(record)
    wrong = _speaks_of(question.question, record) or _speaks_of(question.answer, record)
    if wrong:
        return wrong
    unknown = [name for name in question.attributes if name not in BY_NAME and name != "Age"]
    if unknown:
        return f"{unknown[0]!r} is no attribute of the schema"
    if question.kind == "unanswerable":
        return _declined(question, record)
    if _DECLINE.search(question.answer.lower()):
        return "declines a question of a kind that has an answer"
    missing = [name for name in question.attributes if name not in known]
    if missing or not question.attributes:
        return f"rests on {missing[0]}, which is unknown" if missing else "rests on no attribute"
    odd = [name for name in question.attributes if name in unasked(record.labels)]
    if odd:
        return f"asks about {odd[0]}, which is hidden, absent or out of place here"
    declared = ",".join(known[name] for name in question.attributes)
    if question.value != declared:
        return f"declares {question.value!r} where the labels say {declared!r}"
    check = _CHECKS.get(question.kind)
    return f"no kind {question.kind!r}" if check is None else check(question, record, known)


def _speaks_of(text: str, record: FaceRecord) -> str | None:
    """Whether "he", "the girl" or "the child" fit what is known."""
    words = re.findall(r"\b(?:he|his|she|her|the (?:man|woman|boy|girl|child))\b", text.lower())
    male, group = record.labels.get("Male"), record.labels.get("Age_Group")
    for word in words:
        if word != "the child" and ("no" if word in ("she", "her", "the woman", "the girl") else "yes") != male:
            return f"speaks of {word!r} where Male is {male or 'unknown'}"
        if word in ("the boy", "the girl", "the child") and group not in ("child", "teenager"):
            return f"speaks of {word!r} where the age group is {group or 'unknown'}"
    if group in ("child", "teenager") and (grown := re.search(r"\b(?:wo)?man\b", text.lower())):
        return f"speaks of a {grown[0]} where the age group is {group}"
    return None


def _stated(question: Question, known: Known) -> tuple[str | None, dict[str, str]]:
    """What is wrong with the answer's claims by themselves, and the facts that it states."""
    said = claims(question.answer)
    if said is None:
        return f"cannot be read: {question.answer!r}", {}
    stated: dict[str, str] = {}
    for claim in said:
        facts = claim.reading(question.attributes)
        if facts is None:
            return f"speaks of {claim.facts[0][0][0]}, which was not asked", {}
        if _true(facts, known) is not claim.stated:
            return f"says {'' if claim.stated else 'not '}{_text(facts)}, which the labels do not say", {}
        if claim.stated:
            stated.update(facts)
    return None, stated


def _text(facts: Facts) -> str:
    return " and ".join(f"{name}={value}" for name, value in facts)


def _claimed(question: Question) -> tuple[str, ...]:
    """The attributes that the answer speaks of, stated or denied."""
    readings = (claim.reading(question.attributes) for claim in claims(question.answer) or ())
    names = tuple(name for facts in readings for name, _ in facts or ())
    return (*names, *(told for name in names for told in INFERRED.get(name, ())))


def _polarity(question: Question, known: Known) -> str | None:
    """Whether an opening yes or no fits what the question mentions."""
    asked = mentioned(question.question, question.attributes)
    if not asked:
        return "asks for none of its attributes"
    verdict = all(_true(facts, known) for facts in asked)
    if read_yes_no(question.answer.split(",")[0]) is not verdict:
        return f"should be {'yes' if verdict else 'no'}"
    return None


def _yes_no(question: Question, record: FaceRecord, known: Known) -> str | None:
    wrong, _ = _stated(question, known)
    if wrong:
        return wrong
    return _polarity(question, known) or _covers(question)


def _covers(question: Question) -> str | None:
    said = _claimed(question)
    missing = [name for name in question.attributes if name not in said]
    return f"says nothing of {missing[0]}" if missing else None


_ALTERNATIVE = re.compile(r"\bor (?:not|without|no)\b")


def _choice(question: Question, record: FaceRecord, known: Known) -> str | None:
    wrong, stated = _stated(question, known)
    if wrong:
        return wrong
    options = mentioned(question.question, question.attributes)
    if _ALTERNATIVE.search(question.question):
        return _covers(question) if options else "asks for none of its attributes"
    right = [facts for facts in options if _true(facts, known)]
    if len(options) != 2 or len(right) != 1:
        return f"offers {len(options)} options of which {len(right)} are right"
    return None if all(stated.get(name) == value for name, value in right[0]) else "does not choose the right option"


# attribute -> what an open question on it must say
_TOPICS: dict[str, str] = {
    "Hair_Color": r"hair", "Emotion": r"emotion|expression|feel|mood", "Age_Group": r"age group|stage of life",
    "Male": r"gender", "Head_Pose": r"head|facing|face|looking|pose", "Mouth_Action": r"mouth", "Eyes": r"eyes",
    "Skin_Tone": r"complexion|skin", "Blurry": r"photo", "Age": r"old|age",
    "Wavy_Hair": r"texture|hair fall", "Straight_Hair": r"texture|hair fall",
    "Arched_Eyebrows": r"eyebrows", "Bushy_Eyebrows": r"eyebrows", "Big_Nose": r"nose", "Pointy_Nose": r"nose",
    "Oval_Face": r"shape", "Chubby": r"shape", "High_Cheekbones": r"cheeks", "Rosy_Cheeks": r"cheeks",
    "Bags_Under_Eyes": r"eyes", "Narrow_Eyes": r"eyes", "Bangs": r"hairline|forehead",
    "Receding_Hairline": r"hairline|forehead", "Big_Lips": r"lips", "Double_Chin": r"chin",
    "Heavy_Makeup": r"make-?up|made up", "Wearing_Lipstick": r"make-?up|made up",
    "Wearing_Earrings": r"accessories|jewel", "Wearing_Necklace": r"accessories|jewel",
    "Eyeglasses": r"accessories", "Wearing_Hat": r"accessories", "Wearing_Necktie": r"accessories",
    **dict.fromkeys(_BEARDS, r"facial hair|beard"),
}  # fmt: skip
_NONE = re.compile(r"^no accessories\.$|^none\.$")
_WEARABLES = ("Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Wearing_Necktie")


def _open(question: Question, record: FaceRecord, known: Known) -> str | None:
    text = question.question.lower()
    off = [name for name in question.attributes if not re.search(_TOPICS.get(name, "$^"), text)]
    if off:
        return f"does not ask for {off[0]}"
    if question.attributes == ("Age",):
        return _age(question, known)
    if _NONE.match(question.answer.lower()):
        there = [name for name in question.attributes if known[name] == "yes"]
        unknown = [name for name in _WEARABLES if name not in question.attributes]
        return f"says none without {(there + unknown)[0]}" if there or unknown else None
    wrong, stated = _stated(question, known)
    if wrong or len(question.attributes) == 1:
        return wrong or _covers(question)
    left = [name for name in question.attributes if known[name] == _present(name) and name not in stated]
    return f"leaves out {left[0]}" if left else None


def _present(name: str) -> str:
    """The value that says that something is there."""
    return "no" if name == "No_Beard" else "yes"


def _age(question: Question, known: Known) -> str | None:
    match = re.fullmatch(r"about (\d+) years? old\.", question.answer.lower())
    if not match:
        return f"cannot be read: {question.answer!r}"
    return None if read_age(question.answer) == float(known["Age"]) else f"says {match[1]}, not {known['Age']}"


_COUNTS = {"none": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def _counting(question: Question, record: FaceRecord, known: Known) -> str | None:
    head, _, listed = question.question.partition(": ")
    if "how many" not in head.lower():
        return "does not ask how many"
    asked = tuple(name for facts in mentioned(listed, question.attributes) for name, _ in facts) or _WEARABLES
    if sorted(asked) != sorted(question.attributes):
        return "counts other things than it asks for"
    there = sorted(name for name in asked if known[name] == _present(name))
    count, _, things = question.answer.rstrip(".").partition(": ")
    if _COUNTS.get(count.lower()) != len(there):
        return f"counts {count.lower()} where there are {len(there)}"
    named, rest = mentions(plain(things))
    said = sorted(name for readings in named for name, _ in Claim(readings, True).reading(asked) or ())
    strange = [word for word in re.findall(r"[a-z'-]+", rest) if word not in ("a", "an", "and")]
    return None if said == there and not strange else f"names {said or strange} where there are {there}"


_THAN = re.compile(r"s looks (older|younger) than (\d+)")
_CLOSER = re.compile(r"s is closer to (\d+)")


def _comparison(question: Question, record: FaceRecord, known: Known) -> str | None:
    if question.attributes == ("Age",):
        return _compared_age(question, record.age or 0.0)
    asked = mentioned(question.question, question.attributes)
    if sorted(name for facts in asked for name, _ in facts) != sorted(question.attributes) or len(asked) != 2:
        return "does not compare its two attributes"
    wrong, stated = _stated(question, known)
    if wrong:
        return wrong
    if read_yes_no(question.answer.split(",")[0]) is not None and "," in question.answer:
        return _polarity(question, known) or _covers(question)
    right = [facts for facts in asked if _true(facts, known)]
    if len(right) != 1:
        return f"{len(right)} of the two are true"
    return None if stated == dict(right[0]) else "does not name the one that is true"


def _compared_age(question: Question, age: float) -> str | None:
    numbers = [int(text) for text in re.findall(r"\d+", question.question)]
    answer = plain(question.answer)
    if (match := _CLOSER.fullmatch(answer)) and len(numbers) == 2:
        near, far = sorted(numbers, key=lambda number: abs(number - age))
        clear = abs(near - age) < abs(far - age)
        return None if clear and int(match[1]) == near else f"{match[1]} is not the closer one"
    if not (match := _THAN.fullmatch(answer)) or numbers != [int(match[2])]:
        return f"cannot be read: {question.answer!r}"
    older = age > numbers[0]
    if age == numbers[0] or (match[1] == "older") is not older:
        return f"says {match[1]} than {numbers[0]}, which the age does not say"
    return _age_polarity(question, older)


def _age_polarity(question: Question, older: bool) -> str | None:
    """Yes or no where the question names one side, neither where it names both."""
    text = question.question.lower()
    sides = [side for side in ("older", "younger") if side in text]
    verdict = None if len(sides) != 1 else (sides[0] == "older") is older
    said = read_yes_no(question.answer.split(",")[0]) if "," in question.answer else None
    return None if said is verdict else "yes and no do not fit the question"


_WHY = re.compile(r"\bwhy\b|what tells you|how can you tell|what shows|what makes")


def _reasoning(question: Question, record: FaceRecord, known: Known) -> str | None:
    if not _WHY.search(question.question.lower()):
        return "does not ask for a reason"
    if ": " not in question.answer:
        return "gives no reason"
    wrong, _ = _stated(question, known)
    if wrong:
        return wrong
    asked = mentioned(question.question, question.attributes)
    given = [facts for facts in asked if facts[0][0] == "Emotion"]
    if any(not _true(facts, known) for facts in given):
        return f"takes {_text(given[0])} for granted"
    return _covers(question)


# What no label tells, in a question whose person is "s" (see `plain`).
_OUTSIDE = re.compile(
    r"\b(?:names?|who|whom|s called|identify|famous|eye colou?r|colou?r (?:are|do) the eyes|tattoos?|scars?|freckles?|"
    r"piercings?|scarf|scarves|tall|height|job|profession|living|work|married|children|partner|parent|brothers|"
    r"where|place|city|photo taken|date|year|season|camera|photographer|shoes|dyed|contact lenses|s thinking|s think|"
    r"thoughts?|caused|happen\w*|tired|hungry|s like|saying|s say|just said|words|holding|hands|next|sit|sitting|"
    r"stand|standing)\b"
)


def _declined(question: Question, record: FaceRecord) -> str | None:
    if question.value != "unknown" or not _DECLINE.search(question.answer.lower()):
        return "should say that it cannot be told"
    told = [name for name in question.attributes if settled(name, record)]
    if told:
        return f"declines to tell {told[0]}, which is known"
    text = plain(question.question)
    if not question.attributes:
        return None if _OUTSIDE.search(text) and not mentions(text)[0] else "declines what labels may tell"
    (name,) = question.attributes
    asked = mentioned(question.question, question.attributes) or re.search(_TOPICS.get(name, "$^"), text)
    return None if asked else f"does not ask for {name}"


_Check = Callable[["Question", FaceRecord, Known], "str | None"]
_CHECKS: dict[str, _Check] = {
    "yes_no": _yes_no,
    "choice": _choice,
    "open": _open,
    "counting": _counting,
    "comparison": _comparison,
    "reasoning": _reasoning,
}
