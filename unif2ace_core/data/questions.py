"""Questions and answers about a face record: yes/no, open and choice questions, and descriptions.

Answers are short natural sentences of few forms (a small model learns them), questions are many. Yes and
no are equally frequent per attribute: see balance.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unif2ace_core.data import wordings
from unif2ace_core.data.answers import read_age, read_value, read_yes_no
from unif2ace_core.data.attributes import EMOTIONS
from unif2ace_core.data.balance import LabelRates, Rates, label_rates, plain_odds, relevance
from unif2ace_core.data.descriptions import describe_question, description
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import (
    ASKED,
    WEARABLES,
    asked_templates,
    beard_statement,
    join,
    knows_beard,
    phrased,
)
from unif2ace_core.errors import UserError

__all__ = [
    "LabelRates",
    "QuestionAnswer",
    "describe_question",
    "description",
    "label_rates",
    "questions",
    "read_age",
    "read_value",
    "read_yes_no",
    "yes_no_wordings",
]


@dataclass(frozen=True)
class QuestionAnswer:
    """`attribute` is of the schema or "Age" (value: years) or "Worn" (value: names joined by a comma)."""

    question: str
    answer: str
    attribute: str
    value: str


def yes_no_wordings(attribute: str, male: str = "") -> tuple[str, ...]:
    """Questions to which "yes" means the value yes; never fewer than five.

    They speak of "the person"; with `male` "yes" or "no", of him or her. Raises `UserError` for an
    attribute that is not binary.
    """
    if attribute not in ASKED:
        raise UserError(f"{attribute!r} is no yes/no attribute; binary ones are: {', '.join(sorted(ASKED))}")
    return phrased(asked_templates(attribute), male)


# --- Putting a question ---------------------------------------------------------------------------------


class _Asker:
    """One record seen by the question makers: its labels, its rates and how to speak of the person."""

    def __init__(self, record: FaceRecord, rng: random.Random, rates: Rates) -> None:
        self.record, self.labels, self.rng = record, record.labels, rng
        own = getattr(rates, "by_source", {}).get(record.source)
        self.rates: Rates = rates if own is None else own
        self.odds: Rates = getattr(rates, "odds", {}).get(record.source, {})
        self.male = record.labels.get("Male", "")

    def put(self, templates: tuple[str, ...]) -> str:
        """One of the questions: mostly of the person, often of him or her, rarely of the wrong one."""
        chance = self.rng.random()
        male = self.male if chance < 0.35 else ""
        if chance > 0.97:
            male = self.rng.choice(("yes", "no"))
        question = self.rng.choice(phrased(templates, male))
        return question[:-1] if self.rng.random() < 0.12 else question

    def say(self, statement: str, start: str = "") -> str:
        """The statement as a sentence, after "Yes, " or "No, " where given."""
        return wordings.sentence(statement, self.male, start)

    def rate(self, name: str, value: str) -> float:
        """Share of the value in the record's source."""
        return self.rates.get(name, {}).get(value, 0.5)


def questions(
    record: FaceRecord, rng: random.Random, count: int, rates: Mapping[str, Mapping[str, float]]
) -> list[QuestionAnswer]:
    """Up to `count` questions about different things that are known of the record, with true answers."""
    asker = _Asker(record, rng, rates)
    closed, open_ = _closed_odds(asker), _open_odds(asker)
    found: list[QuestionAnswer] = []
    while len(found) < count and (closed or open_):
        odds = closed if closed and (not open_ or rng.random() < 0.55) else open_
        key = rng.choices(list(odds), list(odds.values()))[0]
        del odds[key]
        found.append(_yes_no(asker, key) if odds is closed else _OPEN[key][1](asker))
    return found


def _closed_odds(asker: _Asker) -> dict[str, float]:
    """Odds of each yes/no question; in expectation equal for yes and no."""
    labels = asker.labels
    odds: dict[str, float] = {}
    for name, value in labels.items():
        if name in ASKED:
            known = asker.odds.get(name)
            chance = plain_odds(name, value, asker.rates) if known is None else known.get(value, 0.0)
            if chance > 0.0:
                odds[name] = chance * relevance(name, labels)
    return odds


def _yes_no(asker: _Asker, name: str) -> QuestionAnswer:
    asked, value = ASKED[name], asker.labels[name]
    turned = bool(asked.reversed) and asker.rng.random() < 0.4
    question = asker.put(asked.reversed if turned else asked_templates(name))
    if name == "Male" and asker.labels.get("Age_Group") == "child":
        statement = "this is a boy" if value == "yes" else "this is a girl"
    else:
        statement = asked.yes if value == "yes" else asked.no
    start = "Yes, " if (value == "yes") != turned else "No, "
    return QuestionAnswer(question, asker.say(statement, start), name, value)


