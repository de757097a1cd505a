"""The photos of a split for a recipe: refused where there are none, announced where they take long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unif2ace_core.data.pixels import aligned_pixels
from unif2ace_core.data.sets import is_set, read_split
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)


def split_records(data: Path, split: str, sources: Sequence[str] | None = None) -> Sequence[FaceRecord]:
    """The records of a split, of a folder with tables or of a set made by `unif2ace data`.

    Raises:
        UserError: there are none.
    """
    records = read_split(data, split, sources)
    if not len(records):
        of = f" of {', '.join(sources)}" if sources else ""
        remedy = f"mark some rows {split} in the CSV's split column"
        if is_set(data):
            remedy = f"mark some {split} in the source, or import it with --val-share where it has no splits"
        raise UserError(f"{data} holds no photos{of} of split {split!r}; {remedy}")
    return records


def training_pixels(data: Path, records: Sequence[FaceRecord], pixels: int = 128) -> np.ndarray:
    """`aligned_pixels`, with a line in the log, because the first call for these records takes long."""
    logger.info("bringing %d photos to the training frame, unless the cache holds them", len(records))
    return aligned_pixels(data, records, pixels)
