"""Held-out photos for the suites: decoded once, in the training frame, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.pixels import opened_photo
from unif2ace_core.data.sets import is_set, photos_of
from unif2ace_core.data.sources import FaceRecord, Key, PhotoStore
from unif2ace_core.experts.align import crop, read_frames, whole_image

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
    """The records' photos in the training frame, each decoded once: by the landmark table, or as a set has them."""
    wanted = {record.key: record for record in records}
    framed = is_set(data)
    frames = None if framed else read_frames(data)
    found = {}
    for number, (key, image) in enumerate(_opened(data, wanted), start=1):
        frame = frames.frame(*key, *image.size) if frames else whole_image(*image.size)
        found[key] = crop(image, frame, pixels)
        if on_progress:
            on_progress(number, len(wanted))
    return {key: found[key] for key in wanted}


def located_photos(
    data: Path, records: Iterable[FaceRecord], align: Callable[[Image.Image], Image.Image | None]
) -> dict[Key, Image.Image]:
    """The photos as a locator brings them to the frame; those in which it finds no face are left out."""
    wanted = {record.key: record for record in records}
    aligned = {key: align(image) for key, image in _opened(data, wanted)}
    return {key: image for key in wanted if (image := aligned[key]) is not None}


def _opened(data: Path, wanted: Mapping[Key, FaceRecord]) -> Iterator[tuple[Key, Image.Image]]:
    """The photos of a folder with tables, or of a set made by `unif2ace data`, in any order."""
    if is_set(data):
        for key, file in photos_of(data, wanted):
            yield key, opened_photo(file)
        return
    store = PhotoStore(data)
    for key, record in wanted.items():
        yield key, store.open(record)


def pixels_of(images: Iterable[Image.Image]) -> Tensor:
    """Equally large RGB images as uint8 (n, H, W, 3)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def photo_pixels(data: Path, records: Iterable[FaceRecord], pixels: int = PIXELS) -> Tensor:
    """The records' aligned photos as uint8 (n, pixels, pixels, 3)."""
    return pixels_of(aligned_photos(data, records, pixels).values())
