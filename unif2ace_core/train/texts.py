"""What is said of a training photo: drawn from its labels each time, or as a set of `unif2ace data` has it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from unif2ace_core.data.captions import STYLE_ODDS, caption
from unif2ace_core.data.questions import describe_question, description, label_rates, questions
from unif2ace_core.data.sets import SetRecords
from unif2ace_core.data.sources import FaceRecord

Pair = tuple[str, str]  # question, answer


class Texts(Protocol):
    """Prompts and questions of photos by row; every draw comes from the generator given."""

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        """Captions, the one to be taken first; a later one serves where it is too long."""
        ...

    def pairs(self, row: int, rng: random.Random, count: int) -> list[Pair]:
        """About `count` questions with answers."""
        ...


class DrawnTexts:
    """Texts from the labels: others each time."""

    def __init__(self, records: Sequence[FaceRecord]) -> None:
        self.records, self.rates = records, label_rates(records)

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        return [caption(self.records[row], rng, "mixed")]

    def pairs(self, row: int, rng: random.Random, count: int) -> list[Pair]:
        return [(each.question, each.answer) for each in questions(self.records[row], rng, count, self.rates)]


class WrittenTexts:
    """The captions and questions of a set; drawn from the labels where it has none.

    A written row has few texts, the same ones each time: `drawn_share` is how often they are drawn anew instead.
    """

    def __init__(self, records: SetRecords, drawn_share: float = 0.0) -> None:
        self.records, self.drawn_share = records, drawn_share
        self.written = {name for name in ("captions", "questions") if records.has(name)}
        self.drawn: Texts | None = None if len(self.written) == 2 and not drawn_share else DrawnTexts(records)

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        found = None if self.is_drawn("captions", rng) else self.records.texts(row)["captions"]
        if not found:
            return self.drawn.prompts(row, rng) if self.drawn else [""]
        odds = [rng.random() ** (1 / STYLE_ODDS[each["style"]]) for each in found]
        return [each["text"] for _, each in sorted(zip(odds, found), key=lambda pair: -pair[0])]

    def is_drawn(self, kind: str, rng: random.Random) -> bool:
        """Whether a row's captions or questions are drawn this time."""
        return self.drawn is not None and (kind not in self.written or rng.random() < self.drawn_share)

    def pairs(self, row: int, rng: random.Random, count: int) -> list[Pair]:
        if self.drawn and self.is_drawn("questions", rng):
            return self.drawn.pairs(row, rng, count)
        dialogues = list(by_dialogue(self.records.texts(row)["questions"] or ()))
        rng.shuffle(dialogues)
        return [pair for dialogue in dialogues for pair in dialogue][:count]


def by_dialogue(turns: Sequence[dict[str, Any]]) -> Iterator[list[Pair]]:
    """Questions of a row in groups that belong together, in the order of each dialogue."""
    groups: dict[int, list[Pair]] = {}
    for turn in turns:
        groups.setdefault(turn["dialogue"], []).append((turn["question"], turn["answer"]))
    yield from groups.values()


def texts_of(records: Sequence[FaceRecord], drawn_share: float = 0.0) -> Texts:
    """The texts of records; of a set's written ones this share is drawn anew instead."""
    return WrittenTexts(records, drawn_share) if isinstance(records, SetRecords) else DrawnTexts(records)


def corpus(records: Sequence[FaceRecord], seed: int) -> Iterator[str]:
    """Captions, questions, answers and descriptions to learn a tokenizer from."""
    rng, texts = random.Random(seed), texts_of(records)
    yield from (describe_question(rng) for _ in range(50))
    for row, record in enumerate(records):
        yield from texts.prompts(row, rng)
        if record.labels:
            yield description(record, rng)
        for pair in texts.pairs(row, rng, 4):
            yield from pair
