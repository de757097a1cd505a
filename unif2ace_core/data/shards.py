"""A face data set on disk: Parquet shards with the images inside, as the hub and HF `datasets` read them.

    DIR/README.md                         data-set card; its first lines tell the hub which files belong to which split
    DIR/stages.json                       what is done, in order, with which settings, and the shards it makes
    DIR/data/train-00000.parquet, ...     rows; every stage keeps the names of its input's shards
    DIR/reports/STAGE/train-00000.json    what a stage has to say about a shard, e.g. the photos it dropped

A stage reads one shard and writes one shard. A shard is complete or absent (temporary name, rename), and depends on its
input alone: so an interrupted stage goes on where it stopped, processes share the shards among them, and the bytes are
the same however often it was interrupted and however many processes worked.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import replacing, write_text_atomic

if TYPE_CHECKING:
    import pyarrow as pa

STAGES = "stages.json"
PARQUET = ".parquet"
EXPORT = "export"  # the stage whose shards are no Parquet files
RECORD_COLUMNS = ["source", "file", "split", "labels", "age", "person"]
PATIENCE = 6 * 3600.0  # seconds to wait for other processes
VERSION = 1  # of the stages; goes up when one of them makes something else from the same input


def base_schema() -> pa.Schema:
    """Columns that every data set has; `features` tells HF `datasets` that `image` is an image."""
    import pyarrow as pa

    return pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("source", pa.string()),
            ("file", pa.string()),
            ("split", pa.string()),
            ("person", pa.string()),  # groups photos of one person; null: unknown
            ("age", pa.float32()),  # years; null: unknown
            ("labels", pa.struct([(a.name, pa.string()) for a in SCHEMA])),  # null: unknown
            ("probabilities", pa.struct([(a.name, pa.float32()) for a in SCHEMA])),  # of labels by a model; else null
            ("landmarks", pa.list_(pa.list_(pa.float32()))),  # five points x, y in pixels of `image`; null: unknown
            ("source_captions", pa.list_(pa.string())),  # texts that the source brought
            ("source_questions", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))),
        ]
    )


@dataclass(frozen=True)
class Shard:
    """One file of rows; `split` and `number` are in its name."""

    path: Path

    @property
    def name(self) -> str:
        """`train-00000`."""
        return self.path.stem


def shard_name(split: str, number: int) -> str:
    """`train-00000`."""
    return f"{split}-{number:05d}"


def shards_of(directory: Path) -> list[Shard]:
    """The shards of a complete data set, by name.

    Raises:
        UserError: there is no data set, or its stage has not ended, or it is an export.
    """
    book = read_book(directory)
    names, stages = book.get("shards") or [], book.get("stages") or [{}]
    if stages[-1].get("stage") == EXPORT:
        raise UserError(f"{directory} is an export; take the set it was made of, or 'unif2ace data import webdataset'")
    if not names:
        raise UserError(f"{directory} holds no data set; 'unif2ace data import' makes one")
    found = [Shard(directory / "data" / f"{name}{PARQUET}") for name in names]
    if missing := [shard.name for shard in found if not shard.path.is_file()]:
        again = f"run 'unif2ace data {stages[-1]['stage']}' on it again, which goes on there"
        raise UserError(f"{directory} lacks {missing[0]}; {again}")
    return found


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, all columns or some.

    Raises:
        UserError: it is unreadable, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no readable Parquet file ({error}); delete it and run its stage again") from error
    wanted = columns or ("image", *RECORD_COLUMNS)
    if missing := [name for name in wanted if name not in table.column_names]:
        raise UserError(f"{path} has no column {missing[0]!r}; it is not of a data set made by 'unif2ace data'")
    return table


def write_shard(path: Path, table: pa.Table) -> None:
    """Write rows whole or not at all; the same rows give the same bytes."""
    from pyarrow import parquet

    table = table.replace_schema_metadata({"huggingface": hub_features(table.schema)})
    with (
        replacing(path) as temporary,
        parquet.ParquetWriter(temporary, table.schema, compression="zstd", write_page_index=False) as writer,
    ):
        if len(table):  # HF `datasets` cannot read a row group without rows
            writer.write_table(table, row_group_size=256)


@lru_cache(maxsize=8)
def hub_features(schema: pa.Schema) -> str:
    """What HF `datasets` reads off a Parquet file: its columns, and that `image` is an image."""
    from datasets import Features, Image

    features = Features.from_arrow_schema(schema.remove_metadata())
    features["image"] = Image()
    return json.dumps({"info": {"features": features.to_dict()}})


def record_of(row: Mapping[str, Any]) -> FaceRecord:
    """What is known of a row's photo."""
    labels = {name: value for name, value in row["labels"].items() if value is not None}
    return FaceRecord(row["source"], row["file"], row["split"], labels, row["age"], row["person"])


def records_of(table: pa.Table) -> Iterator[FaceRecord]:
    """The records of a shard's rows; images are not touched."""
    for row in table.select(RECORD_COLUMNS).to_pylist():
        yield record_of(row)


