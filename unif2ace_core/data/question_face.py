"""One record as the question makers see it: what may be asked of it, and how to speak of the person."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import cache

from unif2ace_core.data import question_kinds as kinds
from unif2ace_core.data import wordings
from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.balance import Rates
from unif2ace_core.data.facts import unasked
from unif2ace_core.data.question_kinds import Question
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import ASKED


def askable(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that questions may be about, in the schema's order."""
    hidden = unasked(labels)
    return {name: labels[name] for name in BY_NAME if name in labels and name not in hidden}


class Face:
    """One record seen by the makers: its labels in the schema's order, its rates and how to speak of the person."""

    def __init__(self, record: FaceRecord, rng: random.Random, rates: Rates) -> None:
        self.record, self.rng = record, rng
        self.unasked = unasked(record.labels)
        self.labels = askable(record.labels)
        self.rates: Rates = getattr(rates, "by_source", {}).get(record.source, rates)
        self.male = self.labels.get("Male", "")
        self.adult = self.labels.get("Age_Group") not in ("child", "teenager")
        self.child = self.labels.get("Age_Group") == "child"

    def put(self, templates: tuple[str, ...], neutral: bool = False) -> str:
        """One of the questions, of the person or of him or her; `neutral` ones give no gender away."""
        known = not neutral and self.rng.random() < 0.5
        return self.rng.choice(phrased(templates, self.male if known else "", self.adult or not known))

    def say(self, statement: str, start: str = "") -> str:
        """The statement as a sentence, after "Yes, " or "No, " where given."""
        return wordings.sentence(statement, self.male, start)

    def rate(self, name: str, value: str) -> float:
        """Share of the value where the attribute is known."""
        return self.rates.get(name, {}).get(value, 0.0)

    def states(self, name: str) -> str:
        """What a binary label says: "{s} is wearing a hat"."""
        value = self.labels[name]
        if name == "Male" and not self.adult:
            return "this is a boy" if value == "yes" else "this is a girl"
        return ASKED[name].yes if value == "yes" else ASKED[name].no

    def make(self, kind: str, family: str, question: str, answer: str, names: Iterable[str]) -> Question:
        """The question with the values it rests on."""
        names = tuple(names)
        age = self.record.age
        values = [str(round(age)) if name == "Age" and age is not None else self.labels[name] for name in names]
        return Question(kind, family, question, answer, names, ",".join(values))

    def known(self, names: Iterable[str]) -> bool:
        """Whether all of these have labels."""
        return all(name in self.labels for name in names)


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[0].upper() + text[1:]


@cache
def phrased(templates: tuple[str, ...], male: str, adult: bool) -> tuple[str, ...]:
    """The questions with the person put in."""
    people = kinds.PEOPLE[male, adult]
    texts = (capital(t.replace("{p's}", whose).replace("{p}", who)) for t in templates for who, whose in people)
    return tuple(dict.fromkeys(texts))
