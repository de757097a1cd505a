"""The photos of a split for a recipe: refused where there are none, announced where they take long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.pixels import aligned_pixels
from unif2ace_core.data.sets import is_set, read_split
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.tokens.codec import to_image_tensor

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


def photo_batch(pixels: np.ndarray, rows: Tensor, mirrored: Tensor) -> Tensor:
    """Rows (B,) of photos (R, P, P, 3) uint8 as images (B, 3, P, P) in [-1, 1], mirrored where `mirrored` (B,) says."""
    images = to_image_tensor(torch.from_numpy(pixels[rows.numpy()]))
    images[mirrored] = images[mirrored].flip(3)
    return images
