"""WebDataset tars as `unif2ace data export` writes them: KEY.webp (or another image) and KEY.json with all else.

The tars are passed over once for the index; what a row says is read again when its turn comes.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unif2ace_core.data.importers.base import Imported, Row
from unif2ace_core.data.importers.files import check_image
from unif2ace_core.data.importers.splits import split_name
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.export import SUFFIXES, known_labels, known_number
from unif2ace_core.errors import UserError

END = 1024  # zero bytes


class WebDataset:
    """All tars of a folder, or one; sources, splits and labels are those of the rows."""

    def __init__(self, source: Path, mapping: Path | None = None, splits: object = None) -> None:
        if mapping is not None:
            raise UserError(f"webdataset rows have the schema's labels; leave mapping {mapping} out")
        found = [source] if source.is_file() else source.rglob("*.tar")
        self.tars = sorted(path for path in found if not path.name.startswith("."))
        if not self.tars:
            raise UserError(f"no tar in {source}; name the folder that 'unif2ace data export' wrote")
        self._rows: list[Row] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # a worker is handed the rows it needs

    def rows(self) -> Sequence[Row]:
        """By tar and place; `path` says where the image lies, `cells` where the rest does and of which source it is."""
        if self._rows is None:
            self._rows = [row for number in range(len(self.tars)) for row in self._rows_of(number)]
        return self._rows

    def _rows_of(self, number: int) -> Iterator[Row]:
        path = self.tars[number]
        image, key = "", ""
        try:
            _check_end(path)
            with tarfile.open(path) as tar:
                for member in tar:
                    stem, _, suffix = member.name.partition(".")
                    place = f"{number}:{member.offset_data}:{member.size}"
                    if suffix in SUFFIXES.values():
                        image, key = place, stem
                    elif suffix == "json" and stem == key:
                        row = self._item(place)
                        split = split_name(row["split"], f"{path.name}/{stem}")
                        yield Row(row["file"], image, split, row.get("person") or None, f"{place}/{row['source']}")
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"{path} is no whole tar ({error}); fetch it again") from error
        if not key:
            raise UserError(f"{path} has no images with a JSON of each; it is not of 'unif2ace data export'")

    def _bytes(self, place: str) -> bytes:
        number, start, size = map(int, place.split(":"))
        with self.tars[number].open("rb") as stream:
            stream.seek(start)
            return stream.read(size)

    def _item(self, place: str) -> Mapping[str, Any]:
        """The JSON of a row; what this kind needs is in it."""
        where = f"the JSON at byte {place.split(':')[1]} of {self.tars[int(place.split(':')[0])]}"
        try:
            item = json.loads(self._bytes(place))
        except ValueError as error:
            raise UserError(f"{where} cannot be read ({error}); fetch it again") from error
        if missing := [name for name in ("source", "file", "split", "labels") if name not in item]:
            raise UserError(f"{where} has no {missing[0]!r}; it is not of 'unif2ace data export'")
        return item

    def source_of(self, row: Row) -> str:
        """What the row says."""
        return row.cells.partition("/")[2]

    def record(self, row: Row) -> FaceRecord:
        """The labels of a row, without its image."""
        return _record(row, self._item(row.cells.partition("/")[0]))

    def read(self, row: Row) -> Imported:
        """Image, labels, and the texts that the first source brought."""
        item, content = self._item(row.cells.partition("/")[0]), self._bytes(row.path)
        check_image(content, row.file)
        points = [(float(x), float(y)) for x, y in item.get("landmarks", ())]
        pairs = tuple((pair["question"], pair["answer"]) for pair in item.get("source_questions", ()))
        return Imported(_record(row, item), content, points or None, tuple(item.get("source_captions", ())), pairs)


def _check_end(path: Path) -> None:
    """Raises `tarfile.TarError` for a tar without its end, of which `tarfile` would read what there is."""
    with path.open("rb") as stream:
        stream.seek(-min(END, path.stat().st_size), os.SEEK_END)
        if stream.read() != bytes(END):
            raise tarfile.ReadError("its end is missing")


def _record(row: Row, item: Mapping[str, Any]) -> FaceRecord:
    age = known_number(item.get("age"))
    return FaceRecord(item["source"], row.file, row.split, known_labels(item), age, row.person)
