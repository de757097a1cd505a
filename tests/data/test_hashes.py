"""The search for near copies: what the plain algorithm finds, in bounded memory, whatever the hashes are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from unif2ace_core.data.stages import hashes as module
from unif2ace_core.data.stages.hashes import BLOCK, BYTES, FARTHEST, difference_hash, packed, repeated, repeats


def plain_repeats(hashes: np.ndarray, distance: int) -> dict[int, int]:
    """Each hash against all kept ones, in order."""
    kept: list[int] = []
    found: dict[int, int] = {}
    for place, row in enumerate(hashes):
        far = np.unpackbits(hashes[kept] ^ row, axis=1).sum(1) if kept else np.zeros(0)
        near = np.flatnonzero(far <= distance)
        if len(near):
            found[place] = kept[near[0]]
        else:
            kept.append(place)
    return found


def clustered(rng: np.random.Generator, count: int, centres: int, most: int) -> np.ndarray:
    """Hashes about some centres, up to `most` signs away."""
    flips = np.zeros((count, 8 * BYTES), np.uint8)
    for row in flips:
        row[rng.choice(8 * BYTES, rng.integers(0, most + 1), replace=False)] = 1
    middle = rng.integers(0, 256, (centres, BYTES), dtype=np.uint8)
    return middle[rng.integers(0, centres, count)] ^ np.packbits(flips, axis=1)


@pytest.mark.parametrize("distance", [0, 1, 6, 7, 8, 11, FARTHEST])
@pytest.mark.parametrize("centres", [1, 40, 5000])
def test_what_is_found_is_what_the_plain_algorithm_finds(
    distance: int, centres: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 32)
    rng = np.random.default_rng(distance * 10 + centres)
    for count in (1, 31, 32, 33, 300):
        hashes = clustered(rng, count, centres, distance + 2)
        found = repeated(hashes, distance)
        assert found == plain_repeats(hashes, distance) and list(found) == sorted(found)


def test_hashes_with_few_signs_set_are_compared_in_full() -> None:
    rng = np.random.default_rng(0)
    hashes = np.packbits(rng.random((BLOCK + 200, 8 * BYTES)) < 0.02, axis=1)  # nearly all share some band
    for distance in (2, 6, 9):
        assert repeated(hashes, distance) == plain_repeats(hashes, distance)


def test_flat_images_are_repeats_of_the_first() -> None:
    flat = difference_hash(Image.new("RGB", (64, 64), "white"))
    assert repeats([flat] * (2 * BLOCK + 5), 6) == dict.fromkeys(range(1, 2 * BLOCK + 5), 0)


def test_an_image_and_its_negative_are_not_alike() -> None:
    assert repeats(["00" * BYTES, "ff" * BYTES], FARTHEST) == {} == repeats([], 3)


def test_the_farthest_distance_is_kept_to() -> None:
    for distance in (-1, FARTHEST + 1):
        with pytest.raises(ValueError, match=f"distance {distance}"):
            repeats(["00" * BYTES], distance)


def test_the_table_of_bits_counts_as_numpy_does() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (50, 4), dtype=np.uint64)
    assert (module._ones_by_table(words) == module._ones(words)).all()
    assert (module._ones(words).sum(1) == np.unpackbits(words.view(np.uint8), axis=1).sum(1)).all()


@pytest.mark.parametrize("alike", [False, True])
def test_the_search_takes_a_hundred_bytes_a_hash(alike: bool) -> None:
    rng, count = np.random.default_rng(0), 30_000
    hashes = rng.integers(0, 256, (count, BYTES), dtype=np.uint8)
    if alike:
        hashes[:, 1:] = 0  # a few kinds, each thousands of times
    tracemalloc.start()
    found = repeated(hashes, 6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak - 25e6) / count < 150 + 150 * alike  # 25 MB for a block; a found one is an entry of a dictionary
    assert bool(found) == alike


def test_packing_keeps_the_signs() -> None:
    text = difference_hash(Image.linear_gradient("L").rotate(90))
    assert packed([text, "ab" * BYTES]).tobytes().hex() == text + "ab" * BYTES
