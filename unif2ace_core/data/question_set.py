"""The questions of a data set: at least eight question-answer pairs per face, all told by its labels.

    yes_no        "Is she wearing a hat?"                        "No, she is not wearing a hat."
    choice        "Is the hair black or blond?"                  "The hair is blond."
    open          "What colour is the hair?"                     "The hair is blond."
    counting      "How many of these can be seen: bangs, a hat?" "One: bangs."
    comparison    "Is he closer to 20 or to 60?"                 "He is closer to 60."
    reasoning     "How does she feel, and what tells you?"       "She looks happy: she is smiling."
    unanswerable  "What is her name?"                            "I do not identify people."

Some of a face's pairs are strung into a dialogue, whose later turns lean on the earlier ones ("And a hat?",
"Is it wavy?"); a dialogue counts as its turns. verify.py checks the answers without knowing this file.

Balance: an attribute's yes/no question is put with chance a * min(share of yes, share of no) / share of the
face's own value, for each attribute by itself, so that both answers are equally frequent in each source, among
the faces that may be asked (`question_rates`); with more than two values each value is such a question ("Is she
angry?"). None is added or dropped to reach a count; the other kinds fill up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from unif2ace_core.data import question_kinds as kinds
from unif2ace_core.data.balance import LabelRates, label_rates
from unif2ace_core.data.lots import by_lot
from unif2ace_core.data.question_face import Face, askable
from unif2ace_core.data.question_kinds import GROUPS, KINDS, OPEN, Dialogue, Question
from unif2ace_core.data.question_makers import MAKERS, unanswerable, yes_no_questions
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import ASKED, WEARABLES

__all__ = ["KINDS", "Dialogue", "Question", "pairs", "question_rates", "question_set"]


def pairs(items: Iterable[Question | Dialogue]) -> list[Question]:
    """All question-answer pairs, dialogues as their turns."""
    return [pair for item in items for pair in (item.turns if isinstance(item, Dialogue) else (item,))]


def question_rates(records: Iterable[FaceRecord]) -> LabelRates:
    """`label_rates` of the labels that are asked about, so that yes and no are balanced among these."""
    return label_rates(replace(record, labels=askable(record.labels)) for record in records)


def question_set(
    record: FaceRecord, rng: random.Random, rates: Mapping[str, Mapping[str, float]], count: int = 8
) -> list[Question | Dialogue]:
    """At least `count` pairs on a face, in random order; the turns of a dialogue count one each.

    `rates` are the data set's `question_rates`. What the labels do not fill is filled with questions that are
    honestly declined, so only a `count` beyond all of those can leave fewer.
    """
    face = Face(record, rng, rates)
    found = _Collection()
    for question in yes_no_questions(face):
        found.add(question)
    for _ in range(rng.choices((0, 1, 2), _DECLINED)[0]):
        found.add(unanswerable(face))
    _fill(face, found, count)
    questions = list(found.questions.values())
    rng.shuffle(questions)
    return _with_dialogue(face, questions)


_DECLINED = (0.4, 0.5, 0.1)  # odds of no, one, two unanswerable questions where there is enough else to ask
_TRIES = 40  # draws after which a count beyond all questions is given up


class _Collection:
    """The questions so far by their text, and what they are about."""

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self.asked: dict[str, None] = {}

    def add(self, question: Question) -> bool:
        """Takes a question unless its text is there already."""
        if question.question in self.questions:
            return False
        self.questions[question.question] = question
        self.asked.update(dict.fromkeys(question.attributes))
        return True

    def knows(self, question: Question) -> bool:
        """Whether everything that the question is about has been asked about."""
        return all(name in self.asked for name in question.attributes)


def _fill(face: Face, found: _Collection, count: int) -> None:
    """Adds questions of the other kinds until there are `count`: first on new things, then on any, then declined."""
    later: list[Question] = []
    topics = {kind: _by_chance(face, weights) for kind, (_, weights, _) in MAKERS.items()}
    while len(found.questions) < count and topics:
        kind = face.rng.choices(list(topics), [MAKERS[kind][0] for kind in topics])[0]
        question = MAKERS[kind][2](face, topics[kind].pop())
        if not topics[kind]:
            del topics[kind]
        if question is not None and found.knows(question):
            later.append(question)
        elif question is not None:
            found.add(question)
    while len(found.questions) < count and later:
        found.add(later.pop(0))
    tries = 0
    while len(found.questions) < count and tries < _TRIES:
        tries = 0 if found.add(unanswerable(face)) else tries + 1


def _by_chance(face: Face, weights: Mapping[str, float]) -> list[str]:
    """The topics in a random order by weight and by how rare the face's value is, the first to take last."""
    return by_lot(weights, lambda name: weights[name] * _lift(face, name), face.rng)[::-1]


def _lift(face: Face, name: str) -> float:
    """Values rarer than one of four are asked about more eagerly, commoner ones less."""
    rate = face.rate(name, face.labels.get(name, ""))
    return min(3.0, (0.25 / rate) ** 0.5) if rate > 0.0 else 1.0