def row_of(
    record: FaceRecord,
    image: bytes,
    landmarks: Sequence[Sequence[float]] | None = None,
    captions: Sequence[str] = (),
    questions: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """A row of `base_schema`."""
    return {
        "image": {"bytes": image, "path": record.file},
        "source": record.source,
        "file": record.file,
        "split": record.split,
        "person": record.person,
        "age": record.age,
        "labels": {a.name: record.labels.get(a.name) for a in SCHEMA},
        "probabilities": dict.fromkeys(a.name for a in SCHEMA),
        "landmarks": None if landmarks is None else [list(point) for point in landmarks],
        "source_captions": list(captions),
        "source_questions": [{"question": question, "answer": answer} for question, answer in questions],
    }


def read_book(directory: Path) -> dict[str, Any]:
    """stages.json; {} where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = directory / STAGES
    return read_json(path) if path.is_file() else {}


def read_stages(directory: Path) -> list[dict[str, Any]]:
    """What was done to a data set, in order; [] where nothing is written down."""
    return list(read_book(directory).get("stages") or [])


# --- Stages ------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What a job makes: the rows of a shard, and what there is to say of it."""

    table: pa.Table
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One shard to be made; the same whenever and by whomever it is run."""

    name: str  # train-00000
    make: Callable[[], Made]
    suffix: str = PARQUET
    write: Callable[[Path, pa.Table], None] | None = None  # `write_shard` where there is none

    def path(self, output: Path) -> Path:
        """Where the shard of a set lies."""
        return output / "data" / f"{self.name}{self.suffix}"


@dataclass(frozen=True)
class Share:
    """Which of the jobs a process does."""

    index: int = 0
    count: int = 1


def own_share() -> Share:
    """This process's among those of `accelerate launch`, which says so in the environment; all of them alone."""
    index, count = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if index.isdigit() and count.isdigit() and int(index) < int(count):
        return Share(int(index), int(count))
    return Share()


def run_stage(
    output: Path,
    stages: Sequence[Mapping[str, Any]],
    jobs: Sequence[Job],
    share: Share | None = None,
    on_done: Callable[[Job], None] | None = None,
) -> int:
    """Make the shards that are not there yet; returns how many this process made.

    `stages` says how the whole set is made, this stage last: a folder that was begun otherwise is refused.

    Raises:
        UserError: `output` holds a data set made in another way.
    """
    share = share or own_share()
    begin(output, stages, jobs)
    made, reports = 0, output / "reports" / str(stages[-1]["stage"])
    for job in jobs[share.index :: share.count]:
        path = job.path(output)
        clear(path, reports / f"{job.name}.json")
        if not path.is_file():
            made += _run(output, str(stages[-1]["stage"]), job)
        if on_done:
            on_done(job)
    return made


def clear(*paths: Path) -> None:
    """Remove what a killed process left of these files."""
    for path in paths:
        for rest in path.parent.glob(f".{path.name}.*.tmp"):
            rest.unlink(missing_ok=True)


def _run(output: Path, stage: str, job: Job) -> bool:
    """Make a shard and its report; returns whether it was this process that did."""
    path = job.path(output)
    try:
        result = job.make()
    except UserError:
        if path.is_file():  # another process made it meanwhile, and has removed what it was made of
            return False
        raise
    report = json.dumps(result.report, indent=1, sort_keys=True) + "\n"
    write_text_atomic(output / "reports" / stage / f"{job.name}.json", report)
    (job.write or write_shard)(path, result.table)
    return True


def begin(output: Path, stages: Sequence[Mapping[str, Any]], jobs: Sequence[Job]) -> None:
    """Write down how a set is going to be made, or check that it was begun in this way.

    Raises:
        UserError: it was not, or there is nothing to make, or something else is in the way.
    """
    if not jobs:
        raise UserError("there are no photos; check the source")
    book = json.loads(json.dumps({"stages": list(stages), "shards": [job.name for job in jobs]}))
    known = read_book(output)
    if not known:
        if (output / "data").exists() and any((output / "data").iterdir()):
            raise UserError(f"{output}/data is not empty and not of a data set; choose another --output")
        write_text_atomic(output / STAGES, json.dumps(book, indent=1) + "\n")
    elif known != book:
        changed = difference(known.get("stages") or [], book["stages"])
        raise UserError(f"{output} was begun otherwise ({changed}); repeat that, or choose another --output")


def difference(known: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> str:
    """The first thing in which two ways to make a set differ."""
    for old, new in zip(known, stages):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                return f"{old.get('stage', new.get('stage'))}: {name} {old.get(name)!r}, now {new.get(name)!r}"
    return f"{len(known)} stages, now {len(stages)}" if len(known) != len(stages) else "other shards"


def is_complete(output: Path, jobs: Sequence[Job]) -> bool:
    """Whether every shard is there."""
    return all(job.path(output).is_file() for job in jobs)


def wait_for(output: Path, jobs: Sequence[Job]) -> None:
    """Return when all shards are there, which other processes make, or when `output` was removed as used up.

    Raises:
        UserError: they do not come.
    """
    until = time.monotonic() + PATIENCE
    while not is_complete(output, jobs) and (output / STAGES).is_file():
        if time.monotonic() > until:
            raise UserError(f"{output} lacks shards of other processes; run the stage again")
        time.sleep(0.2)


def reports_of(directory: Path, stage: str) -> dict[str, dict[str, Any]]:
    """What a stage said, by shard."""
    return {path.stem: read_json(path) for path in sorted((directory / "reports" / stage).glob("*.json"))}


def following(source: Path, stage: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How a set is made whose input is `source`: its stages, and this one with a fingerprint of its input.

    Raises:
        UserError: the input is not complete.
    """
    sizes = [(shard.name, shard.path.stat().st_size) for shard in shards_of(source)]
    return [*read_stages(source), {"stage": stage, "version": VERSION, "input": digest(sizes), **settings}]


def digest(value: Any) -> str:
    """A short fingerprint of what `repr` shows."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def with_column(table: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Table:
    """The table with a column set or replaced."""
    import pyarrow as pa

    column = pa.array(values, type=kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)
