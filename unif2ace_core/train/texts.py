"""What is said of a training photo: drawn from its labels each time, or as a set of `unif2ace data` has it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from unif2ace_core.data.captions import STYLE_ODDS, caption
from unif2ace_core.data.lots import by_lot
from unif2ace_core.data.questions import describe_question, description, label_rates, questions
from unif2ace_core.data.sets import SetRecords
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import ASKED
from unif2ace_core.errors import UserError
from unif2ace_core.train.options import factors_of
from unif2ace_core.train.taught import TaughtRecords


class Pair(NamedTuple):
    """A question with its answer."""

    question: str
    answer: str
    doubt: float = 0.0  # probability of the contrary, where the answer says yes or no


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

    def __init__(
        self,
        records: Sequence[FaceRecord],
        ask_more: Mapping[str, float] | None = None,
        asked: Sequence[FaceRecord] | None = None,
    ) -> None:
        """`ask_more`: yes/no attributes asked about so many times as often; `asked`: what answers say of each row."""
        self.records, self.asked = records, records if asked is None else asked
        self.rates = label_rates(self.asked).lifted(ask_more or {})

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        return [caption(self.records[row], rng, "mixed")]

    def pairs(self, row: int, rng: random.Random, count: int) -> list[Pair]:
        found = questions(self.asked[row], rng, count, self.rates)
        return [Pair(each.question, each.answer, self.doubt(row, each.attribute)) for each in found]

    def doubt(self, row: int, attribute: str) -> float:
        """How probable the other value of an attribute is than the one stated."""
        return self.asked.doubt(row, attribute) if isinstance(self.asked, TaughtRecords) else 0.0


class WrittenTexts:
    """The captions and questions of a set; drawn from the labels where it has none.

    A written row has few texts, the same ones each time: `drawn_share` is how often they are drawn anew instead.
    """

    def __init__(
        self,
        records: SetRecords,
        drawn_share: float = 0.0,
        ask_more: Mapping[str, float] | None = None,
        asked: Sequence[FaceRecord] | None = None,
    ) -> None:
        self.records, self.drawn_share = records, drawn_share
        self.written = {name for name in ("captions", "questions") if records.has(name)}
        needed = len(self.written) < 2 or drawn_share > 0
        if (ask_more or asked is not None) and not needed:
            name = "ask_more" if ask_more else "taught"
            raise UserError(f"{name} acts on drawn texts, and the set's own are taken; give drawn_share too")
        self.drawn: Texts | None = DrawnTexts(records, ask_more, asked) if needed else None

    def prompts(self, row: int, rng: random.Random) -> list[str]:
        found = None if self.is_drawn("captions", rng) else self.records.texts(row)["captions"]
        if not found:
            return self.drawn.prompts(row, rng) if self.drawn else [""]
        return [each["text"] for each in by_lot(found, lambda each: STYLE_ODDS[each["style"]], rng)]

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
        groups.setdefault(turn["dialogue"], []).append(Pair(turn["question"], turn["answer"]))
    yield from groups.values()


def texts_of(
    records: Sequence[FaceRecord],
    drawn_share: float = 0.0,
    ask_more: Mapping[str, float] | None = None,
    asked: Sequence[FaceRecord] | None = None,
) -> Texts:
    """The texts of records; of a set's written ones this share is drawn anew instead.

    `asked`: the same records as drawn questions shall see them.
    """
    if isinstance(records, SetRecords):
        return WrittenTexts(records, drawn_share, ask_more, asked)
    return DrawnTexts(records, ask_more, asked)


def parse_factors(words: Sequence[str]) -> dict[str, float]:
    """The setting `ask_more`; see `factors_of`."""
    return factors_of(words, "ask_more", ASKED, "yes/no attribute", "Bangs:3")


def corpus(records: Sequence[FaceRecord], seed: int) -> Iterator[str]:
    """Captions, questions, answers and descriptions to learn a tokenizer from."""
    rng, texts = random.Random(seed), texts_of(records)
    yield from (describe_question(rng) for _ in range(50))
    for row, record in enumerate(records):
        yield from texts.prompts(row, rng)
        if record.labels:
            yield description(record, rng)
        for pair in texts.pairs(row, rng, 4):
            yield from (pair.question, pair.answer)
