"""CelebA and CelebAMask-HQ: 40 attributes by humans, official splits and identity numbers where they are there.

The attributes are `list_attr_celeba.txt`, `CelebAMask-HQ-attribute-anno.txt` (number of rows, header, rows of
-1 and 1) or a CSV with the same columns; images lie in a folder or zip beside it. `list_eval_partition` gives the
splits, `identity_CelebA.txt` the persons; CelebAMask-HQ finds its own through `CelebA-HQ-to-CelebA-mapping.txt`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.importers.base import Reader, Row
from unif2ace_core.data.importers.files import Files, by_base, open_files
from unif2ace_core.data.importers.mapping import LabelMap, load_mapping
from unif2ace_core.data.importers.splits import Splits, split_name
from unif2ace_core.data.importers.tables import column, open_table, pairs
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
_TABLES = (
    "list_attr_celeba.txt", "CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.csv",
    "CelebAMask-HQ-attribute-anno.csv",
)  # fmt: skip
_IMAGES = ("img_align_celeba", "CelebA-HQ-img", "img_celeba", "images")
_PARTS = {"0": "train", "1": "val", "2": "test"}
_FILE_COLUMNS = ("file", "image_id", "file_name", "image", "")


class CelebA(Reader):
    """CelebA's layout; images that are not there are left out, and a warning says how many."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        self.folder = source if source.is_dir() else source.parent
        self.table = open_table(source if source.is_file() else _find_table(source))
        labels = load_mapping(mapping or Path("celeba"))
        self._file = self._file_column(labels)
        super().__init__("celeba", _find_images(self.folder), labels, splits)

    def _file_column(self, labels: LabelMap) -> int:
        """Where the images are named; raises `UserError` for a header without it or without CelebA's attributes."""
        file = column(self.table, (labels.column("file"), *_FILE_COLUMNS))
        named = {*labels.columns(), *(BY_NAME if labels.plain else ())}
        if file is None or not named & set(self.table.columns):
            raise UserError(f"{self.table.path} has the wrong header: it needs the file and CelebA's attribute names")
        return file

    def _index(self) -> list[Row]:
        splits, persons, original = self._side("list_eval_partition"), self._side("identity_CelebA"), self._originals()
        paths = self._paths({cells[self._file].strip() for _, cells in self.table.rows()})
        rows, missing = list[Row](), 0
        for _, cells in self.table.rows():
            name = cells[self._file].strip()
            missing += name not in paths
            if name in paths:
                first = original.get(name, name)
                part = splits.get(first, "")
                split = split_name(_PARTS.get(part, part), name)
                rows.append(Row(name, paths[name], split, persons.get(first), self.table.pack(cells)))
        self._report(missing, len(rows))
        return rows

    def _paths(self, wanted: set[str]) -> dict[str, str]:
        """Name -> where it lies; masks and other pictures beside them are passed over."""
        return by_base((n for n in self.images.names() if PurePosixPath(n).name in wanted), self.images.root)

    def _report(self, missing: int, found: int) -> None:
        table, named = self.table.path, missing + found
        if not found:
            raise UserError(f"none of the {named} images of {table} is in {self.images.root}; put them there")
        if missing:
            logger.warning("%s: %d of %d images are not there and are left out", table, missing, named)

    def _side(self, stem: str) -> dict[str, str]:
        found = [p for p in (self._beside(stem + suffix) for suffix in (".txt", ".csv")) if p is not None]
        return pairs(found[0]) if found else {}

    def _originals(self) -> dict[str, str]:
        """CelebAMask-HQ's file -> CelebA's, which the splits and persons are of."""
        path = self._beside("CelebA-HQ-to-CelebA-mapping.txt")
        if path is None or not self.table.path.name.startswith("CelebAMask-HQ"):
            return {}
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        return {f"{words[0]}.jpg": words[2] for words in lines if len(words) == 3}

    def _beside(self, name: str) -> Path | None:
        places = (self.folder, self.table.path.parent, self.folder / "Anno", self.folder / "Eval")
        return next((place / name for place in places if (place / name).is_file()), None)

    def _cells(self, row: Row) -> Mapping[str, str]:
        return self.table.unpack(row.cells)


def _find_table(source: Path) -> Path:
    if not source.exists():
        raise UserError(f"{source} does not exist; name the folder with {_TABLES[0]}")
    for folder in (source, source / "Anno"):
        for name in _TABLES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"no attribute table in {source}; it needs {', '.join(_TABLES[:3])}")


def _find_images(folder: Path) -> Files:
    places = [p for name in _IMAGES for p in (folder / name, folder / "Img" / name)]
    known = [p for place in places for p in (place, place.with_name(place.name + ".zip")) if p.exists()]
    return open_files(known[0] if known else folder)
