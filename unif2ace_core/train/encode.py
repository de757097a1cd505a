"""Encode once, train on codes: image codes, CLIP patches and face embeddings of every photo, as memory-mapped arrays.

Each photo is encoded in two views, as it is and mirrored. Photos have the codec's side (128 pixels for the embedded
one, 256 or 512 for MAGVIT-v2); experts that want another one resize by themselves. Codes are signs of numbers near 0:
they are computed in fp32, as where the model reads photos; experts in bf16 where the machine has it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unif2ace_core.data.pixels import aligned_pixels, cache_directory, frame_key, new_array
from unif2ace_core.data.sets import SetRecords
from unif2ace_core.data.shards import digest
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import clip_width, load_clip_expert
from unif2ace_core.experts.face import load_face_expert
from unif2ace_core.tokens.codec import CodecConfig, to_image_tensor
from unif2ace_core.train.loop import native_bf16
from unif2ace_core.weights.parts import fingerprint
from unif2ace_core.weights.resolve import codec_config, load_codec
from unif2ace_core.weights.store import replacing

logger = logging.getLogger(__name__)

VIEWS = 2
BATCH = 64  # photos of 128 pixels at once, fewer of larger ones
VERSION = 2  # part of the cache's keys; goes up when what is computed changes
Part = tuple[int, int, np.ndarray]  # first row, view, rows (B, ...) of it
PARTS = {"codes": "codec", "clip": "clip", "face": "face"}  # kind of array -> part that makes it


class Encoder(Protocol):
    """Images (B, 3, P, P) in [-1, 1] -> one array's rows."""

    def __call__(self, images: Tensor) -> Tensor: ...


def load_encoder(kind: str, directory: Path, device: torch.device) -> Encoder:
    """The frozen encoder of a kind: codes (B, N) int16, int32 beyond 15 bits; clip (B, T, C) fp16; face (B, d) fp16."""
    if kind == "codes":
        codec = load_codec(directory).to(device).to(memory_format=torch.channels_last)
        whole = torch.int16 if codec.config.codes <= 2**15 else torch.int32
        return lambda images: codec.encode(images).to(whole)
    if kind == "clip":
        clip = load_clip_expert(directory).to(device).to(memory_format=torch.channels_last)
        return lambda images: clip.features(images).tokens.half()
    face = load_face_expert(directory).to(device).to(memory_format=torch.channels_last)
    return lambda images: face(images).half()


def encoder_fingerprint(kind: str, directory: Path) -> str:
    """Hash of all that decides what an encoder of a kind computes of a photo's pixels.

    Raises:
        UserError: a file is missing, or does not fit its config.
    """
    if kind == "codes" and isinstance(codec_config(directory), CodecConfig):
        return encoding_of(load_codec(directory))
    return fingerprint(directory, PARTS[kind])


def encoding_of(codec: nn.Module) -> str:
    """Hash of what of a codec turns photos into codes: its decoder may learn on, and codes stay."""
    known = hashlib.sha256()
    for name, value in sorted(codec.state_dict().items()):
        if not name.startswith("decoder."):
            known.update(repr((name, value.shape, value.dtype)).encode() + value.cpu().numpy().tobytes())
    return known.hexdigest()


@dataclass
class EncodedSet:
    """What the transformer trains on; the first dimension counts records, the second views."""

    codes: np.ndarray  # (R, VIEWS, N) int16
    clip: np.ndarray | None  # (R, VIEWS, T, C) fp16
    face: np.ndarray | None  # (R, VIEWS, d) fp16
    photos: np.ndarray | None = None  # (R, P, P, 3) uint8, as they are: for encoders that learn


def encoded(
    data: Path, records: Sequence[FaceRecord], codec: Path, clip: Path | None, face: Path | None, photos: bool = False
) -> EncodedSet:
    """Encode the records with parts of any kind, on CUDA where there is one, or open what the cache holds of it."""
    side = codec_config(codec).pixels
    return EncodedSet(
        encode_kind("codes", data, records, codec, side),
        encode_kind("clip", data, records, clip, side) if clip else None,
        encode_kind("face", data, records, face, side) if face else None,
        aligned_pixels(data, records, side) if photos else None,
    )


