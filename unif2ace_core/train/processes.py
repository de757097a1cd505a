"""Devices and processes: where batches go, and what several processes of one run do together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

MOST_PROCESSES = 64  # the seeds of a step's draws leave room for so many ranks
PATIENCE = timedelta(hours=24)  # processes wait for each other while one of them encodes the data


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are."""
    return next(module.parameters()).device


def moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on `device`; dataclasses, mappings, tuples and lists are rebuilt around them."""
    if isinstance(value, Tensor):
        return value.to(device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(moved(part, device) for part in value)
    return value


def build_accelerator(bf16: bool) -> Accelerator:
    """accelerate's view of this process; an earlier run of the process may have had another precision.

    Raises:
        UserError: more processes than a step's draws have seeds for.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    join_processes()
    AcceleratorState._reset_state()
    # a batch may leave experts without tokens, and a recipe parts without a loss
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    precision, on_cpu = "bf16" if bf16 else "no", not torch.cuda.is_available()
    accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu, kwargs_handlers=[unused])
    if accelerator.num_processes > MOST_PROCESSES:
        raise UserError(f"{accelerator.num_processes} processes are too many; launch at most {MOST_PROCESSES}")
    return accelerator


def join_processes() -> Any:
    """accelerate's `PartialState`: this process among those of `accelerate launch`, or alone."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


@contextmanager
def main_process_first() -> Iterator[None]:
    """The body runs on one process of each machine, then on its others: they find the caches filled."""
    with join_processes().local_main_process_first():
        yield
