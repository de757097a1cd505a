"""Photos brought to the training frame once and kept as one uint8 array on disk: training never waits for a decoder."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from unif2ace_core.data.sets import SetRecords, cache_directory
from unif2ace_core.data.sources import FaceRecord, PhotoStore
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import crop, read_frames, whole_image
from unif2ace_core.weights.store import replacing


def new_array(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.memmap:
    """An array in a file, to be filled.

    Raises:
        UserError: the disk has no room for it; filling it all the same would end the process without a word.
    """
    size, free = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if size > free:
        raise UserError(
            f"the cache {path.parent} needs {size / 1e9:.1f} GB more and its disk has {free / 1e9:.1f} GB; "
            "make room, or set XDG_CACHE_HOME to another disk"
        )
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def frame_key(data: Path, records: Sequence[FaceRecord], pixels: int = 128) -> str:
    """Hash of what `aligned_pixels` depends on: records, and sizes and times of the files of photos and landmarks."""
    if isinstance(records, SetRecords):
        return hashlib.sha256(repr((records.key, pixels)).encode()).hexdigest()[:16]
    sources = sorted({record.source for record in records})
    files = [data / f"{name}{end}" for name in sources for end in (".zip", "")] + [data / "landmarks.npz"]
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    parts = (str(data.resolve()), pixels, stamps, [record.key for record in records])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def aligned_pixels(data: Path, records: Sequence[FaceRecord], pixels: int = 128) -> np.ndarray:
    """The records' photos in the training frame: (len(records), pixels, pixels, 3) uint8, memory-mapped.

    The first call decodes every photo; later calls with the same records open the cached array.
    """
    path = cache_directory() / f"pixels-{frame_key(data, records, pixels)}.npy"
    if not path.exists():
        with replacing(path) as temporary:
            _decode_all(data, records, pixels, temporary)
    return np.load(path, mmap_mode="r")


def _decode_all(data: Path, records: Sequence[FaceRecord], pixels: int, path: Path) -> None:
    """Decode, align and write every photo."""
    array = new_array(path, (len(records), pixels, pixels, 3), np.uint8)
    photos = _set_photos(records, pixels) if isinstance(records, SetRecords) else _photos(data, records, pixels)
    for row, photo in enumerate(photos):
        array[row] = photo
    array.flush()


def _photos(data: Path, records: Sequence[FaceRecord], pixels: int) -> Iterator[np.ndarray]:
    """Photos (pixels, pixels, 3) of a folder with tables, brought to the training frame."""
    store, frames = PhotoStore(data), read_frames(data)
    for record in records:
        image = store.open(record)
        yield np.asarray(crop(image, frames.frame(record.source, record.file, *image.size), pixels))


def _set_photos(records: SetRecords, pixels: int) -> Iterator[np.ndarray]:
    """Photos (pixels, pixels, 3) of a set, which are in the training frame."""
    return (framed_photo(file, pixels) for file in records.photos())


def framed_photo(file: bytes, pixels: int) -> np.ndarray:
    """The photo (pixels, pixels, 3) uint8 of an image file that is in the training frame."""
    image = opened_photo(file)
    return np.asarray(image if image.size == (pixels, pixels) else crop(image, whole_image(*image.size), pixels))


def opened_photo(file: bytes) -> Image.Image:
    """A photo of a set as an RGB image.

    Raises:
        UserError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(file)) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = image_fault(error)
        raise UserError(f"the set holds a photo that is no image ({said}); 'unif2ace data check' names it") from error


def image_fault(error: Exception) -> str:
    """Why a decoder gave up; the words for what it does not know have an address in them."""
    return "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
