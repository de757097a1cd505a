"""Training checkpoints: weights, averaged weights and optimizer as safetensors, the position as JSON.

    OUTPUT/checkpoints/step-00001000/{model,ema,optimizer}.safetensors, state.json
    OUTPUT/checkpoints/step-00001000/{model,ema,optimizer}/shard-*.safetensors, state.json   FSDP: each process its own

A checkpoint is complete or absent: it is written under a temporary name and renamed. Nothing is pickled. Either form is
read by any number of processes, sharded or not. Random state needs no saving, because every draw of the loop is a
function of (seed, step). The sharded form is torch.distributed.checkpoint's, with its safetensors storage.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from unif2ace_core.errors import UserError
from unif2ace_core.weights.store import load_module, load_tensors, save_tensors, write_text_atomic

KEEP = 2  # newest checkpoints that stay on disk
KINDS = ("model", "ema", "optimizer")


@dataclass(frozen=True)
class Crew:
    """The processes that save together."""

    main: bool = True  # whether this one writes what is written once
    sharded: bool = False  # whether each one holds a part of the weights
    wait: Callable[[], None] = lambda: None  # returns when all have come


def optimizer_names(optimizer: torch.optim.Optimizer, module: nn.Module) -> list[str]:
    """The names of the optimizer's parameters, in its order."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Flatten the optimizer's state to `parameter.name` tensors (AdamW: step, exp_avg, exp_avg_sq)."""
    state, names = optimizer.state_dict()["state"], optimizer_names(optimizer, module)
    return {
        f"{names[index]}.{name}": torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; hyper-parameters keep the optimizer's own values."""
    places = {name: index for index, name in enumerate(optimizer_names(optimizer, module))}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, _, name = key.rpartition(".")
        state.setdefault(places[parameter], {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    output: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: dict[str, Any],
    crew: Crew | None = None,
) -> Path:
    """Write one complete checkpoint and drop all but the newest `KEEP`; every process of the run calls it.

    Args:
        output: the run's folder.
        step: optimizer steps done.
        tensors: by kind (`KINDS`); an empty kind is left out.
        state: what else is needed to go on, as JSON.
        crew: the processes that save; None for one alone.
    """
    crew = crew or Crew()
    final = output / "checkpoints" / f"step-{step:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    if crew.main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    crew.wait()
    for kind, values in tensors.items():
        if values and crew.sharded:
            save_shards(temporary / kind, values)
        elif values and crew.main:
            save_tensors(temporary / f"{kind}.safetensors", values)
    crew.wait()
    if crew.main:
        write_text_atomic(temporary / "state.json", json.dumps({"step": step, **state}, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for old in sorted(final.parent.glob("step-*"))[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)
    crew.wait()
    return final


def save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Every process writes the parts of the tensors that it holds."""
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))


def latest_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint under `output`, or None."""
    found = sorted((output / "checkpoints").glob("step-*/state.json"))
    return found[-1].parent if found else None


def read_state(directory: Path) -> dict[str, Any]:
    """The position and settings of a checkpoint (with `step`).

    Raises:
        UserError: the file is missing or unreadable.
    """
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{directory}/state.json is unreadable ({error}); remove that checkpoint folder") from error
    return state


def load_weights(directory: Path, module: nn.Module) -> None:
    """The weights of a checkpoint into a module that is not sharded yet.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    load_module(module, read_whole(directory, "model", module), directory)


def load_average(directory: Path, ema: Mapping[str, Tensor]) -> None:
    """The averaged weights of a checkpoint into their tensors, sharded or not; without them the weights themselves."""
    kind = "ema" if has_kind(directory, "ema") else "model"
    restore(directory, kind, ema)


def load_optimizer(directory: Path, optimizer: torch.optim.Optimizer, module: nn.Module) -> bool:
    """The optimizer's state of a checkpoint; False where it has none, or one over other parameters."""
    if not has_kind(directory, "optimizer"):
        return False
    known, parameters = shapes_of(directory, "optimizer"), dict(module.named_parameters())
    if {key.rpartition(".")[0] for key in known} != set(optimizer_names(optimizer, module)):
        return False
    target = {}
    for key, (shape, dtype) in known.items():
        name, _, kind = key.rpartition(".")
        like = shape.numel() == parameters[name].numel() and dtype.is_floating_point and kind != "step"
        target[key] = torch.zeros_like(parameters[name], dtype=dtype) if like else torch.zeros(shape, dtype=dtype)
    restore(directory, "optimizer", target)
    restore_optimizer(optimizer, module, target)
    return True


def has_kind(directory: Path, kind: str) -> bool:
    """Whether a checkpoint holds that kind, in either form."""
    return (directory / kind).is_dir() or (directory / f"{kind}.safetensors").is_file()


def shapes_of(directory: Path, kind: str) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Names, whole shapes and types of a kind's tensors."""
    if (directory / kind).is_dir():
        found = shard_reader(directory / kind).read_metadata().state_dict_metadata
        return {name: (entry.size, entry.properties.dtype) for name, entry in found.items()}
    mapped = load_tensors(directory / f"{kind}.safetensors")  # memory-mapped: only headers are read
    return {name: (tensor.shape, tensor.dtype) for name, tensor in mapped.items()}


def read_whole(directory: Path, kind: str, module: nn.Module) -> dict[str, Tensor]:
    """All tensors of a kind, whole, on the CPU, scalars as they are in the module."""
    if not (directory / kind).is_dir():
        return load_tensors(directory / f"{kind}.safetensors")
    own = {name: value.shape for name, value in module.state_dict().items()}
    known = shapes_of(directory, kind)
    target = {
        name: torch.zeros(own[name] if own.get(name) == () else shape, dtype=dtype)
        for name, (shape, dtype) in known.items()
    }
    restore(directory, kind, target)
    return target


@torch.no_grad()
def restore(directory: Path, kind: str, target: Mapping[str, Tensor]) -> None:
    """Fill tensors, sharded or whole, from a kind in either form.

    Raises:
        UserError: a tensor is missing, or the shards are unreadable.
    """
    known = shapes_of(directory, kind)
    missing = sorted(target.keys() - known.keys())
    if missing:
        raise UserError(f"{directory} lacks {kind} tensors ({missing[0]}); is it another model's checkpoint?")
    if not (directory / kind).is_dir():
        for name, whole in load_tensors(directory / f"{kind}.safetensors").items():
            if name in target:
                copy_whole(target[name], whole)
        return
    import torch.distributed.checkpoint as dcp

    # scalars were widened to be divided, and may stand in the target as they were
    views = {name: value.view(1) if known[name][0] == (1,) else value for name, value in target.items()}
    alone = not torch.distributed.is_initialized()
    dcp.load(views, storage_reader=shard_reader(directory / kind), no_dist=alone)


def copy_whole(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    whole = whole.reshape(target.shape)
    if isinstance(target, DTensor):
        whole = whole.to(target.device, target.dtype)
        whole = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(whole)


def shard_reader(folder: Path) -> Any:
    """torch's reader of a folder of shards.

    Raises:
        UserError: the folder holds none.
    """
    import torch.distributed.checkpoint as dcp

    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} holds no shards; remove that checkpoint folder and resume from the one before")
    return dcp.HuggingFaceStorageReader(str(folder))
