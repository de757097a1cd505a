"""What `unif2ace data check` looks at in whole columns: all shards have the same ones, and features are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unif2ace_core.data.check_rows import Fault, known_columns, type_fault
from unif2ace_core.data.shards import PARQUET, base_schema

if TYPE_CHECKING:
    import pyarrow as pa

FEATURES = ("codes", "clip", "face")  # columns of `data encode`: lists of one length


class Like(NamedTuple):
    """The shard with which the others are compared."""

    name: str
    schema: pa.Schema


def first_with_rows(directory: Path, names: Iterable[str]) -> Like | None:
    """The first of a set's shards that has rows; None where there is none, or none that can be read."""
    import pyarrow as pa
    from pyarrow import parquet

    for name in names:
        try:
            with parquet.ParquetFile(directory / "data" / f"{name}{PARQUET}") as file:
                if file.metadata.num_rows:
                    return Like(name, file.schema_arrow)
        except (OSError, pa.ArrowException):  # which is a finding when its turn comes
            continue
    return None


def unlike(schema: pa.Schema, like: Like, empty: bool) -> dict[str, str]:
    """column -> how it differs from that of another shard; types tell nothing in an `empty` one.

    The columns of `base_schema` are left out, and the types of texts: they are compared with what they must be.
    """
    must = set(base_schema().names)
    own, other = set(schema.names) - must, set(like.schema.names) - must
    wrong = dict.fromkeys(sorted(other - own), f"missing, which {like.name} has")
    wrong |= dict.fromkeys(sorted(own - other), f"not in {like.name}")
    for name in sorted(own & other - known_columns().keys()) if not empty else ():
        kind, wanted = schema.field(name).type, like.schema.field(name).type
        if kind != wanted:
            wrong[name] = type_fault(kind, wanted)
    return wrong


def is_numbers(kind: pa.DataType) -> bool:
    """Whether a type is that of lists of numbers."""
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return lists and (types.is_integer(kind.value_type) or types.is_floating(kind.value_type))


def feature_faults(table: pa.Table, lengths: dict[str, int]) -> Iterator[tuple[int, Fault]]:
    """(row, what is wrong) of stored codes and features; `lengths` has those of the set, as far as they are known."""
    for name in FEATURES:
        if name not in table.column_names or not len(table):
            continue
        if not is_numbers(table.schema.field(name).type):
            yield 0, Fault("features", name, f"{name} is no list of numbers")
            continue
        for row, what in _list_faults(table[name], name, lengths):
            yield row, Fault("features", name, f"{name} {what}")


def _list_faults(column: pa.ChunkedArray, name: str, lengths: dict[str, int]) -> Iterator[tuple[int, str]]:
    """(row, what is wrong) of one column of lists of numbers."""
    from pyarrow import compute

    column = column.combine_chunks()
    counts = compute.list_value_length(column).to_pylist()
    values = compute.list_flatten(column)
    holes = compute.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False)
    if not np.issubdtype(values.type.to_pandas_dtype(), np.integer):
        holes |= np.isinf(values.to_numpy(zero_copy_only=False).astype(np.float32))
    holed = set(compute.list_parent_indices(column).to_numpy(zero_copy_only=False)[holes].tolist())
    for row, count in enumerate(counts):
        if count is None:
            yield row, "is null"
        elif count != lengths.setdefault(name, count):
            yield row, f"has {count} numbers where others have {lengths[name]}"
        elif row in holed:
            yield row, "has places without a finite number"
