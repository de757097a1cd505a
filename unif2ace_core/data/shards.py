"""A face data set on disk: Parquet shards with the images inside, as the hub and HF `datasets` read them.

    DIR/README.md                         data-set card; its first lines tell the hub which files belong to which split
    DIR/stages.json                       what was done, in order, with which settings
    DIR/data/train-00000.parquet, ...     rows; every stage keeps the names of its input's shards
    DIR/reports/STAGE/train-00000.json    what a stage has to say about a shard, e.g. the photos it dropped

A stage reads one shard and writes one shard. A shard is complete or absent (temporary name, rename), and depends on its
input alone: so an interrupted stage goes on where it stopped, processes share the shards among them, and the bytes are
the same however often it was interrupted and however many processes worked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.weights.store import replacing, write_text_atomic

if TYPE_CHECKING:
    import pyarrow as pa

STAGES = "stages.json"
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
    """The file name of a shard."""
    return f"{split}-{number:05d}.parquet"


def shards_of(directory: Path) -> list[Shard]:
    """The shards of a data set, by name.

    Raises:
        UserError: there are none.
    """
    found = sorted((directory / "data").glob("*-?????.parquet"))
    if not found:
        raise UserError(
            f"{directory} holds no data set (data/SPLIT-NNNNN.parquet); make one with 'unif2ace data import'"
        )
    return [Shard(path) for path in found]


def read_shard(path: Path) -> pa.Table:
    """The rows of a shard.

    Raises:
        UserError: it is unreadable.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no readable Parquet file ({error}); delete it and run its stage again") from error


def write_shard(path: Path, table: pa.Table) -> None:
    """Write rows whole or not at all; the same rows give the same bytes."""
    from pyarrow import parquet

    table = table.replace_schema_metadata({"huggingface": hub_features(table.schema)})
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", row_group_size=256, write_page_index=False)


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
    columns = ["source", "file", "split", "labels", "age", "person"]
    for row in table.select(columns).to_pylist():
        yield record_of(row)


def row_of(record: FaceRecord, image: bytes, landmarks: Sequence[Sequence[float]] | None = None) -> dict[str, Any]:
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
    }


def read_stages(directory: Path) -> list[dict[str, Any]]:
    """What was done to a data set, in order; [] where nothing is written down."""
    path = directory / STAGES
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["stages"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); make the data set again") from error


def write_stages(directory: Path, stages: Sequence[Mapping[str, Any]]) -> None:
    """Write down what was done."""
    write_text_atomic(directory / STAGES, json.dumps({"stages": list(stages)}, indent=1) + "\n")


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


@dataclass(frozen=True)
class Share:
    """Which of the jobs a process does."""

    index: int = 0
    count: int = 1


def own_share() -> Share:
    """This process's among those of `accelerate launch`, which says so in the environment; all of them alone."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def run_stage(
    output: Path,
    stages: Sequence[Mapping[str, Any]],
    jobs: Sequence[Job],
    share: Share | None = None,
    on_done: Callable[[Job], None] | None = None,
) -> int:
    """Make the shards that are not there yet; returns how many this process made.

    `stages` says how the whole set was made, this stage last: a folder that was begun otherwise is refused.

    Raises:
        UserError: `output` holds a data set made in another way.
    """
    share = share or own_share()
    begin(output, stages)
    own, made = jobs[share.index :: share.count], 0
    for job in own:
        for rest in (output / "data").glob(f".{job.name}.parquet.*.tmp"):  # of a process that was killed
            rest.unlink(missing_ok=True)
        path = output / "data" / f"{job.name}.parquet"
        if not path.is_file():
            result = job.make()
            report = json.dumps(result.report, indent=1, sort_keys=True) + "\n"
            write_text_atomic(output / "reports" / str(stages[-1]["stage"]) / f"{job.name}.json", report)
            write_shard(path, result.table)
            made += 1
        if on_done:
            on_done(job)
    return made


def is_complete(output: Path, jobs: Sequence[Job]) -> bool:
    """Whether every shard is there."""
    return all((output / "data" / f"{job.name}.parquet").is_file() for job in jobs)


def begin(output: Path, stages: Sequence[Mapping[str, Any]]) -> None:
    """Write down how a set is going to be made, or check that it was begun in this way."""
    known = read_stages(output)
    if not known:
        if (output / "data").exists() and any((output / "data").iterdir()):
            raise UserError(f"{output}/data is not empty and not of a data set; choose another --output")
        write_stages(output, stages)
    elif known != json.loads(json.dumps(list(stages))):
        changed = difference(known, stages)
        raise UserError(f"{output} was begun with other settings ({changed}); repeat those, or choose another --output")


def difference(known: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> str:
    """The first thing in which two ways to make a set differ."""
    for old, new in zip(known, stages):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                return f"{old.get('stage', new.get('stage'))}: {name} {old.get(name)!r}, now {new.get(name)!r}"
    return f"{len(known)} stages, now {len(stages)}"


def reports_of(directory: Path, stage: str) -> dict[str, dict[str, Any]]:
    """What a stage said, by shard."""
    found = sorted((directory / "reports" / stage).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}


def following(source: Path, stage: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How a set is made whose input is `source`: its stages, and this one.

    Raises:
        UserError: the input is not complete.
    """
    shards_of(source)
    return [*read_stages(source), {"stage": stage, "version": VERSION, **settings}]


def with_column(table: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Table:
    """The table with a column set or replaced."""
    import pyarrow as pa

    column = pa.array(values, type=kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)
