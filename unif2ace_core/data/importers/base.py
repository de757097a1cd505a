"""What every reader of a source shares: light rows, records on the one schema, images read one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from unif2ace_core.data.importers.files import Files, Stamp, check_image
from unif2ace_core.data.sources import FaceRecord

if TYPE_CHECKING:
    from unif2ace_core.data.importers.mapping import LabelMap
    from unif2ace_core.data.importers.splits import Splits

Texts = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]  # captions; questions with their answers


@dataclass(frozen=True)
class Imported:
    """One image as stored, and what its source knows of it; what is unknown is absent, never "no"."""

    record: FaceRecord
    image: bytes  # JPEG, PNG, WebP or GIF
    landmarks: list[tuple[float, float]] | None = None  # five points in pixels, as in sources.read_landmarks
    captions: tuple[str, ...] = ()
    questions: tuple[tuple[str, str], ...] = ()  # (question, answer)
    probabilities: Mapping[str, float] | None = None  # of the labels that a model filled in


class Row(NamedTuple):
    """One line of a source's index; a tuple of short texts, so that 200,000 of them stay light."""

    file: str  # the name in the data, free of what must not enter it
    path: str  # where the image lies in the source
    split: str  # "" until the splits are settled
    person: str | None = None
    cells: str = ""  # what the source says of it, not yet read


class Importer(Protocol):
    """A source: what there is, in an order that never changes, and one image at a time."""

    def rows(self) -> Sequence[Row]:
        """The index, cheap and without images: shards are cut from it, and a run that stopped finds its place."""

    def stamps(self) -> Iterable[Stamp]:
        """What tells the source's files from others of their names, in an order that never changes."""

    def source_of(self, row: Row) -> str:
        """The source of a row, which the record names."""

    def record(self, row: Row) -> FaceRecord:
        """The labels of a row, without its image."""

    def read(self, row: Row) -> Imported:
        """Image and labels. Raises `UserError` for an image that is missing or cannot be read."""


def source_digest(importer: Importer) -> str:
    """A short fingerprint of a source: what its index says, and which files it has; no image is opened."""
    found = hashlib.sha256()
    for each in chain(importer.rows(), importer.stamps()):  # one at a time: an index is large
        found.update(f"{tuple(each)!r}\n".encode())
    return found.hexdigest()[:16]


class Reader:
    """The importer that the kinds build on: they say what there is (`_index`) and what a row's cells are."""

    def __init__(self, source: str, images: Files, labels: LabelMap | None, splits: Splits) -> None:
        self.source, self.images, self.labels, self.splits = source, images, labels, splits
        self._rows: list[Row] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # a worker is handed the rows it needs

    def rows(self) -> Sequence[Row]:
        """The index with every split settled."""
        if self._rows is None:
            self._rows = self.splits.settle(self._index())
        return self._rows

    def stamps(self) -> Iterator[Stamp]:
        """Of the images, by row."""
        return self.images.stamps(row.path for row in self.rows())

    def source_of(self, row: Row) -> str:
        """The one source there is."""
        return self.source

    def record(self, row: Row) -> FaceRecord:
        """The labels of a row, without its image."""
        labels, age = self.labels.read(self._cells(row), row.file) if self.labels else ({}, None)
        return FaceRecord(self.source, row.file, row.split, labels, age, row.person)

    def read(self, row: Row) -> Imported:
        """Image and labels, read now."""
        content = self._image(row)
        check_image(content, row.path)
        captions, questions = self._texts(row)
        return Imported(self.record(row), content, None, captions, questions)

    def _index(self) -> list[Row]:
        raise NotImplementedError

    def _cells(self, row: Row) -> Mapping[str, str]:
        """Column -> text of a row; nothing where the source has no labels."""
        return {}

    def _image(self, row: Row) -> bytes:
        return self.images.read(row.path)

    def _texts(self, row: Row) -> Texts:
        return (), ()
