"""Encode once, train on codes: image codes, CLIP patches and face embeddings of every photo, as memory-mapped arrays.

Each photo is encoded in two views, as it is and mirrored.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.pixels import aligned_pixels, cache_directory, frame_key
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import load_clip
from unif2ace_core.experts.face import FaceEncoder
from unif2ace_core.tokens.codec import Codec, CodecConfig, to_image_tensor
from unif2ace_core.train.loop import native_bf16
from unif2ace_core.weights.parts import load_part
from unif2ace_core.weights.store import replacing

logger = logging.getLogger(__name__)

VIEWS = 2
BATCH = 64


class Encoder(Protocol):
    """Images (B, 3, P, P) in [-1, 1] -> one array's rows."""

    def __call__(self, images: Tensor) -> Tensor: ...


def load_encoder(kind: str, directory: Path) -> Encoder:
    """The frozen encoder of a kind: codes (B, N) int16, clip (B, T, C) fp16 or face (B, d) fp16."""
    if kind == "codes":
        codec = load_part(directory, "codec", Codec, CodecConfig).to(memory_format=torch.channels_last)
        return lambda images: codec.encode(images).short()
    if kind == "clip":
        clip = load_clip(directory).to(memory_format=torch.channels_last)
        return lambda images: clip.features(images).tokens.half()
    face = FaceEncoder.load(directory).to(memory_format=torch.channels_last)
    return lambda images: face(images).half()


@dataclass
class EncodedSet:
    """What the transformer trains on; the first dimension counts records, the second views."""

    codes: np.ndarray  # (R, VIEWS, N) int16
    clip: np.ndarray  # (R, VIEWS, T, C) fp16
    face: np.ndarray | None  # (R, VIEWS, d) fp16


def encoded(data: Path, records: Sequence[FaceRecord], codec: Path, clip: Path, face: Path | None) -> EncodedSet:
    """Encode the records with the recipes' exports, or open what an earlier call left in the cache."""
    return EncodedSet(
        encode_kind("codes", data, records, codec),
        encode_kind("clip", data, records, clip),
        encode_kind("face", data, records, face) if face else None,
    )


def encode_kind(kind: str, data: Path, records: Sequence[FaceRecord], directory: Path) -> np.ndarray:
    """One array of `EncodedSet`; the cache key covers the encoder's weights and the records."""
    part = {"codes": "codec"}.get(kind, kind)
    weights = (directory / f"{part}.safetensors").read_bytes()
    key = hashlib.sha256(weights + frame_key(data, records).encode()).hexdigest()[:16]
    path = cache_directory() / f"{kind}-{key}.npy"
    if not path.exists():
        logger.info("encoding %d photos with %s, once for all runs", len(records), directory / part)
        with replacing(path) as temporary:
            _encode_all(aligned_pixels(data, records), load_encoder(kind, directory), temporary)
    return np.load(path, mmap_mode="r")


def _batches(pixels: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, view, images) over all photos and views."""
    for start in range(0, len(pixels), BATCH):
        images = to_image_tensor(torch.from_numpy(np.array(pixels[start : start + BATCH])))
        yield start, 0, images
        yield start, 1, images.flip(3)


@torch.no_grad()
def _encode_all(pixels: np.ndarray, encoder: Encoder, path: Path) -> None:
    """Write all rows and views; in bf16 where the machine has it.

    Raises:
        UserError: there are none, which would leave a file that is no array.
    """
    if not len(pixels):
        raise UserError("there are no photos to encode; mark some rows train and some val in the CSV's split column")
    array: np.memmap | None = None
    for start, view, images in _batches(pixels):
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            value = encoder(images.contiguous(memory_format=torch.channels_last)).numpy()
        if array is None:
            shape = (len(pixels), VIEWS, *value.shape[1:])
            array = np.lib.format.open_memmap(path, mode="w+", dtype=value.dtype, shape=shape)
        array[start : start + len(value), view] = value
    if array is not None:
        array.flush()
