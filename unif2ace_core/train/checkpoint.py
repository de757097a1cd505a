"""Training checkpoints: weights, averaged weights and optimizer as safetensors, the position as JSON.

    OUTPUT/checkpoints/step-00001000/{model,ema,optimizer}.safetensors, state.json

A checkpoint is complete or absent: it is written under a temporary name and renamed. Nothing is pickled. Random
state needs no saving, because every draw of the loop is a function of (seed, step).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.weights.store import load_module, load_tensors, save_tensors, write_text_atomic

KEEP = 2  # newest checkpoints that stay on disk


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten the optimizer's state to `index.name` tensors (AdamW: step, exp_avg, exp_avg_sq)."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; hyper-parameters keep the optimizer's own values."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    output: Path,
    step: int,
    module: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> Path:
    """Write one complete checkpoint and drop all but the newest `KEEP`."""
    final = output / "checkpoints" / f"step-{step:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    save_tensors(temporary / "model.safetensors", module.state_dict())
    save_tensors(temporary / "ema.safetensors", ema)
    save_tensors(temporary / "optimizer.safetensors", optimizer_tensors(optimizer))
    write_text_atomic(temporary / "state.json", json.dumps({"step": step, **state}, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in sorted(final.parent.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint under `output`, or None."""
    found = sorted((output / "checkpoints").glob("step-*/state.json"))
    return found[-1].parent if found else None


def load_checkpoint(
    directory: Path, module: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore everything in place; returns the saved state (with `step`).

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{directory}/state.json is unreadable ({error}); remove that checkpoint folder") from error
    load_module(module, load_tensors(directory / "model.safetensors"), directory)
    averaged = load_tensors(directory / "ema.safetensors")
    for name, value in ema.items():
        value.copy_(averaged[name])
    restore_optimizer(optimizer, load_tensors(directory / "optimizer.safetensors"))
    return state
