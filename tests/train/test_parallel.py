"""Two processes over gloo train what one process trains: DDP, FSDP, gradient accumulation, and checkpoints across them.

pytest tests/train/test_parallel.py
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toys import settings, tiny_task

from unif2ace_core.config import ModelConfig
from unif2ace_core.train.checkpoint import latest_checkpoint
from unif2ace_core.train.loop import train
from unif2ace_core.train.processes import leave_processes
from unif2ace_core.weights.store import load_tensors

PARTS = ("d3diff", "answer_nats")
WAYS: dict[str, dict[str, str]] = {
    "ddp": {},
    "fsdp": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    },
}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_CPU": "false", "ACCELERATE_MIXED_PRECISION": "no"}
ENGINES = WAYS | {f"zero{stage}": ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)} for stage in (2, 3)}


def launch(way: str, config: ModelConfig, output: Path, resume: bool = False, **values: float) -> Path:
    """Train the toy task on two processes; returns the run's folder. `values` are further settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    shared["PYTHONPATH"] = os.pathsep.join(str(Path(__file__).parents[up]) for up in (0, 2))
    command = [sys.executable, __file__, str(output), json.dumps(vars(config)), json.dumps(values)]
    command += ["resume"] * resume
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2))
    running = [subprocess.Popen(command, env=os.environ | shared | ENGINES[way] | rank) for rank in ranks]
    try:
        assert [process.wait(timeout=240) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return output


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    """Of every step with the two tasks' parts, and on held-out rows at the end."""
    lines = log_of(run)
    parts = [value for line in lines for value in (line["loss"], *(line["metrics"][name] for name in PARTS))]
    return parts + [line["evaluation"]["held_out"] for line in lines if line["evaluation"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_config: ModelConfig) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parallel")
    train(tiny_task(tiny_config), settings(log_every=1), folder / "one")
    return {"one": folder / "one"} | {way: launch(way, tiny_config, folder / way) for way in WAYS}


def halfway(run: Path, copy: Path) -> Path:
    """A copy of a run as it stood after three of its six steps."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    lines = (copy / "log.jsonl").read_text().splitlines(keepends=True)
    (copy / "log.jsonl").write_text("".join(lines[:3]))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_have_the_losses_of_one_with_the_same_global_batch(runs: dict[str, Path], way: str) -> None:
    assert len(losses(runs["one"])) == 6 * 3 + 1
    assert losses(runs[way]) == pytest.approx(losses(runs["one"]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_export_the_weights_of_one(runs: dict[str, Path], way: str) -> None:
    one, two = (load_tensors(runs[name] / "export" / "model.safetensors") for name in ("one", way))
    assert one.keys() == two.keys()
    # a shift of all keys hardly moves attention: its gradient is mostly rounding, and Adam divides by its size
    bounds = {name: 5e-5 if name.endswith("k_norm.bias") else 1e-5 for name in one}
    apart = [name for name, bound in bounds.items() if not torch.allclose(one[name], two[name], atol=bound)]
    assert not apart


@pytest.mark.slow
def test_a_sharded_run_saves_a_part_of_the_weights_on_each_process(runs: dict[str, Path]) -> None:
    checkpoint = latest_checkpoint(runs["fsdp"])
    assert checkpoint is not None
    for kind in ("model", "ema", "optimizer"):
        sizes = [
            sum(value.numel() for value in load_tensors(shard).values())
            for shard in sorted((checkpoint / kind).glob("*.safetensors"))
        ]
        assert len(sizes) == 2 and min(sizes) > 0.9 * max(sizes)


@pytest.mark.slow
def test_a_sharded_run_goes_on_in_one_process(runs: dict[str, Path], tiny_config: ModelConfig, tmp_path: Path) -> None:
    run = halfway(runs["fsdp"], tmp_path / "run")
    train(tiny_task(tiny_config), settings(log_every=1), run, resume=True)
    assert losses(run) == pytest.approx(losses(runs["one"]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["one", "fsdp"])
def test_a_run_goes_on_sharded(runs: dict[str, Path], tiny_config: ModelConfig, tmp_path: Path, before: str) -> None:
    run = launch("fsdp", tiny_config, halfway(runs[before], tmp_path / "run"), resume=True)
    assert losses(run) == pytest.approx(losses(runs["one"]), abs=1e-5)


def test_turns_of_accumulation_add_up_to_the_step(tiny_config: ModelConfig, tmp_path: Path) -> None:
    """But for the balance loss, a product of means that is taken turn by turn."""
    for turns in (1, 2):
        task = tiny_task(tiny_config, balance=0)
        train(task, settings(log_every=1, accumulation=turns), tmp_path / str(turns))
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_deepspeed_has_the_losses_of_one_process(tiny_config: ModelConfig, tmp_path: Path, way: str) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    bits = replace(tiny_config, code_bits=5)
    train(tiny_task(bits), settings(log_every=1, ema=0), tmp_path / "one")
    launch(way, bits, tmp_path / way, ema=0)
    assert losses(tmp_path / way) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_an_optimizer_over_other_weights_starts_anew(
    tiny_config: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    task = tiny_task(tiny_config)
    task.model.embedding.requires_grad_(False)
    train(task, settings(steps=2), tmp_path)
    train(tiny_task(tiny_config), settings(steps=3), tmp_path, resume=True)
    assert "no state of this optimizer over these weights" in caplog.text


if __name__ == "__main__":
    torch.set_num_threads(1)
    fields = {name: tuple(each) if isinstance(each, list) else each for name, each in json.loads(sys.argv[2]).items()}
    given = settings(log_every=1, **json.loads(sys.argv[3]))
    train(tiny_task(ModelConfig(**fields)), given, Path(sys.argv[1]), resume=sys.argv[4:] == ["resume"])
    leave_processes()
