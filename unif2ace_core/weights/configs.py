"""Dataclass configs as JSON files: missing, malformed and foreign ones are named in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from unif2ace_core.errors import UserError

T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: missing, not JSON, or not an object.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; a model directory holds it beside the weights")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it from the original model") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; restore it from the original model")
    return value


def from_dict(kind: type[T], values: dict[str, Any], origin: Path) -> T:
    """Build a dataclass from JSON values; lists become tuples.

    Raises:
        UserError: unknown or missing fields.
    """
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - fields)
    if unknown:
        raise UserError(f"{origin} has unknown field {unknown[0]!r}; was it written by a newer version?")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return kind(**frozen)
    except TypeError as error:
        raise UserError(f"{origin} is incomplete ({error}); restore it from the original model") from error


def read_config(path: Path, kind: type[T]) -> T:
    """Read a dataclass from a JSON file."""
    return from_dict(kind, read_json(path), path)
