"""Reads the small JSON file that lies beside an expert's weights."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from unif2ace_core.errors import UserError


def read_config(kind: type[Any], path: Path) -> Any:
    """An instance of the dataclass `kind`; raises `UserError` for a missing or foreign file."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the model directory or download it again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(kind)}
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a {kind.__name__} ({error}); download the model again") from error
