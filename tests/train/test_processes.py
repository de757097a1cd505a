"""Batches reach the device whole; two processes train one model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.train.loop import train
from unif2ace_core.train.options import TrainConfig
from unif2ace_core.train.processes import Part, leave_processes, main_process_first, moved
from unif2ace_core.train.recipes.locate import targets
from unif2ace_core.train.scenes import Scenes
from unif2ace_core.weights.store import load_tensors, save_tensors

META = torch.device("meta")  # a device that every machine has and that refuses tensors of another


@dataclass(frozen=True)
class Inner:
    values: Tensor
    note: str


@dataclass
class Outer:
    inner: Inner
    table: dict[str, Tensor]
    pair: tuple[Tensor, int]
    absent: Tensor | None = None


def test_every_tensor_of_a_nested_batch_moves_and_the_rest_stays() -> None:
    batch = Outer(Inner(torch.ones(2), "kept"), {"a": torch.ones(3, dtype=torch.int64)}, (torch.zeros(1), 7))
    there = moved(batch, META)
    assert {there.inner.values.device, there.table["a"].device, there.pair[0].device} == {META}
    assert (there.inner.note, there.pair[1], there.absent) == ("kept", 7, None)
    assert there.table["a"].dtype == torch.int64 and batch.inner.values.device.type == "cpu"


def test_a_batch_that_is_already_there_is_not_copied() -> None:
    image = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert moved((image,), torch.device("cpu"))[0] is image


def test_folding_and_targets_work_where_the_tensors_are(tiny_config: ModelConfig) -> None:
    with META:
        model = UniF2ace(ModelConfig(**{**vars(tiny_config), "code_bits": 5}))
    assert all(value.device == META for value in model.folded().values())
    batch = Scenes(torch.zeros(1, 3, 32, 32), torch.ones(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))
    assert all(value.device == META for value in targets(moved(batch, META), 4))


class Line:
    """Fits a line; every second step leaves one of the two layers out, on each rank another one."""

    name = "line"
    shardable = False

    def __init__(self) -> None:
        torch.manual_seed(int(os.environ.get("RANK", "0")))  # other weights on each rank, until they are wrapped
        self.model = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])
        self.draws: list[float] = []

    def modules(self) -> nn.Module:
        return self.model

    def batch(self, step: int, part: Part) -> dict[str, Any]:
        inputs = torch.randn(part.rows(8), 3, generator=part.own)
        self.draws.append(float(inputs[0, 0]))
        return {"inputs": inputs, "layer": (step + int(os.environ.get("RANK", "0"))) % 2}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        outputs = self.model[batch["layer"]](batch["inputs"])
        return (outputs - batch["inputs"].sum(1, keepdim=True)).square().mean(), {}

    def evaluate(self) -> dict[str, float]:
        return {}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        directory.mkdir(parents=True)


def work(output: Path) -> None:
    """What one of the two processes does: prepare, train, tell."""
    with main_process_first(), (output.parent / "order").open("a") as file:
        file.write(os.environ["RANK"])
        file.flush()
        time.sleep(0.2)
        task = Line()
    config = TrainConfig(steps=6, batch_size=8, warmup=1, precision="fp32", learning_rate=0.1, threads=1)
    trainer = train(task, config, output)
    draws = {"draws": torch.tensor(task.draws)}
    save_tensors(output / f"rank{trainer.accelerator.process_index}.safetensors", task.model.state_dict() | draws)


@pytest.mark.slow
def test_two_processes_prepare_in_turn_draw_their_own_batches_and_end_with_equal_weights(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    everyone = os.environ | shared | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    everyone["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, __file__, str(tmp_path / "run")]
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2))
    processes = [subprocess.Popen(command, env=everyone | rank) for rank in ranks]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert (tmp_path / "order").read_text() == "01"
    a, b = (load_tensors(tmp_path / "run" / f"rank{rank}.safetensors") for rank in range(2))
    assert not torch.equal(a.pop("draws"), b.pop("draws"))
    assert all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    leave_processes()
