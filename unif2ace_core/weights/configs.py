"""Dataclass configs as JSON files: missing, malformed and foreign ones are named in one line."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, TypeVar

from unif2ace_core.errors import UserError

T = TypeVar("T")


def read_json(path: Path, remedy: str = "restore it from the original model") -> dict[str, Any]:
    """A JSON object from a file; `remedy` says what to do about a damaged one.

    Raises:
        UserError: missing, not JSON, or not an object.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; a model directory holds it beside the weights")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; {remedy}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type; whole numbers count as floats, booleans are no numbers."""
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, typing.get_args(kind)[0]) for part in value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def from_dict(kind: type[T], values: Any, origin: Path) -> T:
    """Build a dataclass of plain fields from a JSON object; lists become tuples.

    Raises:
        UserError: no object, unknown or missing fields, or values that do not fit them.
    """
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds no JSON object for {kind.__name__}; restore it from the original model")
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - fields)
    if unknown:
        raise UserError(f"{origin} has unknown field {unknown[0]!r}; was it written by a newer version?")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    kinds = typing.get_type_hints(kind)
    for key, value in frozen.items():
        if not _fits(value, kinds[key]):
            raise UserError(f"{origin} has {key} = {value!r}, which does not fit; restore it from the original model")
    try:
        return kind(**frozen)
    except (TypeError, ValueError) as error:
        raise UserError(f"{origin} is not usable ({error}); restore it from the original model") from error


def read_config(path: Path, kind: type[T]) -> T:
    """Read a dataclass from a JSON file."""
    return from_dict(kind, read_json(path), path)
