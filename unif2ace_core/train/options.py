"""Training options: one dataclass that every recipe extends, and `key=value` overrides from the command line."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unif2ace_core.errors import UserError


@dataclass
class TrainConfig:
    """What all recipes share."""

    steps: int = 1000  # optimizer steps in the whole schedule
    batch_size: int = 32  # samples per step and process
    learning_rate: float = 1e-3  # peak
    warmup: int = 100  # steps of linear warm-up
    decay: float = 0.3  # last share of the steps over which the rate falls linearly to zero
    weight_decay: float = 0.01  # AdamW, matrices only
    beta2: float = 0.99  # AdamW's second moment; shorter memory suits short runs
    max_gradient_norm: float = 1.0  # gradients are scaled down to it
    ema: float = 0.999  # decay of the averaged weights that are exported
    seed: int = 0  # every draw is a function of (seed, step)
    precision: str = "auto"  # auto, fp32 or bf16; auto takes bf16 where the processor multiplies it natively
    threads: int = 0  # CPU threads; 0 leaves torch's choice
    log_every: int = 20  # steps between log lines
    eval_every: int = 1000  # steps between evaluations; 0 for the end only
    save_every: int = 500  # steps between checkpoints
    init: str = ""  # directory of an earlier export to start the weights from


Config = TypeVar("Config", bound=TrainConfig)


def _parse(text: str, kind: Any, key: str) -> Any:
    """Turn the text of `key=text` into `kind`."""
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            return text.lower() in ("1", "true", "yes", "on")
        raise UserError(f"{key}={text} is not a yes/no value; write {key}=true or {key}=false")
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parse(part, inner, key) for part in text.split(",") if part)
    try:
        return kind(text)
    except ValueError as error:
        raise UserError(f"{key}={text} is not of type {kind.__name__}") from error


def with_overrides(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return the config with `key=value` texts applied.

    Raises:
        UserError: unknown key (the valid ones are listed) or a value of the wrong type.
    """
    kinds = typing.get_type_hints(type(config))
    unknown = sorted(set(overrides) - set(kinds))
    if unknown:
        known = ", ".join(f"{name} ({getattr(kind, '__name__', kind)})" for name, kind in kinds.items())
        raise UserError(f"unknown setting {unknown[0]!r}; valid ones are {known}")
    parsed = {key: _parse(text, kinds[key], key) for key, text in overrides.items()}
    return dataclasses.replace(config, **parsed)


def as_path(text: str) -> Path | None:
    """An empty option means none."""
    return Path(text).expanduser() if text else None
