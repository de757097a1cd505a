"""`unif2ace data encode`: image codes and expert features as columns, so that training need not look at photos.

A row of `codes` holds the codes of both views, the photo as it is and mirrored, one after the other; `clip` and `face`
likewise, in fp16. stages.json says which encoders made them; training takes them where those are its own. A process
computes in one thread: `accelerate launch` uses more cores, and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unif2ace_core.data.pixels import framed_photo
from unif2ace_core.data.sets import SetRecords, check_aligned
from unif2ace_core.data.shards import Job, Made, Shard, image_files, read_shard, read_stages, shards_of, with_column
from unif2ace_core.data.stages.threads import one_thread
from unif2ace_core.train.encode import VIEWS, Encoder, encoded_views, encoder_fingerprint, load_encoder
from unif2ace_core.train.loop import native_bf16

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "encode"
Rows = Callable[[np.ndarray], np.ndarray]  # photos (R, P, P, 3) uint8 -> (R, n)


def encode_settings(parts: Mapping[str, Path], pixels: int) -> dict[str, Any]:
    """What the columns depend on: the encoder of each kind, the side of the photos, the experts' precision."""
    encoders = {kind: encoder_fingerprint(kind, folder)[:16] for kind, folder in parts.items()}
    return {"encoders": encoders, "pixels": pixels, "precision": "bf16" if native_bf16() else "fp32"}


def encode_jobs(source: Path, parts: Mapping[str, Path], pixels: int) -> list[Job]:
    """Shards with a column for each kind in `parts`; an encoder is loaded when a shard is missing."""
    check_aligned(source)
    encoders = cache(lambda: load_encoders(parts))
    return [_job(shard, pixels, encoders) for shard in shards_of(source)]


def _job(shard: Shard, pixels: int, encoders: Callable[[], Mapping[str, Rows]]) -> Job:
    return Job(shard.name, lambda: _encoded(read_shard(shard.path), pixels, encoders()))


def load_encoders(parts: Mapping[str, Path]) -> dict[str, Rows]:
    """The encoders of some kinds, on CUDA where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {kind: _rows(load_encoder(kind, folder, device), device, kind) for kind, folder in parts.items()}


def _rows(encoder: Encoder, device: torch.device, kind: str) -> Rows:
    """An encoder as a function from photos to rows of both views."""

    def rows(photos: np.ndarray) -> np.ndarray:
        views: list[list[np.ndarray]] = [[] for _ in range(VIEWS)]
        with one_thread():
            for _, view, values in encoded_views(photos, encoder, device, kind != "codes" and native_bf16()):
                views[view].append(values)
        return np.stack([np.concatenate(each) for each in views], 1).reshape(len(photos), -1)

    return rows


def _encoded(table: pa.Table, pixels: int, encoders: Mapping[str, Rows]) -> Made:
    """The rows with a column for each encoder."""
    files = image_files(table)
    blank = np.zeros((1, pixels, pixels, 3), np.uint8)  # tells an empty shard's types
    photos = np.stack([framed_photo(file, pixels) for file in files]) if files else blank
    for kind, encoder in encoders.items():
        table = with_fixed_lists(table, kind, encoder(photos)[: len(table)])
    return Made(table, {"rows": len(table)})


def with_fixed_lists(table: pa.Table, name: str, rows: np.ndarray) -> pa.Table:
    """The table with a column of rows (R, n), lists of one length."""
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return with_column(table, name, values, values.type)


# --- What training takes -------------------------------------------------------------------------------------


def stored(records: SetRecords, kind: str, encoder: str, pixels: int) -> Iterable[np.ndarray] | None:
    """A set's rows (B, VIEWS, n) of a kind, a few at a time; None where that encoder did not make them of such photos.

    `encoder` is its `encoder_fingerprint`, `pixels` the side of the photos.
    """
    done = [stage for stage in read_stages(records.directory) if stage["stage"] == STAGE]
    if not done or not records.has(kind):
        return None
    if (done[-1]["encoders"].get(kind), done[-1]["pixels"]) != (encoder[:16], pixels):
        return None
    return (_unpacked(values) for values in records.column(kind))


def _unpacked(values: pa.FixedSizeListArray) -> np.ndarray:
    """An Arrow array of lists of one length as rows (B, VIEWS, n)."""
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), VIEWS, -1)