# --- Open questions ---------------------------------------------------------------------------------------


def _lift(asker: _Asker, name: str, fair: float, most: float) -> float:
    """More for values rarer than `fair`, less for commoner ones."""
    value = asker.labels.get(name)
    return 1.0 if value is None else min(most, (fair / max(asker.rate(name, value), 1e-6)) ** 0.7)


def _open_odds(asker: _Asker) -> dict[str, float]:
    """Odds of the open questions that the record can answer."""
    return {key: odds for key, (weigh, _) in _OPEN.items() if (odds := weigh(asker)) > 0}


_Weigh = Callable[[_Asker], float]
_Make = Callable[[_Asker], QuestionAnswer]


def _known(name: str, weight: float, fair: float = 0.0, most: float = 1.0) -> _Weigh:
    """Weigher of a question that needs the attribute `name`."""

    def weigh(asker: _Asker) -> float:
        if name not in asker.labels:
            return 0.0
        return weight * _lift(asker, name, fair, most) if fair else weight

    return weigh


def _teller(name: str, templates: tuple[str, ...], answers: Mapping[str, str]) -> _Make:
    """Maker of a question whose answer depends on one attribute's value only."""

    def tell(asker: _Asker) -> QuestionAnswer:
        value = asker.labels[name]
        return QuestionAnswer(asker.put(templates), asker.say(answers[value]), name, value)

    return tell


def _emotion_yes_no(asker: _Asker) -> QuestionAnswer:
    """ "Is she angry?": half of the time the emotion that it is, else another by its rate."""
    rng, value = asker.rng, asker.labels["Emotion"]
    target = value
    if rng.random() < 0.5:
        others = [name for name in EMOTIONS if name != value]
        rates = asker.rates.get("Emotion", {})
        odds = [rates.get(name, 1e-6) for name in others]
        target = rng.choices(others, odds)[0]
    words = wordings.EMOTION_WORDS
    question = asker.put(wordings.EMOTION_YES_NO).replace("{x}", words[target]).replace("{n}", target)
    answer = asker.say("{s} looks " + words[value], "Yes, " if target == value else "No, ")
    return QuestionAnswer(question[0].upper() + question[1:], answer, "Emotion", value)


def _age(asker: _Asker) -> QuestionAnswer:
    years = round(asker.record.age or 0)
    text = f"About {years} years old." if years != 1 else "About 1 year old."
    return QuestionAnswer(asker.put(wordings.AGE), text, "Age", str(years))


def _older(asker: _Asker) -> QuestionAnswer:
    """ "Is he older than 40?", with the limit above or below the age equally often."""
    rng, age = asker.rng, asker.record.age or 0.0
    limit = round((age + rng.choice((-1, 1)) * rng.uniform(6, 22)) / 5) * 5
    limit = max(10, min(80, limit))
    if limit == round(age):  # the bound of the limits is the age itself, neither older nor younger
        limit += 5 if age > 45 else -5
    question = asker.put(("Is {p} older than N?", "Is {p} over N?", "Older than N?", "Is {p} above N?"))
    older = age > limit
    statement = f"{{s}} looks {'older' if older else 'younger'} than {limit}"
    answer = asker.say(statement, "Yes, " if older else "No, ")
    return QuestionAnswer(question.replace("N", str(limit)), answer, "Age", str(round(age)))


def _gender(asker: _Asker) -> QuestionAnswer:
    names = ("boy", "girl") if asker.labels.get("Age_Group") == "child" else ("man", "woman")
    question = asker.rng.choice(phrased(wordings.GENDER))
    answer = f"This is a {names[0] if asker.male == 'yes' else names[1]}."
    return QuestionAnswer(question, answer, "Male", asker.male)


def _hair_answer(asker: _Asker, question: str) -> QuestionAnswer:
    color = asker.labels["Hair_Color"]
    answer = asker.say("{s} is bald" if color == "bald" else f"the hair is {color}")
    return QuestionAnswer(question, answer, "Hair_Color", color)


def _hair(asker: _Asker) -> QuestionAnswer:
    return _hair_answer(asker, asker.put(wordings.HAIR))


def _hair_choice(asker: _Asker) -> QuestionAnswer:
    """ "Is the hair black or blond?" with the right colour in either place."""
    rng, color = asker.rng, asker.labels["Hair_Color"]
    other = rng.choice([c for c in ("black", "brown", "blond", "gray") if c != color])
    pair = (color, other) if color != "bald" else ("brown", other)
    first, second = pair if rng.random() < 0.5 else pair[::-1]
    question = asker.put(("Is the hair A or B?", "A or B hair?", "Is {p's} hair A or B?"))
    question = question.replace("A or B", f"{first} or {second}")
    return _hair_answer(asker, question[0].upper() + question[1:])


