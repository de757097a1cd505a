"""`unif2ace data export`: a set as WebDataset tars, for loaders that take those.

    data/train-00000.tar    train-00000-000000.webp    the image's file as it is; its suffix is what the bytes are
                            train-00000-000000.json    the row's other columns
                            train-00000-000001.webp    ...

HF `datasets` infers the columns of a tar from its first rows. So that they are of one type everywhere, what is unknown
is written as "" or -1 where it has a place, and empty lists are left out. Codes and features of encoders are left out
too: as JSON they are many times a photo, and `unif2ace data encode` makes them again.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unif2ace_core.data.card import card, columns_of
from unif2ace_core.data.sets import row_count
from unif2ace_core.data.shards import Job, Made, Shard, read_shard, read_stages, shard_name, shards_of
from unif2ace_core.errors import UserError
from unif2ace_core.weights.store import replacing, write_text_atomic

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("webdataset",)
SUFFIXES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif"}  # by the first bytes
ENCODED = ("codes", "clip", "face")  # columns of `data encode`; a test compares with those it makes
UNKNOWN = -1.0  # of numbers
BATCH = 64  # rows that are Python objects at a time


def export_jobs(source: Path, rows: int) -> list[Job]:
    """Tars of so many rows of one split each, in the order of the set."""
    guessed = any(stage["stage"] == "annotate" or stage.get("kind") == "webdataset" for stage in read_stages(source))
    write = partial(write_tar, left_out=("image",) if guessed else ("image", "probabilities"))
    counts: dict[str, list[tuple[Shard, int]]] = {}
    for shard in shards_of(source):
        counts.setdefault(shard.name.rpartition("-")[0], []).append((shard, row_count(shard)))
    jobs = []
    for split, shards in sorted(counts.items()):
        starts = range(0, sum(count for _, count in shards), rows)
        jobs += [Job(shard_name(split, n), _make(shards, start, rows), ".tar", write) for n, start in enumerate(starts)]
    return jobs


def _make(shards: Sequence[tuple[Shard, int]], start: int, rows: int) -> Any:
    """Reads the rows from `start` on out of shards with their numbers of rows."""
    import pyarrow as pa

    def make() -> Made:
        parts, first = [], 0
        for shard, count in shards:
            low, high = max(start, first), min(start + rows, first + count)
            if low < high:
                columns = [name for name in columns_of(shard.path) if name not in ENCODED]
                parts.append(read_shard(shard.path, columns).slice(low - first, high - low))
            first += count
        table = pa.concat_tables(parts)
        return Made(table, {"rows": len(table)})

    return make


# --- Tars ----------------------------------------------------------------------------------------------------


def write_tar(path: Path, table: pa.Table, left_out: Sequence[str] = ("image",)) -> None:
    """Write rows as a tar, whole or not at all; the same rows give the same bytes."""
    kept = [name for name in table.column_names if name not in left_out]
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in enumerate(_rows(table)):
            key, image = f"{path.stem}-{number:06d}", row["image"]["bytes"]
            item = {name: value for name in kept if (value := plain(row[name], table.schema.field(name).type)) != []}
            _add(tar, f"{key}.{suffix_of(image, row['file'])}", image)
            _add(tar, f"{key}.json", json.dumps(item, ensure_ascii=False).encode())


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=BATCH):
        yield from batch.to_pylist()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A file of no time and nobody."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def suffix_of(image: bytes, file: str) -> str:
    """What an image's bytes are. Raises `UserError` for none of the kinds that are imported."""
    for start, suffix in SUFFIXES.items():
        if image.startswith(start):
            return suffix
    raise UserError(f"image {file} of the set is no JPEG, PNG, WebP or GIF; import it again")


def plain(value: Any, kind: pa.DataType) -> Any:
    """A value of an Arrow type as JSON has it, with all places of a struct; [] for an empty list, which is left out."""
    from pyarrow import types

    if types.is_struct(kind):
        places = {field.name: plain((value or {}).get(field.name), field.type) for field in kind}
        return {name: each for name, each in places.items() if each != []}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [plain(each, kind.value_type) for each in value or ()]
    if value is None:
        return "" if types.is_string(kind) else UNKNOWN
    return float(value) if types.is_floating(kind) else value


def write_export_card(source: Path, output: Path) -> None:
    """Write README.md of an export whose tars are all there."""
    write_text_atomic(output / "README.md", card(source, output, ENCODED))
