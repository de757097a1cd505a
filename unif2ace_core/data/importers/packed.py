"""A folder of NAME.csv with NAME.zip or NAME/, as training reads it: the same records, photos and landmarks.

Labels are read by `sources` itself, one row at a time, so an import says exactly what training reads from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unif2ace_core.data import sources
from unif2ace_core.data.importers.base import Imported, Row
from unif2ace_core.data.importers.files import Files, Stamp, check_image
from unif2ace_core.data.importers.splits import split_name
from unif2ace_core.data.importers.tables import CsvTable
from unif2ace_core.data.sources import FaceRecord, PhotoStore, read_landmarks, source_names
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)


class Packed:
    """All sources of a packed folder, one after the other; splits are the tables' own."""

    def __init__(self, source: Path, mapping: Path | None = None, splits: object = None) -> None:
        if mapping is not None:
            raise UserError(f"packed sources have their own reading; leave mapping {mapping} out or import as folder")
        names = source_names(source)
        if not names:
            raise UserError(f"no face data in {source}: needs NAME.csv beside NAME.zip or NAME/; name that folder")
        self.folder, self.photos = source, PhotoStore(source)
        self.tables = {name: CsvTable(source / f"{name}.csv") for name in names}
        self.landmarks = read_landmarks(source) if (source / "landmarks.npz").is_file() else {}
        self._rows: list[Row] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # a worker is handed the rows it needs

    def rows(self) -> Sequence[Row]:
        """By source name and then in table order; `path` is SOURCE/FILE."""
        if self._rows is None:
            self._rows = [row for name in self.tables for row in self._table_rows(name)]
            self._warn_of_persons(self._rows)
        return self._rows

    def _warn_of_persons(self, rows: Sequence[Row]) -> None:
        """The tables' splits stay as they are, so it is told whom they have on both sides."""
        found: dict[tuple[str, str], str] = {}
        torn: dict[tuple[str, str], str] = {}
        for row in rows:
            key = self.source_of(row), row.person or ""
            if row.person and found.setdefault(key, row.split) != row.split:
                torn.setdefault(key, f"{found[key]} and {row.split}")
        if torn:
            (source, person), both = next(iter(torn.items()))
            example = f"person {person!r} of {source} is in {both}"
            logger.warning("%d persons are in two splits (%s); keep each in one", len(torn), example)

    def _table_rows(self, name: str) -> list[Row]:
        table, seen = self.tables[name], set[str]()
        if "file" not in table.columns:
            raise UserError(f"{table.path} has no column 'file'; name the photos there")
        rows = []
        for line, cells in table.rows():
            given = dict(zip(table.columns, cells))
            file = given["file"]
            if file in seen:
                raise UserError(f"{table.path} line {line}: duplicate name {file}; keep one row a photo")
            seen.add(file)
            split = split_name(given.get("split") or "train", f"{table.path} line {line}")
            person = given.get("person") or None
            rows.append(Row(file, f"{name}/{file}", split, person, table.pack(cells)))
        return rows

    def stamps(self) -> Iterator[Stamp]:
        """Of the photos by source, and of the landmarks."""
        for name in self.tables:
            archive = self.folder / f"{name}.zip"
            files = Files(archive if archive.is_file() else self.folder / name)
            yield from files.stamps(row.file for row in self.rows() if self.source_of(row) == name)
        if self.landmarks:
            arrays = Files(self.folder / "landmarks.npz", {".npy"})  # a zip too
            yield from arrays.stamps(arrays.names())

    def source_of(self, row: Row) -> str:
        """The table's name."""
        return row.path.partition("/")[0]

    def record(self, row: Row) -> FaceRecord:
        """What `sources.read_records` says of this photo."""
        name = self.source_of(row)
        try:
            return sources.table_record(name, self.tables[name].unpack(row.cells), self.landmarks)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            path = self.tables[name].path
            raise UserError(f"{path}: the row of {row.file} cannot be read ({error}); mend the table") from error

    def read(self, row: Row) -> Imported:
        """Photo, record and, where the detector hit, the five points."""
        record = self.record(row)
        content = self.photos.read(record)
        check_image(content, row.path)
        points = self.landmarks.get(record.key)
        found = None if points is None else [(float(x), float(y)) for x, y in points]
        return Imported(record, content, found)
