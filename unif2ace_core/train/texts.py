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
    """The captions and questions of a set; drawn from the labels where it has none."""

    def __init__(self, records: SetRecords) -> None:
        self.records = records
        self.written = {name for name in ("captions", "questions") if records.has(name)}
        self.drawn: Texts | None = None if len(self.written) == 2 else DrawnTexts(records)

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        found = self.records.texts(row)["captions"] if "captions" in self.written else None
        if found:
            odds = [rng.random() ** (1 / STYLE_ODDS[each["style"]]) for each in found]
            return [each["text"] for _, each in sorted(zip(odds, found), key=lambda pair: -pair[0])]
        return self.drawn.prompts(row, rng) if self.drawn else [""]

    def pairs(self, row: int, rng: random.Random, count: int) -> list[Pair]:
        if "questions" not in self.written:
            return self.drawn.pairs(row, rng, count) if self.drawn else []
        dialogues = list(by_dialogue(self.records.texts(row)["questions"] or ()))
        rng.shuffle(dialogues)
        return [pair for dialogue in dialogues for pair in dialogue][:count]


def by_dialogue(turns: Sequence[dict[str, Any]]) -> Iterator[list[Pair]]:
    """Questions of a row in groups that belong together, in the order of each dialogue."""
    groups: dict[int, list[Pair]] = {}
    for turn in turns:
        groups.setdefault(turn["dialogue"], []).append((turn["question"], turn["answer"]))
    yield from groups.values()


def texts_of(records: Sequence[FaceRecord]) -> Texts:
    """The texts of records."""
    return WrittenTexts(records) if isinstance(records, SetRecords) else DrawnTexts(records)


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
