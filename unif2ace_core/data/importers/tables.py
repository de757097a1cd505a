"""Label tables of three forms (CSV, JSONL, CelebA's counted lists) as columns and rows of text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unif2ace_core.errors import UserError

_SEPARATOR = "\x1f"  # ASCII's own unit separator


class Table:
    """Columns and rows; a row can be packed into one short text and unpacked when its turn comes."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        twice = next((name for place, name in enumerate(self.columns) if name in self.columns[:place]), None)
        if twice is not None:
            raise UserError(f"{path} has two columns {twice!r}; keep one")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells, in the table's order."""
        raise NotImplementedError

    def pack(self, cells: Sequence[str]) -> str:
        """The cells as one text."""
        return _SEPARATOR.join(cell.replace(_SEPARATOR, " ") for cell in cells)

    def unpack(self, packed: str) -> dict[str, str]:
        """Column -> cell of a packed row."""
        return dict(zip(self.columns, packed.split(_SEPARATOR)))

    def _checked(self, line: int, cells: list[str]) -> tuple[int, list[str]]:
        if len(cells) != len(self.columns):
            counts = f"{len(cells)} cells for {len(self.columns)} columns"
            raise UserError(f"{self.path} line {line} has {counts}; mend the table")
        return line, cells


class CsvTable(Table):
    """A CSV file with a header line."""

    def __init__(self, path: Path) -> None:
        header = next(_csv_rows(path), None)
        if header is None:
            raise UserError(f"{path} is empty; it needs a header line")
        super().__init__(path, [name.strip() for name in header[1]])

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        lines = _csv_rows(self.path)
        next(lines)
        return (self._checked(*numbered) for numbered in lines if numbered[1])


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for cells in reader:
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); it must be a CSV in UTF-8") from error


class JsonlTable(Table):
    """One JSON object a line; the columns are all names that occur."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, list(dict.fromkeys(name for _, item in _json_lines(path) for name in item)))
        if not self.columns:
            raise UserError(f"{path} has no rows; it needs one JSON object a line")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        for line, item in _json_lines(self.path):
            yield line, [cell_text(item.get(name)) for name in self.columns]


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line, text in enumerate(stream, 1):
                if text.strip():
                    item = json.loads(text)
                    if not isinstance(item, dict):
                        raise ValueError("no object")
                    yield line, item
    except (OSError, ValueError) as error:  # what is no UTF-8 is a ValueError too
        raise UserError(f"{path} line {line} cannot be read ({error}); it must be one JSON object a line") from error


def cell_text(value: Any) -> str:
    """A JSON value as a table's cell: nothing for null, true and false for flags, lists and objects as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class CountedTable(Table):
    """CelebA's lists: a line with the number of rows, a line of column names, rows that begin with the file."""

    def __init__(self, path: Path) -> None:
        count, header = [*_split_lines(path, 2), (1, []), (2, [])][:2]
        if len(count[1]) != 1 or not count[1][0].isdigit():
            start = " ".join(count[1])[:40]
            raise UserError(f"{path} begins with {start!r}, not with the number of rows; fetch it again")
        super().__init__(path, ("file", *header[1]))
        self.count = int(count[1][0])

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        seen = 0
        for line, cells in _split_lines(self.path):
            if line > 2 and cells:
                seen += 1
                yield self._checked(line, cells)
        if seen != self.count:
            raise UserError(f"{self.path} says {self.count} rows but has {seen}; fetch it again")


def _split_lines(path: Path, limit: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Line number and the words of the first `limit` lines."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if limit is not None and number > limit:
                    return
                yield number, line.split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it again") from error


def pairs(path: Path) -> dict[str, str]:
    """First word -> second word of a list like CelebA's partition and identity files, txt or CSV."""
    found: dict[str, str] = {}
    numbered = _csv_rows(path) if path.suffix == ".csv" else _split_lines(path)
    for line, words in numbered:
        if line == 1 and len(words) == 2 and not words[1].isdigit():
            continue  # a CSV's header
        if words and len(words) != 2:
            raise UserError(f"{path} line {line} has {len(words)} words, not a file and its value; fetch it again")
        if words:
            found[words[0]] = words[1]
    return found


def open_table(path: Path) -> Table:
    """A CSV, JSONL or counted list, by its suffix."""
    if not path.is_file():
        raise UserError(f"label table {path} does not exist; check the path")
    kinds = {".csv": CsvTable, ".jsonl": JsonlTable, ".txt": CountedTable}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"label table {path} must be {', '.join(kinds)}")
    return kind(path)


def column(table: Table, names: Sequence[str]) -> int | None:
    """Place of the first of `names` that the table has."""
    return next((table.columns.index(name) for name in names if name in table.columns), None)


def texts_of(cells: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """Texts of the first of `names` that is filled: one, or several in a JSON list."""
    text = next((cells[name] for name in names if cells.get(name)), "")
    if text.startswith("["):
        try:
            return tuple(str(item) for item in json.loads(text) if item)
        except ValueError:
            pass
    return (text,) if text else ()
