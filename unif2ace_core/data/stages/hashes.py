"""Perceptual hashes of aligned faces, and who repeats whom.

The hash is a difference hash: 256 signs of horizontal steps of brightness in a 17 x 16 thumbnail. Copies of a photo in
another size or compression differ in a few of them, photos of one person in many.

Two hashes that differ in at most 15 signs differ in at most one of 32 in one of eight bands at least. So the kept
hashes lie in a table of chains by the bits of each band, and each new one is compared with those whose band it shares
(or shares but for one bit, where `distance` is above 7): about 100 bytes a hash, whatever there is to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
BYTES = SIDE * SIDE // 8
BANDS = 8  # of 32 signs
FARTHEST = 2 * BANDS - 1
BLOCK = 512  # hashes looked at together; what they are compared with takes some 20 MB at the most

Bytes = npt.NDArray[np.uint8]  # (N, 32): hashes
Rows = npt.NDArray[np.int32]


def difference_hash(image: Image.Image) -> str:
    """256 signs as 64 hexadecimal digits."""
    small = image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes().hex()


def packed(hashes: Sequence[str]) -> Bytes:
    """Hashes as bytes (N, 32)."""
    found, rest = np.empty((len(hashes), BYTES), np.uint8), iter(hashes)
    for start in range(0, len(hashes), BLOCK):  # so that not all texts are held where they are made one by one
        signs = bytes.fromhex("".join(islice(rest, BLOCK)))
        found[start : start + BLOCK] = np.frombuffer(signs, np.uint8).reshape(-1, BYTES)
    return found


def repeats(hashes: Sequence[str], distance: int) -> dict[int, int]:
    """Places of hashes that are within `distance` signs of an earlier one that is kept -> the first such place.

    `distance` is at most `FARTHEST`.
    """
    return repeated(packed(hashes), distance)


def repeated(hashes: Bytes, distance: int) -> dict[int, int]:
    """`repeats` of hashes as bytes (N, 32)."""
    if not 0 <= distance <= FARTHEST:
        raise ValueError(f"distance {distance} is not in 0..{FARTHEST}")
    words = _mixed(hashes).view(np.uint64)
    index, found = _Index(words), dict[int, int]()
    for start in range(0, len(words), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(words)), dtype=np.int32)
        first = index.first_near(rows, distance)
        rest = rows[first < 0]
        first[first < 0] = _first_among(words, rest, distance)
        index.add(rows[first < 0])
        found |= {int(row): int(kept) for row, kept in zip(rows, first) if kept >= 0}
    return found


def _mixed(hashes: Bytes) -> Bytes:
    """The signs in an order in which each band has some of the whole face: photos share the flat parts of theirs."""
    order, mixed = np.random.default_rng(0).permutation(8 * BYTES), np.empty_like(hashes)
    for start in range(0, len(hashes), BLOCK):
        signs = np.unpackbits(hashes[start : start + BLOCK], axis=1)
        mixed[start : start + BLOCK] = np.packbits(signs[:, order], axis=1)
    return mixed


class _Index:
    """The kept hashes by their bands: `heads` has the last one of each chain, `nexts` the one before it; -1 ends it.

    What is chained is BAND * N + ROW, so that all bands are walked together.
    """

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self.words, self.count = words, len(words)
        self.bits = max(8, self.count.bit_length() - 1)
        self.heads = np.full(BANDS << self.bits, -1, np.int32)
        self.nexts = np.full(BANDS * self.count, -1, np.int32)

    def first_near(self, rows: Rows, distance: int) -> Rows:
        """The first kept hash within `distance` of each of `rows`; -1 where there is none."""
        first = np.full(len(rows), self.count, np.int32)
        for asked, place in self._starts(rows, distance):
            while len(place):
                other = place % self.count
                near = _differing(self.words[rows[asked]], self.words[other]) <= distance
                np.minimum.at(first, asked[near], other[near])
                place = self.nexts[place]
                asked, place = asked[place >= 0], place[place >= 0]
        return np.where(first < self.count, first, np.int32(-1))

    def _starts(self, rows: Rows, distance: int) -> Iterator[tuple[npt.NDArray[np.intp], Rows]]:
        """Chains to walk: which of `rows` asks, and where its chain begins."""
        keys = self._keys(rows)
        for flipped in range(33 if distance >= BANDS else 1):  # 0: the band as it is, then each of its bits turned
            turned = keys if flipped == 0 else keys ^ np.uint32(1 << (flipped - 1))
            heads = self.heads[self._slots(turned)]
            asked, band = np.nonzero(heads >= 0)
            yield asked, heads[asked, band]

    def add(self, rows: Rows) -> None:
        """Keep `rows`."""
        slots = self._slots(self._keys(rows)).reshape(-1)
        places = (np.arange(BANDS, dtype=np.int32) * self.count + rows[:, None]).reshape(-1)
        order = np.argsort(slots, kind="stable")
        slots, places = slots[order], places[order]
        same = np.concatenate([[False], slots[1:] == slots[:-1]])  # chained to the one before it among `rows`
        self.nexts[places] = np.where(same, np.roll(places, 1), self.heads[slots])
        self.heads[slots] = places  # of equal slots the last one counts

    def _keys(self, rows: Rows) -> npt.NDArray[np.uint32]:
        return self.words[rows].view(np.uint32)

    def _slots(self, keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Where the chains of bands (n, BANDS) begin."""
        mixed = (keys * np.uint32(0x9E3779B1)) >> np.uint32(32 - self.bits)
        return mixed.astype(np.int64) + (np.arange(BANDS) << self.bits)


def _first_among(words: npt.NDArray[np.uint64], rows: Rows, distance: int) -> Rows:
    """The first kept one of `rows` within `distance` of each of them; -1 where it is kept itself."""
    own, first = words[rows], np.full(len(rows), -1, np.int32)
    near = np.tril(_ones(own[:, None, 0] ^ own[None, :, 0]) <= distance, -1)
    later, earlier = np.nonzero(near)  # a quarter of the signs tells most of them apart
    near[later, earlier] = _differing(own[later], own[earlier]) <= distance
    kept = np.ones(len(rows), bool)
    for row in np.flatnonzero(near.any(1)):
        hits = np.flatnonzero(near[row] & kept)
        if len(hits):
            kept[row], first[row] = False, rows[hits[0]]
    return first


def _differing(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """In how many signs hashes (n, 4) differ."""
    return _ones(left ^ right).sum(-1, dtype=np.uint16)


def _ones_by_table(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits of each word are set."""
    return _ONES[words.view(np.uint8)].reshape(*words.shape, 8).sum(-1, dtype=np.uint8)


_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)  # of each byte
_ones: Callable[..., Any] = getattr(np, "bitwise_count", _ones_by_table)  # numpy 2 has it
