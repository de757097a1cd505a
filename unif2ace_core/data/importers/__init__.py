"""Readers of face data sets: every image with its labels on the one 46-category schema.

An importer has `rows()`, a light index in an order that never changes, `stamps()`, which tell whether files changed,
and `read(row)`, one image with what its source knows of it. What a source does not state is absent. A new kind is one
file with a class and one line in `KINDS`; what columns and values mean is said by mapping files (assets/mappings, or
the user's own).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unif2ace_core.data.importers.base import Imported, Importer, Row, source_digest
from unif2ace_core.data.importers.celeba import CelebA
from unif2ace_core.data.importers.ffhq import FFHQ
from unif2ace_core.data.importers.folder import Folder
from unif2ace_core.data.importers.lfw import LFW
from unif2ace_core.data.importers.mapping import LabelMap, load_mapping
from unif2ace_core.data.importers.packed import Packed
from unif2ace_core.data.importers.splits import Splits
from unif2ace_core.data.importers.unif2aced import UniF2aceD
from unif2ace_core.data.importers.utkface import UTKFace
from unif2ace_core.data.importers.webdataset import WebDataset
from unif2ace_core.errors import UserError

__all__ = [
    "KINDS", "Imported", "Importer", "Kind", "LabelMap", "Row", "Splits", "load_mapping", "open_importer",
    "source_digest",
]  # fmt: skip

VAL_SHARE = 0.05


@dataclass(frozen=True)
class Kind:
    """A layout that can be imported."""

    about: str
    open: Callable[[Path, Path | None, Splits], Importer]
    own_splits: bool = False  # every row has one, so none is drawn


KINDS: dict[str, Kind] = {
    "celeba": Kind("CelebA or CelebAMask-HQ: attribute list or CSV, images beside it", CelebA),
    "utkface": Kind("UTKFace: age and gender from the file names", UTKFace),
    "ffhq": Kind("FFHQ images with the ffhq-features JSON of each", FFHQ),
    "lfw": Kind("LFW: one folder a person, no labels, no names kept", LFW),
    "folder": Kind("images, nested or in a zip, with or without a CSV or JSONL table", Folder),
    "packed": Kind("NAME.csv with NAME.zip or NAME/, as training reads it", Packed, own_splits=True),
    "unif2aced": Kind("UniF2aceD-1M: captions and questions in Parquet or JSON, images inside or beside", UniF2aceD),
    "webdataset": Kind("tars that 'unif2ace data export' wrote", WebDataset, own_splits=True),
}


def open_importer(
    kind: str, source: Path, mapping: Path | None = None, split_seed: int = 0, val_share: float = VAL_SHARE
) -> Importer:
    """An importer for a source on disk. `mapping` is a file or the name of one that comes with the package.

    Splits are the source's own where it has them; the rest is drawn by a hash of `split_seed` and the person (the
    file where persons are unknown), `val_share` of it for validation.
    Raises `UserError` for an unknown kind, a source of another layout, a mapping that says nonsense.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind].open(Path(source), mapping, Splits(split_seed, val_share))
