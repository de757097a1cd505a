"""Train, val and test: kept where a source has them, else drawn by a hash of the person (or of the file)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from unif2ace_core.data.importers.base import Row
from unif2ace_core.errors import UserError

_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "": "",
}


def split_name(text: str, where: str) -> str:
    """train, val or test of what a source writes; "" where it says nothing."""
    name = _NAMES.get(text.strip().lower())
    if name is None:
        raise UserError(f"unknown split {text!r} of {where}; write train, val or test")
    return name


@dataclass(frozen=True)
class Splits:
    """Draws splits: the same of the same seed and names, whatever else is in the source and in which order."""

    seed: int = 0
    val_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.val_share < 1:
            raise UserError(f"validation share {self.val_share} must be at least 0 and below 1")

    def draw(self, name: str) -> str:
        """The split of one person or file."""
        digest = blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        return "val" if int.from_bytes(digest, "big") < self.val_share * 2**64 else "train"

    def settle(self, rows: Iterable[Row]) -> list[Row]:
        """The rows with every split filled in. Raises `UserError` for a name or a person that is in twice."""
        rows = list(rows)
        of_person, seen = self._of_persons(rows), set[str]()
        for place, row in enumerate(rows):
            if row.file in seen:
                raise UserError(f"duplicate name {row.file} in the source; every image needs a name of its own")
            seen.add(row.file)
            if not row.split:
                split = of_person.get(row.person) if row.person else None
                rows[place] = row._replace(split=split or self.draw(row.person or row.file))
        return rows

    @staticmethod
    def _of_persons(rows: Iterable[Row]) -> dict[str, str]:
        """Person -> the split that the source gives."""
        found: dict[str, str] = {}
        for row in rows:
            if row.person and row.split and found.setdefault(row.person, row.split) != row.split:
                both = f"{found[row.person]} and {row.split}"
                raise UserError(f"person {row.person!r} is in {both} ({row.file}); keep a person in one split")
        return found
