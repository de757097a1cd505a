"""Encode once, train on codes: image codes, CLIP patches and face embeddings of every photo, as memory-mapped arrays.

Each photo is encoded in two views, as it is and mirrored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.pixels import aligned_pixels, cache_directory
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.experts.clip import ClipEncoder, load_clip
from unif2ace_core.experts.face import FaceEncoder
from unif2ace_core.tokens.codec import Codec, CodecConfig, to_image_tensor
from unif2ace_core.weights.parts import load_part
from unif2ace_core.weights.store import replacing

VIEWS = 2
BATCH = 64


@dataclass
class Encoders:
    """The frozen encoders; `face` may be missing."""

    codec: Codec
    clip: ClipEncoder
    face: FaceEncoder | None

    @classmethod
    def load(cls, codec: Path, clip: Path, face: Path | None) -> Encoders:
        """Read the exports of the recipes."""
        return cls(
            load_part(codec, "codec", Codec, CodecConfig), load_clip(clip), FaceEncoder.load(face) if face else None
        )

    @torch.no_grad()
    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, P, P) in [-1, 1] -> codes (B, N) int16, clip (B, T, C) fp16, face (B, d) fp16."""
        images = images.contiguous(memory_format=torch.channels_last)
        found = {"codes": self.codec.encode(images).short(), "clip": self.clip.features(images).tokens.half()}
        if self.face is not None:
            found["face"] = self.face(images).half()
        return found


@dataclass
class EncodedSet:
    """What the transformer trains on; the first dimension counts records, the second views."""

    codes: np.ndarray  # (R, VIEWS, N) int16
    clip: np.ndarray  # (R, VIEWS, T, C) fp16
    face: np.ndarray | None  # (R, VIEWS, d) fp16


def encoded(
    data: Path, records: Sequence[FaceRecord], parts: tuple[Path, Path, Path | None], bf16: bool = False
) -> EncodedSet:
    """Encode the records with the codec, clip and face exports in `parts`, or open the cached result."""
    stamps = [
        hashlib.sha256(file.read_bytes()).hexdigest()
        for part in parts if part for file in sorted(part.glob("*.safetensors")) if "text" not in file.name
    ]
    names = [(record.source, record.file) for record in records]
    key = hashlib.sha256(repr((str(data.resolve()), stamps, names, bf16)).encode()).hexdigest()[:16]
    kinds = ["codes", "clip", *(["face"] if parts[2] else [])]
    paths = {kind: cache_directory() / f"encoded-{key}-{kind}.npy" for kind in kinds}
    if not all(path.exists() for path in paths.values()):
        _encode_all(aligned_pixels(data, records), Encoders.load(*parts), paths, bf16)
    arrays = {kind: np.load(path, mmap_mode="r") for kind, path in paths.items()}
    return EncodedSet(arrays["codes"], arrays["clip"], arrays.get("face"))


def _batches(pixels: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, view, images) over all photos and views."""
    for start in range(0, len(pixels), BATCH):
        images = to_image_tensor(torch.from_numpy(np.array(pixels[start : start + BATCH])))
        yield start, 0, images
        yield start, 1, images.flip(3)


def _encode_all(pixels: np.ndarray, encoders: Encoders, paths: dict[str, Path], bf16: bool) -> None:
    """Write one array per kind; a file appears only when it is complete."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        temporary = {kind: stack.enter_context(replacing(path)) for kind, path in paths.items()}
        arrays: dict[str, np.memmap] = {}
        for start, view, images in _batches(pixels):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                found = encoders.encode(images)
            for kind, path in temporary.items():
                value = found[kind].numpy()
                if kind not in arrays:
                    shape = (len(pixels), VIEWS, *value.shape[1:])
                    arrays[kind] = np.lib.format.open_memmap(path, mode="w+", dtype=value.dtype, shape=shape)
                arrays[kind][start : start + len(value), view] = value
        for array in arrays.values():
            array.flush()