def encode_kind(kind: str, data: Path, records: Sequence[FaceRecord], directory: Path, pixels: int) -> np.ndarray:
    """One array of `EncodedSet`, of photos of this side.

    The cache's key covers the photos, their frames and side, the encoder (not a codec's decoder), and the precision.
    """
    bf16, encoder = kind != "codes" and native_bf16(), encoder_fingerprint(kind, directory)
    path = cache_directory() / f"{kind}-{digest((VERSION, encoder, frame_key(data, records, pixels), bf16))}.npy"
    if not path.exists():
        with replacing(path) as temporary:
            if not _copy_stored(records, kind, directory, encoder, pixels, temporary):
                _encode_anew(kind, data, records, directory, pixels, temporary, bf16)
    return np.load(path, mmap_mode="r")


def _copy_stored(
    records: Sequence[FaceRecord], kind: str, directory: Path, encoder: str, pixels: int, path: Path
) -> bool:
    """Copy what `unif2ace data encode` stored with this encoder, by its fingerprint, of such photos, if it did."""
    if not isinstance(records, SetRecords):
        return False
    from unif2ace_core.data.stages.encode import stored

    found = stored(records, kind, encoder, pixels)
    if found is None:
        return False
    logger.info("taking the %s that the set holds", kind)
    tail = (-1, clip_width(directory)) if kind == "clip" else (-1,)
    _write(_by_view(found, tail), len(records), path)
    return True


def _by_view(rows: Iterable[np.ndarray], tail: tuple[int, ...]) -> Iterator[Part]:
    """Rows (B, VIEWS, n) as parts of an array whose rows have the shape `tail`."""
    start = 0
    for values in rows:
        for view in range(VIEWS):
            yield start, view, values[:, view].reshape(len(values), *tail)
        start += len(values)


def _encode_anew(
    kind: str, data: Path, records: Sequence[FaceRecord], directory: Path, pixels: int, path: Path, bf16: bool
) -> None:
    """Compute an array on CUDA where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = f"{directory / PARTS[kind]} on {device}"
    logger.info("encoding %d photos of %d pixels with %s, once for all runs", len(records), pixels, where)
    encoder, photos = load_encoder(kind, directory, device), aligned_pixels(data, records, pixels)
    _encode_all(photos, encoder, path, device, bf16)


def _batches(pixels: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, view, images) over all photos and views."""
    size = max(1, min(BATCH, BATCH * 128**2 // pixels.shape[1] ** 2))
    for start in range(0, len(pixels), size):
        images = to_image_tensor(torch.from_numpy(np.array(pixels[start : start + size])))
        yield start, 0, images
        yield start, 1, images.flip(3)


@torch.no_grad()
def encoded_views(pixels: np.ndarray, encoder: Encoder, device: torch.device, bf16: bool) -> Iterator[Part]:
    """(first row, view, rows of it) of photos (R, P, P, 3) uint8, in batches."""
    for start, view, images in _batches(pixels):
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            yield start, view, encoder(images).cpu().numpy()


def _encode_all(
    pixels: np.ndarray, encoder: Encoder, path: Path, device: torch.device | str = "cpu", bf16: bool = False
) -> None:
    """Write all rows and views."""
    _write(encoded_views(pixels, encoder, torch.device(device), bf16), len(pixels), path)


def _write(parts: Iterable[Part], count: int, path: Path) -> None:
    """Write an array (count, VIEWS, ...), part by part.

    Raises:
        UserError: there are no rows, which would leave a file that is no array, or the disk is too small.
    """
    array: np.memmap | None = None
    for start, view, values in parts:
        if array is None:
            array = new_array(path, (count, VIEWS, *values.shape[1:]), values.dtype)
        array[start : start + len(values), view] = values
    if array is None:
        raise UserError("there are no photos to encode; mark some rows train and some val in the CSV's split column")
    array.flush()
