"""Labeled Faces in the Wild: a folder for each person, `Name/Name_0001.jpg`; persons and splits, no labels.

No name enters the data: a person is a hash of the folder's name, and files are called after the hash. The
mapping `lfw` reads tables of attribute probabilities and emotions for these photos (kind `folder`).
"""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from unif2ace_core.data.importers.base import Reader, Row
from unif2ace_core.data.importers.files import open_files
from unif2ace_core.data.importers.splits import Splits
from unif2ace_core.errors import UserError

_NUMBERED = re.compile(r"(.+)_(\d+)")


class LFW(Reader):
    """LFW's layout, in a folder or zip at any depth."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        if mapping is not None:
            raise UserError(f"lfw has no labels that mapping {mapping} could read; leave it out or import as folder")
        super().__init__("lfw", open_files(source), None, splits)

    def _index(self) -> list[Row]:
        rows, seen = [], dict[str, str]()
        for path in self.images.names():
            parts = PurePosixPath(path)
            named = _NUMBERED.fullmatch(parts.stem)
            if named is None or named[1] != parts.parent.name:
                raise UserError(f"{path} in {self.images.root} is not like Name/Name_0001.jpg; this is no LFW")
            person = blake2b(parts.parent.name.encode(), digest_size=6).hexdigest()
            file = f"{person}/{named[2]}{parts.suffix.lower()}"
            if seen.setdefault(file, path) != path:
                raise UserError(f"duplicate name: {seen[file]} and {path} in {self.images.root}; name one folder")
            rows.append(Row(file, path, "", person))
        return sorted(rows)
