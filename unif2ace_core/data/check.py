"""`unif2ace data check`: what is wrong with a set, in one pass over its shards.

    stages.json -> each shard, its report   missing, unreadable, stray
                -> its columns              missing, of another type, other than elsewhere; check_columns.py
                -> each row                 check_rows.py
                -> the whole set            photos twice, copies and persons in two splits

Rows are not kept: of each there remain some fifty bytes, the hashes of its name, person and picture. Damage is a
finding like others, and what can still be read is checked.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unif2ace_core.data.check_columns import Like, feature_faults, first_with_rows, unlike
from unif2ace_core.data.check_rows import COLUMNS, SIGNS, CheckedRow, checks_for, column_faults, faults_of
from unif2ace_core.data.claims import mentions
from unif2ace_core.data.rows import Rows
from unif2ace_core.data.shards import read_stages, shard_names
from unif2ace_core.data.stages.hashes import repeats

if TYPE_CHECKING:
    from pyarrow import parquet

DISTANCE = 6  # signs of 256 in which near copies differ, as `data align` has it
# kind -> what is found, for people
KINDS: dict[str, str] = {
    "shards": "missing, damaged or stray shards",
    "reports": "missing or unreadable reports, or of other rows",
    "columns": "columns missing, of another type, or other than in the first shard",
    "values": "values that the schema does not have",
    "splits": "splits that differ from the shard's name",
    "images": "unreadable images",
    "repeated_photos": "photos that are in the set again",
    "copies_across_splits": "near copies in two splits",
    "persons_across_splits": "persons in two splits",
    "contradictory_labels": "labels that contradict each other",
    "captions": "captions that state something else than is known",
    "questions": "questions whose answers the labels do not confirm",
    "probabilities": "impossible probabilities",
    "features": "stored codes and features that training cannot take",
}


@dataclass(frozen=True)
class Example:
    """One finding: the photo, shard or file, and what is wrong with it."""

    where: str
    what: str


@dataclass
class Group:
    """The findings of a kind: how many, by the rule that they break, and the first ones."""

    count: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


@dataclass
class Findings:
    """What was found, by kind, and how many photos were looked at."""

    limit: int  # examples of a kind
    photos: int = 0
    groups: dict[str, Group] = field(default_factory=lambda: {kind: Group() for kind in KINDS})

    def add(self, kind: str, where: str, what: str, rule: str = "") -> None:
        """One finding; only the first ones are kept."""
        self.count(kind, 1, rule)
        if len(self.groups[kind].examples) < self.limit:
            self.groups[kind].examples.append(Example(where, what))

    def count(self, kind: str, number: int, rule: str = "") -> None:
        """Findings without an example."""
        group = self.groups[kind]
        group.count += number
        if rule:
            group.rules[rule] += number

    @property
    def total(self) -> int:
        """All findings."""
        return sum(group.count for group in self.groups.values())

    def found(self) -> Iterator[tuple[str, Group]]:
        """The kinds of which there are any."""
        yield from ((kind, group) for kind, group in self.groups.items() if group.count)


def check_set(
    directory: Path, distance: int = DISTANCE, limit: int = 5, on_shard: Callable[[], None] | None = None
) -> Findings:
    """Look for all kinds of findings; `limit` examples of each are kept.

    Near copies differ in up to `distance` signs of 256; -1 does not look for them. `on_shard` is called after each
    shard.

    Raises:
        UserError: there is no data set, or it is an export.
    """
    names = shard_names(directory)
    findings, seen = Findings(limit), Seen(first_with_rows(directory, names))
    for name in names:
        _check_shard(directory, name, findings, seen)
        mentions.cache_clear()  # of the texts of questions; it would grow with the set
        if on_shard:
            on_shard()
    for stray in sorted((directory / "data").glob("[!.]*.parquet")):
        if stray.stem not in names:
            findings.add("shards", f"data/{stray.name}", "is not among the shards of stages.json; remove it", "stray")
    _check_whole(findings, seen, distance)
    return findings


# --- Shards --------------------------------------------------------------------------------------------------


def _check_shard(directory: Path, name: str, findings: Findings, seen: Seen) -> None:
    """A shard, row group by row group, and its report."""
    import pyarrow as pa
    from pyarrow import parquet

    path, where = directory / "data" / f"{name}.parquet", f"data/{name}.parquet"
    if not path.is_file():
        findings.add("shards", where, "is missing; run the last stage again", "missing")
        return
    try:
        with parquet.ParquetFile(path) as file:
            _check_report(directory, name, file.metadata.num_rows, findings)
            _check_groups(file, path, findings, seen)
    except (OSError, pa.ArrowException) as error:
        findings.add("shards", where, f"cannot be read ({_said(error)}); delete it and run its stage again", "damaged")


def _check_groups(file: parquet.ParquetFile, path: Path, findings: Findings, seen: Seen) -> None:
    """The columns of a shard, then its rows, so many at a time as lie together; damaged groups are passed over."""
    import pyarrow as pa

    where, wrong = f"data/{path.name}", column_faults(file.schema_arrow)
    apart = unlike(file.schema_arrow, seen.like, not file.metadata.num_rows) if seen.like else {}
    for column, what in {**apart, **wrong}.items():
        findings.add("columns", where, f"column {column} is {what}", column)
    columns = [name for name in COLUMNS if name in file.schema_arrow.names and name not in wrong]
    for group in range(file.num_row_groups):
        try:
            table = file.read_row_group(group)  # all of it: damage is noticed in columns too that are not looked at
            table.validate(full=True)
            rows = table.select(columns).to_pylist()
        except (OSError, pa.ArrowException) as error:
            findings.add("shards", where, f"rows of group {group} cannot be read ({_said(error)})", "damaged")
            continue
        _check_rows(rows, columns, seen.begin(path, group), findings)
        for number, fault in feature_faults(table, seen.lengths):
            findings.add(fault.kind, f"{CheckedRow(rows[number], '').name} ({seen.split})", fault.what, fault.rule)


def _check_rows(rows: list[dict[str, Any]], columns: Sequence[str], seen: Seen, findings: Findings) -> None:
    """Rows that lie together in a shard."""
    checks, split = checks_for(set(columns)), seen.split
    named = {"source", "file", "split"} <= set(columns)
    for values in rows:
        row = CheckedRow(values, split)
        for fault in faults_of(row, checks):
            findings.add(fault.kind, f"{row.name} ({split})", fault.what, fault.rule)
        if named:
            seen.add(row)
    findings.photos += len(rows)


def _check_report(directory: Path, name: str, rows: int, findings: Findings) -> None:
    """What the last stage said of a shard."""
    stages = read_stages(directory)
    if not stages:
        return
    path = directory / "reports" / str(stages[-1]["stage"]) / f"{name}.json"
    where = path.relative_to(directory).as_posix()
    if not path.is_file():
        findings.add("reports", where, "is missing", "missing")
        return
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        told = report.get("kept", report.get("rows", rows))
    except (OSError, ValueError, AttributeError) as error:
        findings.add("reports", where, f"cannot be read ({_said(error)})", "unreadable")
        return
    if told != rows:
        findings.add("reports", where, f"tells of {told} rows, the shard has {rows}", "other rows")


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


# --- The whole set ---------------------------------------------------------------------------------------------


def _key(*parts: str) -> int:
    """64 bits of names; never 0."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little") or 1


