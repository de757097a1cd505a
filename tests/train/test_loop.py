"""Resuming, averaging, schedules and settings of the training loop."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from train_toys import settings, tiny_task

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.train.checkpoint import latest_checkpoint
from unif2ace_core.train.loop import Progress, Trainer, learning_rate_at, train
from unif2ace_core.train.options import TrainConfig, differences, with_overrides
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.model import ModelTrainConfig
from unif2ace_core.weights.store import load_tensors


def test_six_steps_equal_three_and_resume_and_three(tiny_config: ModelConfig, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.step == 3:
            raise Stop

    train(tiny_task(tiny_config), settings(), tmp_path / "whole")
    with pytest.raises(Stop):
        train(tiny_task(tiny_config), settings(log_every=1), tmp_path / "parts", on_progress=interrupt)
    train(tiny_task(tiny_config), settings(log_every=1), tmp_path / "parts", resume=True)
    whole, parts = (latest_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole is not None and parts is not None and whole.name == parts.name
    for file in ("model", "ema", "optimizer"):
        a, b = (load_tensors(directory / f"{file}.safetensors") for directory in (whole, parts))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), file


def test_every_batch_is_a_function_of_seed_and_step(tiny_config: ModelConfig) -> None:
    task = tiny_task(tiny_config)
    first, again, other = (task.batch(0, step_part(s, 0, 0, 1)) for s in (7, 7, 8))
    assert torch.equal(first.sequences.ids, again.sequences.ids)
    assert torch.equal(first.features.noise, again.features.noise)
    assert first.sequences.ids.shape != other.sequences.ids.shape or not torch.equal(
        first.sequences.ids, other.sequences.ids
    )


def test_every_parameter_learns(tiny_config: ModelConfig, tmp_path: Path) -> None:
    task = tiny_task(tiny_config)
    before = {name: value.clone() for name, value in task.model.named_parameters()}
    train(task, settings(steps=25, learning_rate=3e-3), tmp_path)
    still = [name for name, value in task.model.named_parameters() if torch.equal(before[name], value)]
    # the last layer's understanding experts write to the span, which no later layer hands to the text
    assert {name for name in still if not name.startswith("blocks.3.sequence.groups.mmu")} == set()


@pytest.mark.parametrize("t2i_share", [0.0, 0.5, 1.0])
def test_every_parameter_has_a_gradient_whatever_tasks_a_batch_holds(
    tiny_config: ModelConfig, t2i_share: float
) -> None:
    """Else the processes of a sharded run would exchange different sets of them."""
    task = tiny_task(replace(tiny_config, code_bits=5))
    task.model.train()
    task.mixture.config = replace(task.mixture.config, t2i_share=t2i_share)
    loss, _ = task.loss(task.batch(0, step_part(0, 0, 0, 1)), torch.Generator())
    loss.backward()
    assert [name for name, parameter in task.model.named_parameters() if parameter.grad is None] == []


def test_checkpointing_computes_the_same_gradients(tiny_config: ModelConfig) -> None:
    found = []
    for checkpointing in (False, True):
        task = tiny_task(tiny_config)
        task.model.train().checkpointing = checkpointing
        loss, _ = task.loss(task.batch(0, step_part(0, 0, 0, 1)), torch.Generator())
        loss.backward()
        found.append({name: parameter.grad for name, parameter in task.model.named_parameters()})
    plain, again = found
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_loss_falls(tiny_config: ModelConfig, tmp_path: Path) -> None:
    seen: list[Progress] = []
    config = settings(steps=60, learning_rate=3e-3, log_every=10)
    train(tiny_task(tiny_config), config, tmp_path, on_progress=seen.append)
    assert seen[-1].loss < 0.7 * seen[0].loss
    assert {"d3diff", "answer_nats", "balance_t2i", "balance_mmu"} <= seen[0].metrics.keys()


def test_existing_checkpoints_are_not_overwritten_unasked(tiny_config: ModelConfig, tmp_path: Path) -> None:
    train(tiny_task(tiny_config), settings(steps=1), tmp_path)
    with pytest.raises(UserError, match="--resume"):
        train(tiny_task(tiny_config), settings(steps=1), tmp_path)


def test_resume_needs_a_checkpoint(tiny_config: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing to resume in .*; leave --resume out"):
        train(tiny_task(tiny_config), settings(steps=1), tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


def test_resume_names_the_settings_that_changed(
    tiny_config: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    train(tiny_task(tiny_config), settings(steps=1), tmp_path)
    Trainer(tiny_task(tiny_config), settings(steps=1), tmp_path, resume=True)
    assert not [record for record in caplog.records if record.name.startswith("unif2ace_core")]
    Trainer(tiny_task(tiny_config), settings(steps=2, learning_rate=0.5), tmp_path, resume=True)
    expected = "resuming with settings other than the checkpoint's: steps 1 -> 2, learning_rate 0.001 -> 0.5"
    assert expected in [record.getMessage() for record in caplog.records]


def test_runs_of_one_process_may_differ_in_precision(tiny_config: ModelConfig, tmp_path: Path) -> None:
    for precision in ("bf16", "fp32"):
        train(tiny_task(tiny_config), settings(steps=1, precision=precision), tmp_path / precision)


def test_resume_refuses_another_recipes_checkpoint(tiny_config: ModelConfig, tmp_path: Path) -> None:
    train(tiny_task(tiny_config), settings(steps=1), tmp_path)
    task = tiny_task(tiny_config)
    task.name = "codec"
    with pytest.raises(UserError, match="belongs to recipe"):
        Trainer(task, settings(), tmp_path, resume=True)


def test_learning_rate_warms_up_and_decays() -> None:
    config = TrainConfig(steps=100, warmup=10, decay=0.5, learning_rate=1.0)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[30] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def test_overrides_are_typed_and_unknown_ones_named() -> None:
    assert with_overrides(TrainConfig(), {"steps": "7", "learning_rate": "0.5"}).steps == 7
    with pytest.raises(UserError, match=r"unknown setting 'step'.*steps"):
        with_overrides(TrainConfig(), {"step": "7"})
    with pytest.raises(UserError, match="not of type int"):
        with_overrides(TrainConfig(), {"steps": "many"})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("steps", "0", "at least 1"),
        ("save_every", "0", "at least 1"),
        ("warmup", "-1", "at least 0"),
        ("ema", "1.5", "in 0..1"),
        ("beta2", "1", "out of range"),
        ("decay", "nan", "in 0..1"),
        ("learning_rate", "0", "not above 0"),
        ("precision", "fp64", "choose one of auto, fp32, bf16"),
        ("sampler", "best", "maskgit"),
        ("mask_law", "discrete", "arcsine, uniform, bernoulli"),
        ("preset", "huge", "choose one of mini"),
        ("t2i_share", "2", "in 0..1"),
    ],
)
def test_impossible_values_are_refused_with_what_is_possible(key: str, value: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{key.replace('_', '.')}.*{words}"):
        with_overrides(ModelTrainConfig(), {key: value})


def test_settings_survive_json_and_only_changes_are_named() -> None:
    config = ModelTrainConfig()
    saved = json.loads(json.dumps(asdict(config)))
    assert differences(saved, config) == []
    assert differences(saved | {"steps": 1, "gone": 2}, config) == [f"steps 1 -> {config.steps}"]
