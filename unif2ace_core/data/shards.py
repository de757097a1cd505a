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
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.locks import in_use, only_writer
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import replacing, write_text_atomic

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

STAGES = "stages.json"
PARQUET = ".parquet"
EXPORT = "export"  # the stage whose shards are no Parquet files
RECORD_COLUMNS = ["source", "file", "split", "labels", "age", "person"]
PATIENCE = 6 * 3600.0  # seconds to wait for other processes
QUIET = 10.0  # of them without a word
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
    found = [Shard(directory / "data" / f"{name}{PARQUET}") for name in shard_names(directory)]
    if missing := [shard.name for shard in found if not shard.path.is_file()]:
        last = [stage["stage"] for stage in read_stages(directory)[-1:]]
        again = f"run 'unif2ace data {last[0] if last else 'import'}' on it again, which goes on there"
        raise UserError(f"{directory} lacks {missing[0]}; {again}")
    return found


def shard_names(directory: Path) -> list[str]:
    """The shards that a data set should have.

    Raises:
        UserError: there is no data set, or it is an export.
    """
    book = read_book(directory)
    if any(stage["stage"] == EXPORT for stage in book.get("stages", [])[-1:]):
        raise UserError(f"{directory} is an export; take the set it was made of, or 'unif2ace data import webdataset'")
    if not book.get("shards"):
        raise UserError(f"{directory} holds no data set; 'unif2ace data import' makes one")
    return list(book["shards"])


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


def unreadable(path: Path, error: Exception) -> UserError:
    """What to say of a damaged shard."""
    return UserError(
        f"{path} cannot be read ({error}); delete it and run its stage again ('unif2ace data check' names all such)"
    )


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
    *,
    probabilities: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A row of `base_schema`; `probabilities` are those of the labels that a model filled in."""
    chances = probabilities or {}
    return {
        "image": {"bytes": image, "path": record.file},
        "source": record.source,
        "file": record.file,
        "split": record.split,
        "person": record.person,
        "age": record.age,
        "labels": {a.name: record.labels.get(a.name) for a in SCHEMA},
        "probabilities": {a.name: chances.get(a.name) for a in SCHEMA},
        "landmarks": None if landmarks is None else [list(point) for point in landmarks],
        "source_captions": list(captions),
        "source_questions": [{"question": question, "answer": answer} for question, answer in questions],
    }


def read_book(directory: Path) -> dict[str, Any]:
    """stages.json; {} where there is none.

    Raises:
        UserError: it is damaged.
    """
    path, remedy = directory / STAGES, "copy the set again or make it anew"
    if not path.is_file():
        return {}
    book = read_json(path, remedy)
    stages, names = book.get("stages", []), book.get("shards", [])
    whole = isinstance(stages, list) and isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not whole or not all(isinstance(each, dict) and isinstance(each.get("stage"), str) for each in stages):
        raise UserError(f"{path} is damaged; {remedy}")
    return book


def read_stages(directory: Path) -> list[dict[str, Any]]:
    """What was done to a data set, in order; [] where nothing is written down."""
    return list(read_book(directory).get("stages", []))


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
        UserError: `output` holds a data set made in another way, or another process makes these shards.
    """
    share, made, stage = share or own_share(), 0, str(stages[-1]["stage"])
    book_of(stages, jobs)  # refused before anything is written
    with only_writer(output, share.index, share.count):
        begin(output, stages, jobs, share)
        for job in jobs[share.index :: share.count]:
            path = job.path(output)
            clear(path, output / "reports" / stage / f"{job.name}.json")
            if not path.is_file():
                made += _run(output, stage, job)
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


def book_of(stages: Sequence[Mapping[str, Any]], jobs: Sequence[Job]) -> dict[str, Any]:
    """What stages.json says of a set that is going to be made.

    Raises:
        UserError: there is nothing to make.
    """
    if not jobs:
        raise UserError("there are no photos; check the source")
    book: dict[str, Any] = json.loads(json.dumps({"stages": list(stages), "shards": [job.name for job in jobs]}))
    return book


def begin(output: Path, stages: Sequence[Mapping[str, Any]], jobs: Sequence[Job], share: Share | None = None) -> None:
    """Write down how a set is going to be made, or check that it was begun in this way.

    What was begun otherwise and came to nothing, in the hands of nobody now, is begun anew.

    Raises:
        UserError: it was begun otherwise, or there is nothing to make, or something else is in the way.
    """
    book, share = book_of(stages, jobs), share or own_share()
    empty = not _has_files(output)  # before the book is read: who writes another one goes on to shards
    known = read_book(output)
    if not known and (output / "data").exists() and any((output / "data").iterdir()):
        raise UserError(f"{output}/data is not empty and not of a data set; choose another --output")
    if known and known != book and (not empty or in_use(output, share.index, share.count)):
        changed = difference(known.get("stages", []), book["stages"])
        raise UserError(f"{output} was begun otherwise ({changed}); repeat that, or choose another --output")
    if known != book:
        write_text_atomic(output / STAGES, json.dumps(book, indent=1) + "\n")


def _has_files(output: Path) -> bool:
    """Whether a folder has more than a stages.json, and what a killed process may leave."""
    return any(path.name != STAGES and path.name[0] != "." and path.is_file() for path in output.rglob("*"))


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
    start, told = time.monotonic(), False
    while not is_complete(output, jobs) and (output / STAGES).is_file():
        waited = time.monotonic() - start
        if waited > PATIENCE:
            raise UserError(f"{output} lacks shards of other processes; run the stage again")
        if waited > QUIET and not told:
            told, missing = True, sum(not job.path(output).is_file() for job in jobs)
            logger.info("waiting for %d shards of other processes (WORLD_SIZE=%d)", missing, own_share().count)
        time.sleep(0.2)


def reports_of(directory: Path, stage: str) -> dict[str, dict[str, Any]]:
    """What a stage said, by shard."""
    remedy = "delete it and its shard, and run the stage again"
    return {path.stem: read_json(path, remedy) for path in sorted((directory / "reports" / stage).glob("*.json"))}


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


def image_files(table: pa.Table) -> list[bytes]:
    """The image files of some rows."""
    return table["image"].combine_chunks().field("bytes").to_pylist() if len(table) else []


def with_column(table: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Table:
    """The table with a column set or replaced."""
    import pyarrow as pa

    column = pa.array(values, type=kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)
