"""`unif2ace data stats`: the figures of a set, counted in one pass over its shards.

Photos are read for the samples alone. What is kept grows with the values that occur, not with the rows, but for twelve
bytes a row: its age and a hash of its person.

`figures` gives plain data, which the command prints, --json writes, and stats_page.py draws.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unif2ace_core.data.answers import read_yes_no
from unif2ace_core.data.attributes import BINARY, BY_NAME, SCHEMA
from unif2ace_core.data.card import columns_of
from unif2ace_core.data.sets import row_count, row_groups
from unif2ace_core.data.shards import RECORD_COLUMNS, Shard, read_stages, shards_of
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
ENOUGH = 8  # questions of a photo
COLUMNS = (*RECORD_COLUMNS, "probabilities", "captions", "questions")
Tokens = Callable[[str], int]


@dataclass(frozen=True)
class Sample:
    """A photo with its texts, to look at; who it shows is left out."""

    source: str
    file: str
    split: str
    image: bytes | None
    captions: tuple[tuple[str, str], ...]  # style, text
    questions: tuple[tuple[str, str], ...]  # question, answer


@dataclass
class Texts:
    """Captions of one style and source."""

    attributes: Counter[int] = field(default_factory=Counter)  # how many a caption states -> captions
    words: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: Texts) -> Texts:
        return Texts(self.attributes + other.attributes, self.words + other.words, self.tokens + other.tokens)


@dataclass
class Counts:
    """What the pass counts."""

    photos: Counter[tuple[str, str]] = field(default_factory=Counter)  # split, source
    persons: array = field(default_factory=lambda: array("Q"))
    ages: array = field(default_factory=lambda: array("f"))
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_model: Counter[str] = field(default_factory=Counter)
    both: np.ndarray = field(default_factory=lambda: np.zeros((len(BINARY),) * 2, np.int64))  # yes and yes
    yes: np.ndarray = field(default_factory=lambda: np.zeros((len(BINARY),) * 2, np.int64))  # yes, the other known
    known: np.ndarray = field(default_factory=lambda: np.zeros((len(BINARY),) * 2, np.int64))  # both known
    captions: dict[tuple[str, str], Texts] = field(default_factory=lambda: defaultdict(Texts))  # style, source
    said: Counter[str] = field(default_factory=Counter)
    per_photo: Counter[int] = field(default_factory=Counter)  # questions
    kinds: Counter[str] = field(default_factory=Counter)
    dialogues: int = 0
    answers: Counter[tuple[str, bool]] = field(default_factory=Counter)  # attribute, whether yes
    asked: Counter[str] = field(default_factory=Counter)


def collect(
    directory: Path, tokens: Tokens, samples: int = 0, seed: int = 0, on_shard: Callable[[], None] | None = None
) -> tuple[dict[str, Any], list[Sample]]:
    """The figures of a set, and some of its photos, drawn by `seed`; `tokens` counts those of a text.

    Raises:
        UserError: there is no set, or a shard is missing, damaged or not of a set.
    """
    shards = shards_of(directory)
    chosen, counts, found, first = _chosen(shards, samples, seed), Counts(), list[Sample](), 0
    for shard in shards:
        columns = _columns(shard)
        for group, table in enumerate(row_groups(shard, columns)):
            _count(table, counts, tokens)
            rows = [place - first for place in chosen if first <= place < first + len(table)]
            found += _samples(shard, group, table, rows) if rows else ()
            first += len(table)
        if on_shard:
            on_shard()
    return figures(directory, shards, counts), found


def _chosen(shards: Sequence[Shard], samples: int, seed: int) -> list[int]:
    """Places of the samples among all rows."""
    total = sum(row_count(shard) for shard in shards) if samples else 0
    return sorted(random.Random(seed).sample(range(total), min(samples, total)))


def _columns(shard: Shard) -> list[str]:
    """The columns of a shard that are counted; `UserError` where it lacks what every set has."""
    there = columns_of(shard.path)
    if missing := [name for name in RECORD_COLUMNS if name not in there]:
        raise UserError(f"{shard.path} has no column {missing[0]!r}; it is not of a set made by 'unif2ace data'")
    return [name for name in COLUMNS if name in there]


def _samples(shard: Shard, group: int, table: pa.Table, rows: Sequence[int]) -> Iterator[Sample]:
    """Some rows of a row group, with their images."""
    from pyarrow import parquet

    with parquet.ParquetFile(shard.path) as file:
        images = file.read_row_group(group, columns=["image"])
    for number in rows:
        row = table.slice(number, 1).to_pylist()[0]
        image = images["image"][number].as_py() or {}
        captions = tuple((each["style"] or "", each["text"] or "") for each in row.get("captions") or ())
        questions = tuple((each["question"] or "", each["answer"] or "") for each in row.get("questions") or ())
        yield Sample(row["source"], row["file"], row["split"], image.get("bytes"), captions, questions)


# --- Counting ------------------------------------------------------------------------------------------------


def _count(table: pa.Table, counts: Counts, tokens: Tokens) -> None:
    """Add the rows of a row group."""
    sources = table["source"].to_pylist()
    counts.photos.update(zip(table["split"].to_pylist(), sources))
    for source, person in zip(sources, table["person"].to_pylist()):
        if person is not None:
            key = hashlib.blake2b(f"{source}\0{person}".encode(), digest_size=8).digest()
            counts.persons.append(int.from_bytes(key, "little"))
    counts.ages.extend(age for age in table["age"].to_pylist() if age is not None)
    _count_labels(table, counts)
    if "captions" in table.column_names:
        _count_captions(sources, table["captions"].to_pylist(), counts, tokens)
    if "questions" in table.column_names:
        _count_questions(table["questions"].to_pylist(), counts)


def _fields(table: pa.Table, column: str) -> dict[str, pa.Array]:
    """The fields of a struct column, null where the whole is."""
    values = table[column].combine_chunks()
    return {field.name: array for field, array in zip(values.type, values.flatten()) if field.name in BY_NAME}


def _count_labels(table: pa.Table, counts: Counts) -> None:
    from pyarrow import compute

    labels = _fields(table, "labels")
    for name, values in labels.items():
        for each in compute.value_counts(values.drop_null()).to_pylist():
            counts.labels[name][each["values"]] += each["counts"]
    if "probabilities" in table.column_names:
        for name, values in _fields(table, "probabilities").items():
            if name in labels:
                filled = compute.and_(values.is_valid(), labels[name].is_valid())
                counts.by_model[name] += compute.sum(filled).as_py() or 0
    yes = _matrix(table, labels, "yes")
    known = yes + _matrix(table, labels, "no")
    counts.both += (yes.T @ yes).astype(np.int64)
    counts.yes += (yes.T @ known).astype(np.int64)
    counts.known += (known.T @ known).astype(np.int64)


def _matrix(table: pa.Table, labels: Mapping[str, pa.Array], value: str) -> np.ndarray:
    """(rows, binary attributes) float64: 1 where the label is `value`."""
    from pyarrow import compute

    found = np.zeros((len(table), len(BINARY)))
    for column, name in enumerate(BINARY):
        if name in labels:
            equal = compute.fill_null(compute.equal(labels[name], value), False)
            found[:, column] = equal.to_numpy(zero_copy_only=False)
    return found


def _count_captions(sources: Sequence[str], rows: Sequence[Any], counts: Counts, tokens: Tokens) -> None:
    for source, row in zip(sources, rows):
        for caption in row or ():
            names = [pair["name"] for pair in caption["attributes"] or ()]
            text, texts = caption["text"] or "", counts.captions[caption["style"] or "", source]
            texts.attributes[len(names)] += 1
            texts.words[len(text.split())] += 1
            texts.tokens[tokens(text)] += 1
            counts.said.update(names)


def _count_questions(rows: Sequence[Any], counts: Counts) -> None:
    for row in rows:
        asked = row or ()
        counts.per_photo[len(asked)] += 1
        counts.dialogues += sum(turns > 1 for turns in Counter(each["dialogue"] for each in asked).values())
        for each in asked:
            counts.kinds[each["kind"]] += 1
            names = each["attributes"] or ()
            if each["kind"] != "unanswerable":  # those are about what is not known
                counts.asked.update(names)
            if each["kind"] == "yes_no" and names:
                said = read_yes_no(each["answer"] or "")
                if said is not None:
                    counts.answers[names[0], said] += 1


# --- Figures -------------------------------------------------------------------------------------------------


def figures(directory: Path, shards: Sequence[Shard], counts: Counts) -> dict[str, Any]:
    """What was counted, as JSON has it."""
    columns = columns_of(shards[0].path)
    return {
        "set": str(directory),
        "photos": counts.photos.total(),
        "shards": len(shards),
        "stages": [stage["stage"] for stage in read_stages(directory)],
        "columns": columns,
        "by_split": [
            {"split": split, "source": source, "photos": count} for (split, source), count in sorted(_known(counts))
        ],
        "persons": _persons(counts),
        "ages": _ages(counts.ages),
        "attributes": {name: _attribute(name, counts) for name in BY_NAME},
        "co_occurrence": _co_occurrence(counts),
        "captions": _captions(counts) if "captions" in columns else None,
        "questions": _questions(counts) if "questions" in columns else None,
    }


def _known(counts: Counts) -> Iterator[tuple[tuple[str, str], int]]:
    """Photos by split and source; what is null is "unknown"."""
    for (split, source), count in counts.photos.items():
        yield (split or "unknown", source or "unknown"), count


def _persons(counts: Counts) -> dict[str, int]:
    found = np.frombuffer(counts.persons, np.uint64) if len(counts.persons) else np.zeros(0, np.uint64)
    return {"persons": len(np.unique(found)), "photos": len(found)}


def _ages(found: array) -> dict[str, Any]:
    ages = np.frombuffer(found, np.float32) if len(found) else np.zeros(0, np.float32)
    ages = ages[np.isfinite(ages)]
    quantiles = np.quantile(ages, QUANTILES).tolist() if len(ages) else []
    decades = Counter((np.floor(ages / 5).astype(int) * 5).tolist())
    return {
        "known": len(ages),
        "quantiles": {f"{q:g}": round(value, 1) for q, value in zip(QUANTILES, quantiles)},
        "by_five_years": {str(age): decades[age] for age in sorted(decades)},
    }


def _attribute(name: str, counts: Counts) -> dict[str, Any]:
    """How often an attribute is known, the share of each value among these, and of those that a model filled."""
    values = counts.labels[name]
    known = values.total()
    ordered = [*BY_NAME[name].values, *sorted(values.keys() - set(BY_NAME[name].values))]
    return {
        "known": known,
        "by_model": counts.by_model[name],
        "counts": {value: values[value] for value in ordered if values[value]},
        "shares": {value: round(values[value] / known, 4) for value in ordered if values[value]},
    }


def _co_occurrence(counts: Counts) -> dict[str, Any]:
    """Of all binary attributes: photos with both, phi (-1..1) and lift of the two yes-values.

    Among the photos of which both are known; phi is null where one of the two never varies.
    """
    n, both = counts.known.astype(float), counts.both.astype(float)
    one, other = counts.yes.astype(float), counts.yes.T.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = (n * both - one * other) / np.sqrt(one * (n - one) * other * (n - other))
        lift = n * both / (one * other)
    shown = [i for i in range(len(BINARY)) if counts.yes[i, i]]
    cut = np.ix_(shown, shown)
    return {
        "names": [BINARY[i] for i in shown],
        "photos": counts.both[cut].tolist(),
        "phi": _rounded(phi[cut]),
        "lift": _rounded(lift[cut]),
    }


def _rounded(values: np.ndarray) -> list[list[float | None]]:
    return [[round(float(value), 3) if np.isfinite(value) else None for value in row] for row in values]


def strongest(co_occurrence: Mapping[str, Any], count: int) -> list[tuple[str, str, float, int]]:
    """The pairs with the greatest |phi|: names, phi, photos with both."""
    names, phi = co_occurrence["names"], co_occurrence["phi"]
    pairs = [
        (names[i], names[j], phi[i][j], co_occurrence["photos"][i][j])
        for i in range(len(names))
        for j in range(i)
        if phi[i][j] is not None
    ]
    return sorted(pairs, key=lambda pair: (-abs(pair[2]), pair[:2]))[:count]


# --- Figures of texts ------------------------------------------------------------------------------------------


def _captions(counts: Counts) -> dict[str, Any]:
    styles: dict[str, Texts] = {}
    for (style, _), texts in counts.captions.items():
        styles[style] = styles.get(style, Texts()) + texts
    by_source = {
        style: {source: _texts(texts) for (each, source), texts in sorted(counts.captions.items()) if each == style}
        for style in styles
    }
    return {
        "captions": sum(texts.words.total() for texts in styles.values()),
        "styles": {
            style: {**_texts(texts), "by_source": by_source[style], "histograms": _histograms(texts)}
            for style, texts in styles.items()
        },
        **_covered(counts.said),
    }


def _texts(texts: Texts) -> dict[str, Any]:
    """How many captions, and the means of what they hold."""
    return {
        "captions": texts.words.total(),
        "attributes": _mean(texts.attributes),
        "words": _mean(texts.words),
        "tokens": _mean(texts.tokens),
        "most_tokens": max(texts.tokens, default=0),
    }


def _histograms(texts: Texts) -> dict[str, dict[str, int]]:
    parts = {"attributes": texts.attributes, "words": texts.words, "tokens": texts.tokens}
    return {name: {str(key): counted[key] for key in sorted(counted)} for name, counted in parts.items()}


def _mean(counted: Counter[int]) -> float:
    return round(sum(value * count for value, count in counted.items()) / max(1, counted.total()), 2)


def _covered(names: Iterable[str]) -> dict[str, Any]:
    """How many of the schema's categories are among `names`, and which are not."""
    there = set(names)
    return {"categories": len(there & BY_NAME.keys()), "not_covered": [a.name for a in SCHEMA if a.name not in there]}


def _questions(counts: Counts) -> dict[str, Any]:
    per_photo = counts.per_photo
    return {
        "questions": counts.kinds.total(),
        "per_photo": _mean(per_photo),
        "least": min(per_photo, default=0),
        "below_8": sum(count for number, count in per_photo.items() if number < ENOUGH),
        "histogram": {str(number): per_photo[number] for number in sorted(per_photo)},
        "kinds": dict(counts.kinds.most_common()),
        "dialogues": counts.dialogues,
        "yes_no": {name: _balance(name, counts) for name in sorted({name for name, _ in counts.answers})},
        **_covered(counts.asked),
    }


def _balance(name: str, counts: Counts) -> dict[str, Any]:
    """Yes/no questions on an attribute, and the share that is answered with yes."""
    yes, no = counts.answers[name, True], counts.answers[name, False]
    return {"questions": yes + no, "yes": round(yes / (yes + no), 4)}
