"""`unif2ace data import`: a source's images and labels as rows, in shards of one split each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unif2ace_core.data.importers import Importer, Row
from unif2ace_core.data.importers.files import UnreadableImage
from unif2ace_core.data.shards import Job, Made, base_schema, row_of, shard_name

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 500  # of a shard


def import_jobs(importer: Importer, rows_per_shard: int = ROWS, limit: int | None = None) -> list[Job]:
    """Shards of one split each, rows in the source's order; `limit` takes so many of each split of each source."""
    by_split: dict[str, list[Row]] = {}
    taken: Counter[tuple[str, str]] = Counter()
    for row in importer.rows():
        key = importer.source_of(row), row.split
        taken[key] += 1
        if limit is None or taken[key] <= limit:
            by_split.setdefault(row.split, []).append(row)
    jobs = []
    for split, rows in sorted(by_split.items()):
        for number, start in enumerate(range(0, len(rows), rows_per_shard)):
            jobs.append(_job(importer, shard_name(split, number), rows[start : start + rows_per_shard]))
    return jobs


def _job(importer: Importer, name: str, rows: Sequence[Row]) -> Job:
    return Job(name, lambda: _read(importer, rows))


def _read(importer: Importer, rows: Sequence[Row]) -> Made:
    """Read rows; images that cannot be read are left out and named."""
    found, lost = [], []
    for row in rows:
        try:
            given = importer.read(row)
        except UnreadableImage as error:  # one that is not there ends the stage: it may come back
            lost.append({"file": row.file, "reason": str(error)})
            continue
        texts, chances = (given.captions, given.questions), given.probabilities
        found.append(row_of(given.record, given.image, given.landmarks, *texts, probabilities=chances))
    return Made(table_of(found), {"rows": len(found), "unreadable": lost})


def table_of(rows: Sequence[dict]) -> pa.Table:
    """Rows of `base_schema` as a table."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=base_schema())
