"""`unif2ace data calibrate`: how far a model's attribute head can be believed, by the labels of a set's sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.calibration import Calibration, age_error, fit_head
from unif2ace_core.data.sets import check_aligned, row_count, row_groups
from unif2ace_core.data.shards import RECORD_COLUMNS, Shard, shards_of
from unif2ace_core.data.stages.annotate import Seen, clip_fingerprint, image_files, load_look
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 20_000  # photos that a calibration looks at


def calibrate(
    source: Path, split: str, directory: Path, model: str, precision: float, on_done: Callable[[], None] | None = None
) -> Calibration:
    """Measure a model's attribute head on the source's own labels of a set's split, at most `MOST` photos of it.

    Raises:
        UserError: the set is not aligned, damaged, has no such split, or its photos no labels.
    """
    import pyarrow as pa

    check_aligned(source)
    shards = split_shards(source, split)
    clip, look = clip_fingerprint(directory, model), load_look(directory)
    found: list[tuple[Seen, np.ndarray, np.ndarray, list[str]]] = []
    every = max(1, -(-sum(map(row_count, shards)) // MOST))  # so that all shards have their share
    for shard in shards:
        for table in row_groups(shard, ["image", "probabilities", *RECORD_COLUMNS]):
            table = table.take(pa.array(range(0, len(table), every), pa.int64()))
            found.append((look(image_files(table)), *_labelled(table), table["source"].to_pylist()))
        if on_done:
            on_done()
    values = np.concatenate([np.zeros((0, len(SCHEMA)), np.int8), *(each[1] for each in found)])
    if not (values >= 0).any():
        raise UserError(f"{source} has no labelled photos in {split}; calibrate on a set that has, or see --split")
    ages = np.concatenate([each[2] for each in found])
    sources = np.array([name for each in found for name in each[3]])
    heads = {}
    for column, each in enumerate(SCHEMA):
        logits = np.concatenate([seen.logits[each.name] for seen, *_ in found])
        heads[each.name] = fit_head(logits, values[:, column], sources, each.values, precision)
    return Calibration(clip, precision, heads, age_error(np.concatenate([seen.ages for seen, *_ in found]), ages))


def split_shards(source: Path, split: str) -> list[Shard]:
    """The shards of one split.

    Raises:
        UserError: there are none.
    """
    by_split: dict[str, list[Shard]] = {}
    for shard in shards_of(source):
        by_split.setdefault(shard.name.rpartition("-")[0], []).append(shard)
    if split not in by_split:
        raise UserError(f"{source} has no split {split!r}; it has {', '.join(by_split)}")
    return by_split[split]


def _labelled(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Places of the source's own values (B, 46), -1 where unknown, and ages (B,), NaN where unknown."""
    rows = zip(table["labels"].to_pylist(), table["probabilities"].to_pylist())
    places = {each.name: {value: place for place, value in enumerate(each.values)} for each in SCHEMA}
    values = [
        [-1 if chances[name] is not None else of.get(labels[name], -1) for name, of in places.items()]
        for labels, chances in rows
    ]
    ages = [np.nan if age is None else age for age in table["age"].to_pylist()]
    return np.array(values, np.int8).reshape(-1, len(SCHEMA)), np.array(ages, np.float64)
