"""Training options: one dataclass that every recipe extends, and `key=value` overrides from the command line."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError

OPTIMIZERS = ("adamw", "adamw8bit", "muon")


@dataclass
class TrainConfig:
    """What all recipes share."""

    steps: int = 1000  # optimizer steps in the whole schedule
    batch_size: int = 32  # samples per optimizer step, over all processes
    accumulation: int = 1  # turns in which a process computes its samples of a step
    learning_rate: float = 1e-3  # peak
    warmup: int = 100  # steps of linear warm-up
    decay: float = 0.3  # last share of the steps over which the rate falls linearly to zero
    weight_decay: float = 0.01  # AdamW, matrices only
    beta2: float = 0.99  # AdamW's second moment; shorter memory suits short runs
    optimizer: str = "adamw"  # adamw; adamw8bit: bitsandbytes' states of one byte, on CUDA; muon (train/muon.py)
    max_gradient_norm: float = 1.0  # gradients are scaled down to it
    ema: float = 0.999  # decay of the averaged weights that are exported; 0 keeps none and exports the weights
    seed: int = 0  # every draw is a function of (seed, step)
    precision: str = "auto"  # auto, fp32 or bf16; auto takes bf16 where the processor multiplies it natively
    threads: int = 0  # CPU threads; 0 leaves torch's choice
    log_every: int = 20  # steps between log lines
    eval_every: int = 1000  # steps between evaluations; 0 for the end only
    save_every: int = 500  # steps between checkpoints
    init: str = ""  # directory of an earlier export to start the weights from

    def __post_init__(self) -> None:
        """Refuse values that no run can have, before any work."""
        check_range(self, ("steps", "batch_size", "accumulation", "log_every", "save_every"), 1)
        check_range(self, ("warmup", "eval_every", "threads", "weight_decay", "max_gradient_norm"), 0)
        check_range(self, ("decay", "ema"), 0, 1)
        check_range(self, ("beta2",), 0, 0.99999)
        check_choice(self, "precision", ("auto", "fp32", "bf16"))
        check_choice(self, "optimizer", OPTIMIZERS)
        if self.batch_size % self.accumulation:
            raise UserError(
                f"batch_size={self.batch_size} cannot be divided into accumulation={self.accumulation} turns; "
                f"give a multiple of {self.accumulation}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate={self.learning_rate} is not above 0; 1e-3 is a good start")

    def missing(self) -> list[str]:
        """Settings that a run cannot do without and that are not given; a plan can."""
        return []


def check_range(config: Any, names: Collection[str], low: float, high: float = math.inf) -> None:
    """Raise `UserError` for the first of the config's fields `names` that is not in low..high; None is left alone."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"in {low:g}..{high:g}"
            raise UserError(f"{name}={value} is out of range; give a value {wanted}")


def check_choice(config: Any, name: str, known: Collection[str]) -> None:
    """Raise `UserError` where the config's field `name` is none of the `known` words; None is left alone."""
    value = getattr(config, name)
    if value is not None and value not in known:
        raise UserError(f"no {name.replace('_', ' ')} {value!r}; choose one of {', '.join(known)}")


def factors_of(words: Sequence[str], setting: str, known: Collection[str], kind: str, example: str) -> dict[str, float]:
    """Words NAME:FACTOR of a setting, whose names are of a known kind.

    Raises:
        UserError: another form, an unknown name, or a factor that is not positive.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, factor = word.partition(":")
        if name in found:
            raise UserError(f"{setting} has {name} twice; give it once")
        try:
            found[name] = float(factor)
        except ValueError:
            found[name] = 0.0
        if name not in known or not 0 < found[name] < math.inf:
            raise UserError(f"{setting}={word} is no {kind} with a factor; give one such as {setting}={example}")
    return found


Config = TypeVar("Config", bound="TrainConfig | ModelConfig")


def _parse(text: str, kind: Any, key: str) -> Any:
    """Turn the text of `key=text` into `kind`, or into the other kind of `kind | None`."""
    if type(None) in typing.get_args(kind):
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
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
        UserError: unknown key (the valid ones are listed), or a value of the wrong type or out of range.
    """
    kinds = typing.get_type_hints(type(config))
    unknown = sorted(set(overrides) - set(kinds))
    if unknown:
        known = ", ".join(f"{name} ({getattr(kind, '__name__', kind)})" for name, kind in kinds.items())
        raise UserError(f"unknown setting {unknown[0]!r}; valid ones are {known}")
    parsed = {key: _parse(text, kinds[key], key) for key, text in overrides.items()}
    return dataclasses.replace(config, **parsed)


def differences(saved: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """`name: saved value -> present value` for each setting that differs from those read back from JSON."""
    found = []
    for name, value in dataclasses.asdict(config).items():
        now = list(value) if isinstance(value, tuple) else value  # JSON knows no tuples
        if name in saved and saved[name] != now:
            found.append(f"{name} {saved[name]!r} -> {now!r}")
    return found


def as_path(text: str) -> Path | None:
    """An empty option means none."""
    return Path(text).expanduser() if text else None