class Seen:
    """What remains of the rows: hashes by place, in the order of the shards, and the way back to a row's name."""

    def __init__(self, like: Like | None) -> None:
        self.like, self.lengths = like, dict[str, int]()  # what other shards have to have, too
        self.names, self.persons, self.splits = array("Q"), array("Q"), array("B")
        self.hashes, self.hashed = bytearray(), array("Q")  # of the pictures, and the places that have one
        self.split_names: list[str] = []
        self.split = ""  # of the shard at hand
        self._groups: list[tuple[int, Path, int]] = []  # first place, shard, row group

    def begin(self, path: Path, group: int) -> Seen:
        """The rows that come now are of this row group."""
        self.split = path.stem.rpartition("-")[0]
        if self.split not in self.split_names:
            self.split_names.append(self.split)
        self._groups.append((len(self.names), path, group))
        return self

    def add(self, row: CheckedRow) -> None:
        """The next row."""
        values = row.values
        if row.phash is not None:
            self.hashed.append(len(self.names))
            self.hashes += row.phash
        self.names.append(_key(str(values["source"]), str(values["file"])))
        person = values.get("person")
        self.persons.append(0 if person is None else _key(str(values["source"]), person))
        self.splits.append(self.split_names.index(self.split))

    def name(self, place: int) -> str:
        """Which photo is at a place, read from its shard again."""
        from pyarrow import parquet

        first, path, group = self._groups[bisect_right(self._groups, place, key=lambda entry: entry[0]) - 1]
        with parquet.ParquetFile(path) as file:
            row = file.read_row_group(group, columns=["source", "file"]).slice(place - first, 1).to_pylist()[0]
        return f"{row['source']}/{row['file']} ({self.split_names[self.splits[place]]})"


