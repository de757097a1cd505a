"""Items of large JSON, JSONL and Parquet files by reference: indexed in one pass, read again when their turn comes.

A reference is a short text: where the item starts and how long it is, or its row number in a Parquet file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from unif2ace_core.errors import UserError

Item = dict[str, Any]
_DECODER = json.JSONDecoder()
_CHUNK = 1 << 20
_BATCH = 32  # Parquet rows held at a time, images included


class Store(Protocol):
    """A file of items."""

    path: Path

    def items(self) -> Iterator[tuple[str, Item]]:
        """Reference and item, without image bytes."""

    def item(self, reference: str) -> Item:
        """One item in full."""


def open_store(path: Path, image_columns: tuple[str, ...]) -> Store:
    """The items of a file, by its suffix."""
    return ParquetStore(path, image_columns) if path.suffix == ".parquet" else JsonStore(path, image_columns)


class _Scanner:
    """Reads JSON values one after the other from a stream, a piece at a time.

    Bytes are taken as Latin-1, so that places in the text are places in the file; JSON's own marks are
    ASCII, and texts in UTF-8 come out right when an item is read again by its place.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.text, self.at, self.base = stream, "", 0, 0

    def _more(self) -> bool:
        piece = self.stream.read(_CHUNK).decode("latin-1")
        self.base, self.text, self.at = self.base + self.at, self.text[self.at :] + piece, 0
        return bool(piece)

    def peek(self) -> str:
        """The next mark that is no white space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n\xef\xbb\xbf":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def take(self, marks: str) -> str:
        """The next mark, which must be one of `marks`."""
        mark = self.peek()
        if not mark or mark not in marks:
            raise ValueError(f"{mark or 'the end'!r} at byte {self.base + self.at} where one of {marks} belongs")
        self.at += 1
        return mark

    def value(self) -> tuple[int, int, Any]:
        """Start, length and content of the next object, list or text."""
        self.peek()
        while True:
            try:
                content, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if not self._more():
                    raise
                continue
            start, length = self.base + self.at, end - self.at
            self.at = end
            return start, length, content


class JsonStore:
    """A JSON list of objects, an object of objects by image name, or one object a line."""

    def __init__(self, path: Path, image_columns: tuple[str, ...]) -> None:
        self.path, self.image_columns = path, image_columns

    def items(self) -> Iterator[tuple[str, Item]]:
        """Reference START:LENGTH:NAME and item; NAME only where the file has it outside the item."""
        try:
            with self.path.open("rb") as stream:
                for start, length, name, content in self._values(_Scanner(stream)):
                    item = self._whole(name, _utf8(content))
                    if item is not None:
                        yield f"{start}:{length}:{name}", item
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read ({error}); fetch it again") from error

    def _values(self, scanner: _Scanner) -> Iterator[tuple[int, int, str, Any]]:
        if scanner.peek() == "[":
            scanner.take("[")
            while scanner.peek() != "]":
                start, length, content = scanner.value()
                yield start, length, "", content
                if scanner.take(",]") == "]":
                    return
        elif self.path.suffix == ".jsonl" or self._one_a_line():
            while scanner.peek():
                start, length, content = scanner.value()
                yield start, length, "", content
        else:
            scanner.take("{")
            while scanner.peek() != "}":
                name = _utf8(scanner.value()[2])
                scanner.take(":")
                start, length, content = scanner.value()
                yield start, length, name, content
                if scanner.take(",}") == "}":
                    return

    def _one_a_line(self) -> bool:
        """Whether the first line is an object of its own that names an image."""
        with self.path.open("rb") as stream:
            line = stream.readline(_CHUNK)
        try:
            return self._names_image(json.loads(line))
        except ValueError:
            return False

    def _whole(self, name: str, content: Any) -> Item | None:
        """The item with the name it stands under; a bare text or list there is a caption or questions."""
        if not isinstance(content, dict):
            if isinstance(content, list) and content and self._names_image(content[0]):
                raise ValueError(f"its rows lie under {name!r}: save them as a plain list")
            content = {"caption" if isinstance(content, str) else "vqa": content} if name else None
        if content is not None and name:
            content.setdefault(self.image_columns[0], name)
        return content

    def _names_image(self, content: Any) -> bool:
        return isinstance(content, dict) and any(name in content for name in self.image_columns)

    def item(self, reference: str) -> Item:
        """The item at its place."""
        start, length, name = reference.split(":", 2)
        with self.path.open("rb") as stream:
            stream.seek(int(start))
            content = json.loads(stream.read(int(length)))
        return self._whole(name, content) or {}


def _utf8(value: Any) -> Any:
    """Texts that were read as Latin-1, as the UTF-8 they are; `\\u` escapes beyond Latin-1 stay as they are."""
    if isinstance(value, dict):
        return {_utf8(key): _utf8(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_utf8(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        try:
            return value.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return value
    return value


class ParquetStore:
    """A Parquet file; an image column may hold {bytes, path} or names. Reading in order is fast."""

    def __init__(self, path: Path, image_columns: tuple[str, ...]) -> None:
        self.path, self.image_columns = path, image_columns
        self._batches: Iterator[Any] | None = None
        self._rows: list[Item] = []
        self._start = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "image_columns": self.image_columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _open(self) -> Any:
        try:
            import pyarrow.parquet as parquet  # type: ignore[import-untyped]
        except ImportError as error:
            raise UserError("Parquet files need pyarrow; pip install pyarrow") from error
        try:
            return parquet.ParquetFile(self.path, buffer_size=_CHUNK)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise UserError(f"{self.path} cannot be read ({str(error).splitlines()[0]}); fetch it again") from error

    def items(self) -> Iterator[tuple[str, Item]]:
        """Row number and row, with the names of embedded images but not their bytes."""
        file, number = self._open(), 0
        leaves = [file.schema.column(place).path for place in range(len(file.schema))]
        light = [leaf for leaf in leaves if not leaf.endswith(".bytes")]
        for batch in file.iter_batches(batch_size=1024, columns=light):
            for row in batch.to_pylist():
                yield str(number), row
                number += 1

    def embedded(self) -> str | None:
        """The column with image bytes."""
        import pyarrow  # type: ignore[import-untyped]

        schema = self._open().schema_arrow
        kinds = {name: schema.field(name).type for name in self.image_columns if name in schema.names}
        return next((name for name, kind in kinds.items() if pyarrow.types.is_struct(kind)
                     and kind.get_field_index("bytes") >= 0), None)  # fmt: skip

    def item(self, reference: str) -> Item:
        """The row with that number; rows that follow each other come from the same pass."""
        wanted = int(reference)
        if self._batches is None or not self._start <= wanted < self._start + len(self._rows) + 8 * _BATCH:
            self._seek(wanted)
        while wanted >= self._start + len(self._rows):
            self._start += len(self._rows)
            batch = next(self._batches or iter(()), None)
            if batch is None:
                raise UserError(f"{self.path} has no row {wanted}; it changed since it was indexed")
            self._rows = batch.to_pylist()
        return self._rows[wanted - self._start]

    def _seek(self, wanted: int) -> None:
        """Begins a pass at the row group of a row."""
        file = self._open()
        group, start = 0, 0
        while group + 1 < file.num_row_groups and start + file.metadata.row_group(group).num_rows <= wanted:
            start += file.metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, file.num_row_groups))
        self._batches, self._rows, self._start = file.iter_batches(batch_size=_BATCH, row_groups=groups), [], start
