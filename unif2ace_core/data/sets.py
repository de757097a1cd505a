"""A set made by `unif2ace data`, as training reads it: records and texts by row, photos in order.

Texts lie memory-mapped in the user's cache, where HF `datasets` puts them, so memory does not grow with the rows;
photos are read from the Parquet shards, one row group at a time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unif2ace_core.data.card import columns_of
from unif2ace_core.data.rows import Rows
from unif2ace_core.data.shards import RECORD_COLUMNS, STAGES, Shard, read_stages, record_of, shards_of, unreadable
from unif2ace_core.data.sources import FaceRecord, Key, read_records, source_names
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

TEXTS = ("captions", "questions")  # columns
BATCH = 1024  # rows looked at together


def is_set(data: Path) -> bool:
    """Whether a folder holds a set made by `unif2ace data`."""
    return (data / STAGES).is_file()


def data_directory(data: str) -> Path:
    """The folder of training data: a folder, or a set on the hub (`owner/name`), which is downloaded.

    Raises:
        UserError: there is neither, or the set on the hub was not made by `unif2ace data`.
    """
    path = Path(data).expanduser()
    named = data.count("/") == 1 and not data.startswith((".", "/", "~"))
    if not named or path.parent.is_dir():  # what was to lie here is not looked for elsewhere
        return path
    found = _download(data)
    if not is_set(found):
        raise UserError(f"hub set {data!r} has no {STAGES}; bring it into shape with 'unif2ace data import'")
    return found


def _download(name: str) -> Path:
    """A snapshot of a data set of the hub, in its cache; Parquet, JSON and the card only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [STAGES, "README.md", "data/*.parquet", "reports/*"]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--data {name} is no folder, and no data set of the hub could be fetched ({reason}); check the name"
        ) from error


def check_aligned(directory: Path) -> None:
    """Raise `UserError` for what is no set, or one whose photos are not in the training frame."""
    shards_of(directory)
    if not any(stage["stage"] == "align" for stage in read_stages(directory)):
        raise UserError(f"{directory} is not aligned; run 'unif2ace data align' on it and take what that writes")


def cache_directory() -> Path:
    """Where prepared data is kept: the user's cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("unif2ace"))


class SetRecords(Rows[FaceRecord]):
    """The records of a split, in the order of its shards; of all sources, or some."""

    def __init__(self, directory: Path, split: str, sources: Sequence[str] | None = None) -> None:
        """Raises `UserError` for a set that is not complete, or whose photos are not aligned."""
        check_aligned(directory)
        self.directory, self.split, self.sources = directory, split, sources
        own = (shard for shard in shards_of(directory) if shard.name.rpartition("-")[0] == split)
        self.shards = [shard for shard in own if row_count(shard)]

    @cached_property
    def rows(self) -> datasets.Dataset:
        """Records and texts, memory-mapped."""
        columns = [*RECORD_COLUMNS, *(name for name in TEXTS if self.has(name))]
        found = _mapped(self.shards, columns)
        return found if self.sources is None else found.select(_rows_of(found, self.sources))

    @cached_property
    def _plain(self) -> datasets.Dataset:
        return self.rows.select_columns(RECORD_COLUMNS)

    def has(self, column: str) -> bool:
        """Whether every shard has such a column."""
        return bool(self.shards) and all(column in columns_of(shard.path) for shard in self.shards)

    def texts(self, row: int) -> dict[str, Any]:
        """`captions` and `questions` of a row, those there are."""
        return self.rows[row]

    def __len__(self) -> int:
        return len(self.rows) if self.shards else 0

    def row(self, number: int) -> FaceRecord:
        return record_of(self._plain[number])

    def __iter__(self) -> Iterator[FaceRecord]:
        if not self.shards:
            return
        for batch in self._plain.iter(BATCH):
            for row in range(len(batch["file"])):
                yield record_of({name: values[row] for name, values in batch.items()})

    def column(self, name: str) -> Iterator[Any]:
        """The values of a column, from the shards: one Arrow array for each row group."""
        for shard in self.shards:
            for table in row_groups(shard, ["source", name]):
                if self.sources is not None:
                    table = table.filter(_chosen(table["source"], self.sources))
                yield table[name].combine_chunks()

    def photos(self) -> Iterator[bytes]:
        """The photos' files, in order."""
        for images in self.column("image"):
            yield from (value.as_py() for value in images.field("bytes"))

    @cached_property
    def key(self) -> str:
        """Hash of the photos and their order; the same for sets that differ in texts alone."""
        found = hashlib.sha256()
        for images in self.column("image"):
            for value in images.field("bytes"):
                found.update(hashlib.sha256(value.as_buffer()).digest())
        return found.hexdigest()[:16]


