"""`unif2ace data caption` and `unif2ace data questions`: what the labels of each photo allow to be said and asked.

What a photo gets depends on the seed and its key alone, so the same texts come out whatever shard it is in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unif2ace_core.data.balance import LabelRates
from unif2ace_core.data.dense import Caption, make_caption
from unif2ace_core.data.question_kinds import Dialogue, Question
from unif2ace_core.data.question_set import question_rates, question_set
from unif2ace_core.data.shards import RECORD_COLUMNS, Job, Made, Shard, read_shard, records_of, shards_of, with_column
from unif2ace_core.data.sources import FaceRecord

if TYPE_CHECKING:
    import pyarrow as pa

STYLES = ("dense", "medium", "short", "tags")
Rewriter = Callable[[Sequence[Caption], str], tuple[Sequence[Caption], Mapping[str, int]]]  # of a shard, by its name


def own_random(record: FaceRecord, seed: int, stage: str) -> random.Random:
    """Draws for one photo."""
    return random.Random(f"{seed}/{stage}/{record.source}/{record.file}")


# --- Captions ------------------------------------------------------------------------------------------------


def caption_jobs(source: Path, styles: Sequence[str], seed: int, rewriter: Rewriter | None = None) -> list[Job]:
    """Shards with a column `captions`, one text of each style."""
    return [_caption_job(shard, tuple(styles), seed, rewriter) for shard in shards_of(source)]


def _caption_job(shard: Shard, styles: tuple[str, ...], seed: int, rewriter: Rewriter | None) -> Job:
    return Job(shard.name, lambda: _captioned(shard, styles, seed, rewriter))


def _captioned(shard: Shard, styles: tuple[str, ...], seed: int, rewriter: Rewriter | None) -> Made:
    table = read_shard(shard.path)
    rows: list[list[Caption]] = []
    for record in records_of(table):
        rng = own_random(record, seed, "caption")
        rows.append([make_caption(record, style, rng) for style in styles])
    counts: Mapping[str, int] = {}
    if rewriter:
        flat, counts = rewriter([caption for row in rows for caption in row], shard.name)
        rows = [list(flat[start : start + len(styles)]) for start in range(0, len(flat), len(styles))]
    values = [[_caption_value(caption) for caption in row] for row in rows]
    said = Counter(caption.style for row in rows for caption in row for _ in caption.attributes)
    report = {"rows": len(rows), "attributes": dict(said), **counts}
    return Made(with_column(table, "captions", values, caption_type()), report)


def caption_type() -> pa.DataType:
    """The column `captions`: style, text, and what the text says."""
    import pyarrow as pa

    pair = pa.struct([("name", pa.string()), ("value", pa.string())])
    return pa.list_(pa.struct([("style", pa.string()), ("text", pa.string()), ("attributes", pa.list_(pair))]))


def _caption_value(caption: Caption) -> dict[str, Any]:
    said = [{"name": name, "value": value} for name, value in sorted(caption.attributes.items())]
    return {"style": caption.style, "text": caption.text, "attributes": said}


# --- Questions -----------------------------------------------------------------------------------------------


def question_jobs(source: Path, count: int, seed: int) -> list[Job]:
    """Shards with a column `questions`, at least `count` of each photo where its labels allow."""
    rates: list[LabelRates] = []
    return [_question_job(shard, source, count, seed, rates) for shard in shards_of(source)]


def _question_job(shard: Shard, source: Path, count: int, seed: int, rates: list[LabelRates]) -> Job:
    def make() -> Made:
        if not rates:  # of the whole set, read once and only where a shard is missing
            rates.append(question_rates(all_records(source)))
        return _questioned(read_shard(shard.path), count, seed, rates[0])

    return Job(shard.name, make)


def all_records(source: Path) -> Iterable[FaceRecord]:
    """The records of a whole set; images are not read."""
    for shard in shards_of(source):
        yield from records_of(read_shard(shard.path, RECORD_COLUMNS))


def _questioned(table: pa.Table, count: int, seed: int, rates: LabelRates) -> Made:
    values, kinds = [], Counter[str]()
    for record in records_of(table):
        found = question_set(record, own_random(record, seed, "questions"), rates, count)
        values.append([value for number, each in enumerate(found) for value in _question_values(number, each)])
        kinds.update(value["kind"] for value in values[-1])
    report = {"rows": len(values), "questions": sum(kinds.values()), "kinds": dict(sorted(kinds.items()))}
    return Made(with_column(table, "questions", values, question_type()), report)


def question_type() -> pa.DataType:
    """The column `questions`; turns of one dialogue share its number."""
    import pyarrow as pa

    names = ("kind", "family", "question", "answer", "value")
    fields = [("dialogue", pa.int32()), *((name, pa.string()) for name in names)]
    return pa.list_(pa.struct([*fields, ("attributes", pa.list_(pa.string()))]))


def _question_values(number: int, asked: Question | Dialogue) -> list[dict[str, Any]]:
    turns = asked.turns if isinstance(asked, Dialogue) else (asked,)
    return [
        {
            "dialogue": number,
            "kind": turn.kind,
            "family": turn.family,
            "question": turn.question,
            "answer": turn.answer,
            "value": turn.value,
            "attributes": list(turn.attributes),
        }
        for turn in turns
    ]