# What decides which attribute an answer about facial hair is about: the first that is true.
_BEARD_VALUES = (
    ("Goatee", "yes"),
    ("5_o_Clock_Shadow", "yes"),
    ("No_Beard", "no"),
    ("Mustache", "yes"),
    ("Sideburns", "yes"),
)


def _beard(asker: _Asker) -> QuestionAnswer:
    labels = asker.labels
    told = next((pair for pair in _BEARD_VALUES if labels.get(pair[0]) == pair[1]), ("No_Beard", "yes"))
    return QuestionAnswer(asker.put(wordings.BEARD), asker.say(beard_statement(labels)), *told)


def _beard_odds(asker: _Asker) -> float:
    if not knows_beard(asker.labels):
        return 0.0
    return 1.0 if asker.labels["No_Beard"] == "no" else 0.4


def _worn(asker: _Asker) -> QuestionAnswer:
    names = [name for name in WEARABLES if asker.labels.get(name) == "yes"]
    parts = [WEARABLES[name] for name in names]
    answer = asker.say(f"{{s}} is wearing {join(parts)}") if parts else "No accessories."
    return QuestionAnswer(asker.put(wordings.WORN), answer, "Worn", ",".join(names))


def _worn_odds(asker: _Asker) -> float:
    """Where all five are known "none" can be said, elsewhere only what is there."""
    values = [asker.labels.get(name) for name in WEARABLES]
    if "yes" in values:
        return 0.8
    return 0.25 if None not in values else 0.0


def _choice(asker: _Asker) -> QuestionAnswer:
    names = [name for name in wordings.CHOICES if name in asker.labels]
    odds = [1.0 / max(asker.rate(name, asker.labels[name]), 0.02) for name in names]
    name = asker.rng.choices(names, odds)[0]
    value, asked = asker.labels[name], ASKED[name]
    question = asker.put(wordings.CHOICES[name])
    return QuestionAnswer(question, asker.say(asked.yes if value == "yes" else asked.no), name, value)


def _choice_odds(asker: _Asker) -> float:
    return 0.8 if any(name in asker.labels for name in wordings.CHOICES) else 0.0


def _age_odds(asker: _Asker) -> float:
    return 0.0 if asker.record.age is None else 3.0 * _lift(asker, "Age_Group", 0.3, 1.6)


def _older_odds(asker: _Asker) -> float:
    return 0.0 if asker.record.age is None else 0.3


_EMOTION_ANSWERS = {name: "{s} looks " + word for name, word in wordings.EMOTION_WORDS.items()}
_HAT_ANSWERS = {"yes": "{s} is wearing a hat", "no": "{s} is not wearing a hat"}

_OPEN: dict[str, tuple[_Weigh, _Make]] = {
    "emotion": (_known("Emotion", 4.0, 0.4, 4.0), _teller("Emotion", wordings.EMOTION, _EMOTION_ANSWERS)),
    "emotion?": (_known("Emotion", 0.9, 0.4, 4.0), _emotion_yes_no),
    "age": (_age_odds, _age),
    "older": (_older_odds, _older),
    "group": (
        _known("Age_Group", 0.5, 0.2, 2.0),
        _teller("Age_Group", wordings.AGE_GROUP, wordings.AGE_GROUP_ANSWERS),
    ),
    "gender": (_known("Male", 1.2, 0.5, 2.0), _gender),
    "hair": (_known("Hair_Color", 1.8, 0.25, 2.5), _hair),
    "hair?": (_known("Hair_Color", 0.5, 0.25, 2.0), _hair_choice),
    "beard": (_beard_odds, _beard),
    "head": (_known("Wearing_Hat", 0.12, 0.4, 6.0), _teller("Wearing_Hat", wordings.HEAD, _HAT_ANSWERS)),
    "worn": (_worn_odds, _worn),
    "choice": (_choice_odds, _choice),
    "pose": (_known("Head_Pose", 0.6, 0.4, 2.5), _teller("Head_Pose", wordings.POSE, wordings.POSE_ANSWERS)),
    "mouth": (
        _known("Mouth_Action", 0.5, 0.25, 2.0),
        _teller("Mouth_Action", wordings.MOUTH, wordings.MOUTH_ANSWERS),
    ),
    "skin": (_known("Skin_Tone", 0.15, 0.3, 3.0), _teller("Skin_Tone", wordings.SKIN, wordings.SKIN_ANSWERS)),
    "eyes": (_known("Eyes", 0.15, 0.4, 3.0), _teller("Eyes", wordings.EYES, wordings.EYES_ANSWERS)),
}