def _check_whole(findings: Findings, seen: Seen, distance: int) -> None:
    """What shows only when all rows are known."""
    if len(seen.names):
        _repeated(findings, seen)
        _persons(findings, seen)
        _copies(findings, seen, distance)


def _repeated(findings: Findings, seen: Seen) -> None:
    """Names that come again."""
    names = np.frombuffer(seen.names, np.uint64)
    order = np.argsort(names, kind="stable")
    again = np.flatnonzero(names[order][1:] == names[order][:-1]) + 1  # in `order`, behind the same name
    findings.count("repeated_photos", len(again))
    first = sorted((int(order[each]), int(order[each - 1])) for each in again)[: findings.limit]
    group = findings.groups["repeated_photos"]
    group.examples += [Example(seen.name(place), f"is there before, as {seen.name(other)}") for place, other in first]


def _persons(findings: Findings, seen: Seen) -> None:
    """Persons whose photos are in several splits; they are named by two of the photos, not by themselves."""
    persons, splits = np.frombuffer(seen.persons, np.uint64), np.frombuffer(seen.splits, np.uint8)
    by_split = [np.unique(persons[(splits == number) & (persons > 0)]) for number in range(len(seen.split_names))]
    found, times = np.unique(np.concatenate(by_split), return_counts=True)
    leaked = found[times > 1]
    findings.count("persons_across_splits", len(leaked))
    for person in leaked[: findings.limit]:
        places = np.flatnonzero(persons == person)
        other = next(place for place in places if splits[place] != splits[places[0]])
        what = f"shows a person who is in another split too, in {seen.name(int(places[0]))}"
        findings.groups["persons_across_splits"].examples.append(Example(seen.name(int(other)), what))


# --- Copies --------------------------------------------------------------------------------------------------


class _Hashes(Rows[str]):
    """Hashes of some photos as `repeats` takes them, made from their bytes when they are asked for."""

    def __init__(self, signs: np.ndarray, order: np.ndarray) -> None:
        self.signs, self.order = signs, order

    def __len__(self) -> int:
        return len(self.order)

    def row(self, number: int) -> str:
        return self.signs[self.order[number]].tobytes().hex()


_ROUNDS = 4  # copies of copies of copies are rare


def _copies(findings: Findings, seen: Seen, distance: int) -> None:
    """Photos that repeat one of another split."""
    if distance < 0 or not seen.hashed:
        return
    signs, places = np.frombuffer(seen.hashes, np.uint8).reshape(-1, SIGNS), np.frombuffer(seen.hashed, np.uint64)
    splits = np.frombuffer(seen.splits, np.uint8)[places.astype(np.int64)]
    leaks = _leaks(signs, splits, distance)
    findings.count("copies_across_splits", len(leaks))
    for copy in sorted(leaks)[: findings.limit]:
        first = leaks[copy]
        differ = int(np.unpackbits(signs[copy] ^ signs[first]).sum())
        what = f"is a near copy of {seen.name(int(places[first]))}: {differ} of {8 * SIGNS} signs differ"
        findings.groups["copies_across_splits"].examples.append(Example(seen.name(int(places[copy])), what))


def _leaks(signs: np.ndarray, splits: np.ndarray, distance: int) -> dict[int, int]:
    """Photos -> one of another split that they repeat.

    `repeats` compares with photos that repeat none themselves. So those that repeat one of their own split are put in
    front and all compared again: what is near to them alone is found then.
    """
    leaks: dict[int, int] = {}
    front = np.zeros(0, np.int64)
    for _ in range(_ROUNDS):
        order = np.concatenate([front, np.setdiff1d(np.arange(len(signs)), front)])
        found = repeats(_Hashes(signs, order), distance)
        near = {int(order[copy]): int(order[first]) for copy, first in found.items()}
        across = {copy: first for copy, first in near.items() if splits[copy] != splits[first]}
        for copy, first in across.items():
            if leaks.get(first) != copy:  # the same two in the other order
                leaks.setdefault(copy, first)
        left = near.keys() - across.keys()
        front = np.array(sorted(left & set(front.tolist()) if len(front) else left), np.int64)
        if not len(front):
            break
    return leaks