# --- Dialogues ----------------------------------------------------------------------------------------------

_DIALOGUE = 0.5  # share of faces with a dialogue
_TURNS = (2, 3, 3, 4)
_OPENERS = ("yes_no", "choice", "open")
_SENTENCES = ("Is ", "Are ", "Does ", "Do ", "Has ", "Can ", "What ", "Which ", "How ", "Who ", "Where ", "When ")
_NEUTRAL = ("Male", "Age_Group", *kinds.NOT_FOR_WOMEN, *kinds.NOT_FOR_MEN)


def _with_dialogue(face: Face, questions: list[Question]) -> list[Question | Dialogue]:
    """Half of the time, some of the questions as the turns of a dialogue."""
    rng = face.rng
    first = _opener(questions)
    if first is None or rng.random() >= _DIALOGUE:
        return list(questions)
    turns, size = [first], rng.choice(_TURNS)
    left: list[Question | Dialogue] = []
    for question in sorted(questions, key=lambda other: not _related(first, other)):
        if question is first:
            continue
        asked = [name for turn in turns for name in turn.attributes]
        text = _follow_up(face, turns[-1], question) if len(turns) < size and _new(question, asked) else None
        if text is None:
            left.append(question)
        else:
            turns.append(replace(question, question=text))
    if len(turns) < 2:
        return list(questions)
    left.insert(rng.randint(0, len(left)), Dialogue(tuple(turns)))
    return left


def _opener(questions: list[Question]) -> Question | None:
    """The question that a dialogue starts with: on the emotion where a reason for it may follow, else any."""
    openers = [question for question in questions if question.kind in _OPENERS]
    if any(question.kind == "reasoning" and question.attributes[0] == "Emotion" for question in questions):
        openers.sort(key=lambda question: question.attributes != ("Emotion",))
    return openers[0] if openers else None


def _hair(question: Question) -> bool:
    return any(name == "Hair_Color" or name in kinds.HAIR_WORDS for name in question.attributes)


def _related(first: Question, other: Question) -> bool:
    """Whether one naturally leads to the other: both on the hair, on the emotion, or both on things."""
    if _hair(first):
        return _hair(other)
    if "Emotion" in first.attributes:
        return "Emotion" in other.attributes
    return _thing(other) == _thing(first) != ""


def _new(question: Question, asked: list[str]) -> bool:
    """Whether a later turn asks for something that has not been said; a reason is new."""
    return question.kind == "reasoning" or not any(name in asked for name in question.attributes)


def _thing(question: Question) -> str:
    """ "wear" or "have" for a yes/no question on something that is worn or had."""
    kind = ASKED[question.attributes[0]].kind if question.kind == "yes_no" and question.attributes[0] in ASKED else ""
    return kind if kind in ("wear", "have") else ""


def _follow_up(face: Face, previous: Question, question: Question) -> str | None:
    """The question as a later turn, or None where it would sound odd."""
    rng, name = face.rng, question.attributes[0] if question.attributes else ""
    if name == "Male":  # an earlier turn has said he or she
        return None
    if question.kind == "reasoning" and name == "Emotion" and previous.attributes == ("Emotion",):
        return rng.choice(kinds.WHY_FOLLOW)
    if question.kind == "yes_no" and name in kinds.HAIR_WORDS and _hair(previous) and "bald" not in previous.answer:
        return rng.choice(kinds.FOLLOW_HAIR).replace("{x}", kinds.HAIR_WORDS[name])
    if _thing(question) and _thing(question) == _thing(previous):
        return rng.choice(kinds.FOLLOW_THING).replace("{x}", ASKED[name].terms[0])
    nouns = _nouns(question)
    if nouns and previous.kind in ("open", "choice"):
        text = rng.choice(kinds.FOLLOW_NOUN).replace("{x}", rng.choice(nouns))
        return text.replace("{p's}", {"yes": "his", "no": "her"}.get(face.male, "the person's"))
    text = question.question
    if not text.startswith(_SENTENCES):
        return None
    text = f"And {text[0].lower()}{text[1:]}"
    return text if name in _NEUTRAL else _with_pronouns(face, text)


def _nouns(question: Question) -> tuple[str, ...]:
    """What an open question is about, for "And her ...?"."""
    if question.kind != "open":
        return ()
    (first, *rest) = question.attributes
    if first == "Age":
        return kinds.AGE_FOLLOW
    if not rest and first in OPEN:
        return OPEN[first].follow
    group = next((group for group in GROUPS.values() if tuple(group.words) == question.attributes), None)
    if group is not None:
        return group.follow
    return kinds.WORN_FOLLOW if first in WEARABLES else kinds.BEARD_FOLLOW


def _with_pronouns(face: Face, text: str) -> str:
    """ "the person" as he or she, who has been spoken of already."""
    if not face.male:
        return text
    who, whose = ("he", "his") if face.male == "yes" else ("she", "her")
    for subject, owner in kinds.PEOPLE[face.male, face.adult][1:] + kinds.NEUTRAL:
        text = text.replace(owner, whose).replace(f" {subject}", f" {who}")
    return text
