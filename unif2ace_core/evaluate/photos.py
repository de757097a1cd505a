"""Held-out photos for the suites: decoded once, in the training frame, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.sources import FaceRecord, Key, PhotoStore
from unif2ace_core.experts.align import crop, read_frames

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 128  # side of the training frame
Progress = Callable[[int, int], None]


def draw(records: Sequence[FaceRecord], count: int | None, rng: random.Random) -> list[FaceRecord]:
    """At most `count` records, all where it is None, in random order."""
    return rng.sample(list(records), len(records) if count is None else min(count, len(records)))


def aligned_photos(
    data: Path, records: Iterable[FaceRecord], pixels: int = PIXELS, on_progress: Progress | None = None
) -> dict[Key, Image.Image]:
    """The records' photos in the training frame by the landmark table, each decoded once."""
    store, frames = PhotoStore(data), read_frames(data)
    wanted = {record.key: record for record in records}
    found = {}
    for number, (key, record) in enumerate(wanted.items(), start=1):
        image = store.open(record)
        found[key] = crop(image, frames.frame(*key, *image.size), pixels)
        if on_progress:
            on_progress(number, len(wanted))
    return found


def located_photos(
    data: Path, records: Iterable[FaceRecord], align: Callable[[Image.Image], Image.Image | None]
) -> dict[Key, Image.Image]:
    """The photos as a locator brings them to the frame; those in which it finds no face are left out."""
    store = PhotoStore(data)
    wanted = {record.key: record for record in records}
    aligned = {key: align(store.open(record)) for key, record in wanted.items()}
    return {key: image for key, image in aligned.items() if image is not None}


def pixels_of(images: Iterable[Image.Image]) -> Tensor:
    """Equally large RGB images as uint8 (n, H, W, 3)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def photo_pixels(data: Path, records: Iterable[FaceRecord], pixels: int = PIXELS) -> Tensor:
    """The records' aligned photos as uint8 (n, pixels, pixels, 3)."""
    return pixels_of(aligned_photos(data, records, pixels).values())
