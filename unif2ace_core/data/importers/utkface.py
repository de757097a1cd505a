"""UTKFace: age and gender from file names `age_gender_race_date.jpg`.

The race field is never read, and the data gets a hash for a name, so that it doesn't enter there either.
A name that lacks a field (the set has a few) keeps its age and loses the gender.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from unif2ace_core.data.importers.base import Reader, Row
from unif2ace_core.data.importers.files import by_base, open_files
from unif2ace_core.data.importers.mapping import load_mapping
from unif2ace_core.data.importers.splits import Splits
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
_NAME = re.compile(r"(?P<age>\d{1,3})_(?:(?P<gender>[01])_\d_\d{9,}|\d?_?\d?_?\d{9,})(?:\D|$)")


class UTKFace(Reader):
    """UTKFace's layout: images in a folder tree or zip, all that is known in their names."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        super().__init__("utkface", open_files(source), load_mapping(mapping or Path("utkface")), splits)

    def _index(self) -> list[Row]:
        paths, rows = by_base(self.images.names(), self.images.root), []
        for name, path in paths.items():
            found = _NAME.match(name)
            if found and int(found["age"]) <= 120:
                digest = blake2b(name.encode(), digest_size=8).hexdigest()
                file = digest + PurePosixPath(name).suffix.lower()
                rows.append(Row(file, path, "", None, f"{found['age']} {found['gender'] or ''}"))
        if not rows:
            raise UserError(f"no image in {self.images.root} is named age_gender_race_date; this is no UTKFace")
        if len(rows) < len(paths):
            logger.warning("%s: %d names state no age and are left out", self.images.root, len(paths) - len(rows))
        return rows

    def _cells(self, row: Row) -> Mapping[str, str]:
        age, _, gender = row.cells.partition(" ")
        return {"age": age, "gender": gender}