def photos_of(directory: Path, keys: Collection[Key]) -> Iterator[tuple[Key, bytes]]:
    """(key, file) of some photos of a set, in the order of its shards; images of shards without them are not read."""
    for shard in shards_of(directory):
        found = [(s, f) in keys for t in row_groups(shard, ["source", "file"]) for s, f in zip(*_pair(t), strict=True)]
        if any(found):
            for table in row_groups(shard, ["source", "file", "image"]):
                for row, key in enumerate(zip(*_pair(table), strict=True)):
                    if key in keys:
                        yield key, table["image"][row]["bytes"].as_py()


def _pair(table: pa.Table) -> tuple[list[str], list[str]]:
    """Sources and files of rows."""
    return table["source"].to_pylist(), table["file"].to_pylist()


def row_groups(shard: Shard, columns: Sequence[str]) -> Iterator[pa.Table]:
    """A shard's rows, so many at a time as lie together on disk.

    Raises:
        UserError: it is unreadable.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shard.path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise UserError(f"{shard.path} has no column {missing[0]!r}; 'unif2ace data check' looks for damage")
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(shard.path, error) from error


def row_count(shard: Shard) -> int:
    """Rows of a shard, from its end, without reading them. Raises `UserError` where it is damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_metadata(shard.path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise unreadable(shard.path, error) from error


def _mapped(shards: Sequence[Shard], columns: Sequence[str]) -> datasets.Dataset:
    """Columns of shards, memory-mapped: HF `datasets` writes them to its cache the first time."""
    import datasets

    shown, logger = datasets.is_progress_bar_enabled(), logging.getLogger("datasets")
    level = logger.level
    datasets.disable_progress_bars()
    logger.setLevel(logging.CRITICAL)  # what goes wrong is said below
    try:
        files = [str(shard.path) for shard in shards]
        return datasets.load_dataset(
            "parquet",
            data_files={"train": files},
            columns=list(columns),
            split="train",
            cache_dir=str(cache_directory() / "datasets"),
        )
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        where, cause = shards[0].path.parent.parent, error.__cause__ or error
        raise UserError(
            f"{where} cannot be read into {cache_directory()} ({cause}); 'unif2ace data check {where}' finds damage"
        ) from error
    finally:
        logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


def _rows_of(rows: datasets.Dataset, sources: Sequence[str]) -> Any:
    """Numbers of the rows that are of some sources."""
    import numpy as np

    found = [
        _chosen(batch["source"], sources) for batch in rows.select_columns(["source"]).with_format("arrow").iter(BATCH)
    ]
    return np.flatnonzero(np.concatenate([np.asarray(each) for each in found]))


def _chosen(values: Any, sources: Sequence[str]) -> Any:
    """Which values are among the sources."""
    import pyarrow as pa
    from pyarrow import compute

    return compute.is_in(values, value_set=pa.array(sources, pa.string()))


def sources_in(data: Path) -> tuple[str, ...]:
    """The sources of a folder with tables or of a set, sorted."""
    if not is_set(data):
        return source_names(data)
    found: set[str] = set()
    for shard in shards_of(data):
        for table in row_groups(shard, ["source"]):
            found.update(table["source"].unique().to_pylist())
    return tuple(sorted(found))


def read_split(data: Path, split: str, sources: Sequence[str] | None = None) -> Sequence[FaceRecord]:
    """The records of a split, of a folder with tables or of a set; there may be none."""
    return SetRecords(data, split, sources) if is_set(data) else read_records(data, split, sources)


def preferred_sources(data: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that the data have; all of their sources where they have none of them."""
    there = sources_in(data)
    return tuple(name for name in names if name in there) or there
