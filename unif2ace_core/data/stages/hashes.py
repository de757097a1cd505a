"""Perceptual hashes of aligned faces, and who repeats whom.

The hash is a difference hash: 256 signs of horizontal steps of brightness in a 17 x 16 thumbnail. Copies of a photo in
another size or compression differ in a few of them, photos of one person in many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16
BANDS = 16  # two hashes that differ in fewer than BANDS signs agree in one band at least


def difference_hash(image: Image.Image) -> str:
    """256 signs as 64 hexadecimal digits."""
    small = image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes().hex()


def repeats(hashes: Sequence[str], distance: int) -> dict[int, int]:
    """Places of hashes that are within `distance` signs of an earlier one that is kept -> that earlier place.

    `distance` is below `BANDS`.
    """
    if not 0 <= distance < BANDS:
        raise ValueError(f"distance {distance} is not in 0..{BANDS - 1}")
    if not hashes:
        return {}
    bits = np.array([np.frombuffer(bytes.fromhex(text), np.uint8) for text in hashes]).reshape(len(hashes), -1)
    kept: dict[tuple[int, bytes], list[int]] = {}
    found: dict[int, int] = {}
    for place, row in enumerate(bits):
        bands = [(number, part.tobytes()) for number, part in enumerate(np.split(row, BANDS))]
        near = sorted({other for band in bands for other in kept.get(band, ())})
        far = np.unpackbits(bits[near] ^ row, axis=1).sum(1) if near else np.zeros(0)
        match = next((other for other, signs in zip(near, far) if signs <= distance), None)
        if match is not None:
            found[place] = match
            continue
        for band in bands:
            kept.setdefault(band, []).append(place)
    return found
