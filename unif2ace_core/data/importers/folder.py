"""Plain images, nested as they like, with or without a table (CSV or JSONL) of schema columns beside or among them.

The table names its images in `file` (or `file_name`), by the path in the folder or by a name that is there once.
Columns that carry the schema's names are read as `sources` reads a user's table; a mapping file reads others.
`split`, `person`, `age` and `caption` are taken where they are there. Images the table does not name have no labels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.importers.base import Reader, Row, Texts
from unif2ace_core.data.importers.files import open_files
from unif2ace_core.data.importers.mapping import LabelMap, load_mapping
from unif2ace_core.data.importers.splits import Splits, split_name
from unif2ace_core.data.importers.tables import Table, column, open_table, texts_of
from unif2ace_core.data.sources import read_value
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
_USUAL = ("labels", "metadata")  # tables of these names go before others


class Folder(Reader):
    """A folder or zip of images and, where there is one, its label table."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        labels = load_mapping(mapping) if mapping else LabelMap()
        super().__init__(source.stem or source.resolve().stem, open_files(source), labels, splits)
        path = _find_table(source)
        self.table = open_table(path) if path else None
        if mapping is not None:
            self._check_columns(mapping, labels)
        self._file = column(self.table, (labels.column("file"), "file_name")) if self.table else None
        if self.table and self._file is None:
            raise UserError(f"{self.table.path} has no column {labels.column('file')!r}; name the images there")

    def _check_columns(self, mapping: Path, labels: LabelMap) -> None:
        if self.table is None:
            raise UserError(f"mapping {mapping} needs a label table, and {self.images.root} has none (CSV or JSONL)")
        for name in labels.columns():
            if name not in self.table.columns:
                raise UserError(f"mapping {mapping} names column {name!r}, which {self.table.path} does not have")

    def _index(self) -> list[Row]:
        rows = {name: Row(name, name, "") for name in self.images.names()}
        if self.table is not None and self._file is not None and self.labels is not None:
            self._label(self.table, self._file, self.labels, rows)
        return list(rows.values())

    def _label(self, table: Table, file: int, labels: LabelMap, rows: dict[str, Row]) -> None:
        split, person = (column(table, (labels.column(what),)) for what in ("split", "person"))
        plain = [(place, BY_NAME[name]) for place, name in enumerate(table.columns) if name in BY_NAME]
        short, unread, good = _short_names(rows), 0, dict[tuple[int, str], bool]()
        for line, cells in table.rows():
            where = f"{table.path} line {line}"
            name = _resolve(cells[file].strip(), rows, short, where)
            if rows[name].cells:
                raise UserError(f"{where}: duplicate name {name}; keep one row an image")
            given = split_name(cells[split], where) if split is not None else ""
            rows[name] = Row(name, name, given, (cells[person] or None) if person is not None else None,
                             table.pack(cells))  # fmt: skip
            for at, attribute in plain:
                cell = (at, cells[at])
                if cell not in good:  # few texts in many rows
                    good[cell] = not cells[at] or read_value(attribute, cells[at]) is not None
                unread += labels.plain and not good[cell]
        if unread:
            logger.warning("%s: %d values are none of the schema's and count as unknown", table.path, unread)

    def _cells(self, row: Row) -> Mapping[str, str]:
        return self.table.unpack(row.cells) if self.table and row.cells else {}

    def _texts(self, row: Row) -> Texts:
        return texts_of(self._cells(row), ("caption", "captions")), ()


def _find_table(source: Path) -> Path | None:
    """The table in the folder, or beside it under its name; one of the usual names goes before others."""
    inside = [*source.glob("*.csv"), *source.glob("*.jsonl")] if source.is_dir() else []
    base = source if source.is_dir() else source.with_suffix("")
    beside = [path for suffix in (".csv", ".jsonl") if (path := base.with_name(base.name + suffix)).is_file()]
    usual = [path for path in inside if path.stem in _USUAL]
    found = sorted(usual or inside or beside)
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise UserError(f"{source} has the label tables {names}; keep one (or call it {_USUAL[0]}.csv)")
    return found[0] if found else None


def _short_names(paths: Mapping[str, Row]) -> dict[str, list[str]]:
    """Base name -> paths, of nested images."""
    found: dict[str, list[str]] = {}
    for path in paths:
        if "/" in path:
            found.setdefault(PurePosixPath(path).name, []).append(path)
    return found


def _resolve(name: str, paths: Mapping[str, Row], short: Mapping[str, list[str]], where: str) -> str:
    """The path of the image that a table's row names."""
    name = name.removeprefix("./")
    if name in paths:
        return name
    found = short.get(name, [])
    if len(found) > 1:
        raise UserError(f"{where}: duplicate name {name} ({found[0]} and {found[1]}); write the path")
    if not found:
        raise UserError(f"{where}: image {name!r} is not there; put it beside the table or take the row out")
    return found[0]
