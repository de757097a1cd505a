"""Devices and processes: where batches go, and what several processes of one run do together.

A step's rows are cut into equal parts: one for each process and turn of gradient accumulation. Whatever a loss is an
average over is counted over all parts first, so that any division into parts gives the gradient of the whole.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(hours=24)  # processes wait for each other while one of them encodes the data


@dataclass(frozen=True)
class Part:
    """One of the equal parts of a step's rows."""

    common: torch.Generator  # the same numbers for every part of the step
    own: torch.Generator  # this part's numbers alone
    index: int = 0  # 0 .. count - 1
    count: int = 1  # processes times turns of accumulation

    def rows(self, batch_size: int) -> int:
        """Rows of this part."""
        return batch_size // self.count


def step_generator(seed: int, step: int, part: int = 0, stream: int = 0) -> torch.Generator:
    """A CPU generator that depends on (seed, step, part, stream) alone."""
    mixed = np.random.SeedSequence([seed, step, part, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) % 2**63)


def step_part(seed: int, step: int, index: int, count: int) -> Part:
    """Part `index` of `count` of a step."""
    return Part(step_generator(seed, step), step_generator(seed, step, index, stream=1), index, count)


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


def average_over(values: Sequence[Tensor], device: torch.device) -> Tensor:
    """Mean of equally shaped tensors over `values` and over all processes."""
    mean = torch.stack([value.to(device, torch.float32) for value in values]).mean(0)
    return sum_over_processes(mean) / world_size()


def world_size() -> int:
    """Number of processes that train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of each process's tensor, without gradient."""
    total = value.detach().clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def build_accelerator(accumulation: int = 1, unused: bool = True) -> Accelerator:
    """accelerate's view of this process; the loop itself decides the precision, alike for every engine.

    `unused`: some weights may have no gradient, which DDP then looks for in every step.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    join_processes()
    AcceleratorState._reset_state()
    # views save a copy of the gradients
    replicas = DistributedDataParallelKwargs(find_unused_parameters=unused, gradient_as_bucket_view=True)
    on_cpu = uses_cpu() and not wants("DEEPSPEED")
    accelerator = Accelerator(
        mixed_precision="no", cpu=on_cpu, gradient_accumulation_steps=accumulation, kwargs_handlers=[replicas]
    )
    if on_cpu and accelerator.num_processes > 1 and wants("FSDP"):
        shard_on_cpu(accelerator)
    return accelerator


def shard_on_cpu(accelerator: Accelerator) -> None:
    """accelerate turns FSDP on for graphics cards only; torch's `fully_shard` itself runs over gloo as well."""
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a part of the weights only (FSDP).

    Raises:
        UserError: FSDP's first version, whose flattened weights are not supported.
    """
    from accelerate.utils import DistributedType

    if accelerator.distributed_type != DistributedType.FSDP:
        return False
    if not accelerator.is_fsdp2:
        raise UserError("FSDP 1 is not supported; set fsdp_version: 2 in accelerate's config file")
    return True


def widen_scalars(module: nn.Module) -> list[str]:
    """Give scalar parameters one dimension, without which FSDP and DeepSpeed can't divide them; returns their names."""
    names = [name for name, parameter in module.named_parameters() if parameter.ndim == 0]
    for name in names:
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        setattr(owner, last, nn.Parameter(getattr(owner, last).detach().reshape(1)))
    return names


def whole(tensor: Tensor) -> Tensor:
    """A tensor with its parts on all processes; every process calls it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(state: Mapping[str, Tensor], scalars: Collection[str], keep: bool) -> dict[str, Tensor]:
    """A sharded state, whole and on the CPU, tensor by tensor; every process calls it, `keep` says who wants it.

    `scalars` are the names that `widen_scalars` gave.
    """
    found = {}
    for name, value in state.items():
        gathered = whole(value)
        if keep:
            found[name] = gathered.reshape(()).cpu() if name in scalars else gathered.cpu()
    return found


def uses_deepspeed(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed holds the optimizer."""
    from accelerate.utils import DistributedType

    return accelerator.distributed_type == DistributedType.DEEPSPEED


def zero_stage(accelerator: Accelerator) -> int:
    """What DeepSpeed divides among the processes: 1 the optimizer, 2 gradients too, 3 weights too; 0 without it."""
    return int(accelerator.state.deepspeed_plugin.zero_stage) if uses_deepspeed(accelerator) else 0


def join_processes() -> Any:
    """accelerate's `PartialState`: this process among those of `accelerate launch`, or alone."""
    from accelerate import PartialState

    if uses_cpu() and wants("DEEPSPEED"):
        # accelerate offers DeepSpeed beside graphics cards only; DeepSpeed itself runs over gloo as well
        return PartialState(cpu=False, backend="gloo", timeout=PATIENCE)
    return PartialState(cpu=uses_cpu(), timeout=PATIENCE)


def leave_processes() -> None:
    """End the connection to the other processes of a run; without it one of them may be cut off at its exit."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def uses_cpu() -> bool:
    """Whether there is no graphics card to train on."""
    return not torch.cuda.is_available()


def wants(engine: str) -> bool:
    """Whether `accelerate launch` was told to use FSDP or DEEPSPEED."""
    return os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() == "true"


@contextmanager
def main_process_first() -> Iterator[None]:
    """The body runs on one process of each machine, then on its others: they find the caches filled."""
    with join_processes().local_main_process_first():
        yield
