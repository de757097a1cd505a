"""WebDataset tars as `unif2ace data export` writes them: KEY.webp (or another image) and KEY.json with all else.

The tars are passed over once for the index; what a row says is read again when its turn comes.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unif2ace_core.data.importers.base import Imported, Row
from unif2ace_core.data.importers.files import Stamp, check_image, file_stamp
from unif2ace_core.data.importers.items import Item, read_item
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.export import SUFFIXES
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
END = 1024  # zero bytes
IMAGES = frozenset(SUFFIXES.values())


class WebDataset:
    """All tars of a folder, or one; sources, splits and labels are those of the rows."""

    def __init__(self, source: Path, mapping: Path | None = None, splits: object = None) -> None:
        if mapping is not None:
            raise UserError(f"webdataset rows have the schema's labels; leave mapping {mapping} out")
        found = [source] if source.is_file() else source.rglob("*.tar")
        self.tars = sorted(path for path in found if not path.name.startswith("."))
        if not self.tars:
            raise UserError(f"no tar in {source}; name the folder that 'unif2ace data export' wrote")
        self.folder, self.unread = source, 0
        self._rows: list[Row] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # a worker is handed the rows it needs

    def rows(self) -> Sequence[Row]:
        """By tar and place; `path` says where the image lies, `cells` where the rest does and of which source it is."""
        if self._rows is None:
            self.unread = 0
            self._rows = [row for number in range(len(self.tars)) for row in self._rows_of(number)]
            if self.unread:
                many = f"{self.unread} labels are none of the schema's and count as unknown"
                logger.warning("%s: %s", self.folder, many)
        return self._rows

    def _rows_of(self, number: int) -> Iterator[Row]:
        path, count = self.tars[number], 0
        try:
            _check_end(path)
            with tarfile.open(path, "r:") as tar:
                for image, rest in _pairs(tar):
                    count += 1
                    yield self._row(number, image, rest)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"{path} is no whole tar ({error}); fetch it again") from error
        if not count:
            raise UserError(f"{path} has no images with a JSON of each; it is not of 'unif2ace data export'")

    def _row(self, number: int, image: tarfile.TarInfo, rest: tarfile.TarInfo) -> Row:
        places = [f"{number}:{member.offset_data}:{member.size}" for member in (image, rest)]
        item = self._item(places[1], rest.name)
        self.unread += item.unread
        return Row(item.file, places[0], item.split, item.person, f"{places[1]}/{item.source}")

    def stamps(self) -> Iterator[Stamp]:
        """Of the tars."""
        return map(file_stamp, self.tars)

    def _bytes(self, place: str) -> bytes:
        number, start, size = map(int, place.split(":"))
        with self.tars[number].open("rb") as stream:
            stream.seek(start)
            return stream.read(size)

    def _item(self, place: str, name: str) -> Item:
        """What the JSON of a row says; `name` is for what is wrong with it."""
        return read_item(self._bytes(place), f"{name} of {self.tars[int(place.partition(':')[0])]}")

    def _item_of(self, row: Row) -> Item:
        return self._item(row.cells.partition("/")[0], f"the JSON of {row.file}")

    def source_of(self, row: Row) -> str:
        """What the row says."""
        return row.cells.partition("/")[2]

    def record(self, row: Row) -> FaceRecord:
        """The labels of a row, without its image."""
        return _record(row, self._item_of(row))

    def read(self, row: Row) -> Imported:
        """Image, labels with what a model guessed of them, and the texts that the first source brought."""
        item, content = self._item_of(row), self._bytes(row.path)
        check_image(content, row.file)
        record, points = _record(row, item), item.landmarks or None
        return Imported(record, content, points, item.captions, item.questions, item.probabilities)


def _pairs(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarInfo]]:
    """Images and the JSON of each, which stand together in either order, as the webdataset library has it."""
    key, found = "", dict[bool, tarfile.TarInfo]()
    for member in tar:
        stem, suffix = _key(member.name)
        if not member.isfile() or suffix not in IMAGES | {"json"}:
            continue
        if stem != key:
            key, found = stem, {}
        found[suffix in IMAGES] = member
        if len(found) == 2:
            yield found[True], found[False]
            found = {}


def _key(name: str) -> tuple[str, str]:
    """`./in/a-1`, `webp` of `./in/a-1.webp`: a folder may have dots in its name."""
    folder, _, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}/{stem}", suffix


def _check_end(path: Path) -> None:
    """Raises `tarfile.TarError` for a tar without its end, of which `tarfile` would read what there is."""
    with path.open("rb") as stream:
        stream.seek(-min(END, path.stat().st_size), os.SEEK_END)
        if stream.read() != bytes(END):
            raise tarfile.ReadError("its end is missing")


def _record(row: Row, item: Item) -> FaceRecord:
    return FaceRecord(item.source, row.file, row.split, item.labels, item.age, row.person)
