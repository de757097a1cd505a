"""The judge: reads pictures of any size, is told nothing by the model, and learns from people's labels alone.

pytest tests/evaluate/test_judge.py
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch

from unif2ace_core.data.attributes import BINARY, VISIBLE_30
from unif2ace_core.evaluate import judge as module
from unif2ace_core.evaluate.judge import Judge, JudgeConfig, load_judge
from unif2ace_core.train.recipes.judge import JudgeTask, JudgeTrainConfig, balancing
from unif2ace_core.weights.parts import save_part

SMALL = JudgeConfig(pixels=32, widths=(8, 8), depths=(1, 1))


def test_pictures_of_any_size_are_read_for_every_binary_attribute() -> None:
    judge = Judge(SMALL).eval()
    for side in (32, 48):
        images = torch.rand(3, 3, side, side) * 2 - 1
        read = judge.read(images)
        assert set(read) == set(BINARY) and judge.features(images).shape == (3, 8)
        torch.testing.assert_close(torch.stack(list(read.values())).sum(-1), torch.ones(len(BINARY), 3))


def test_the_shipped_judge_knows_the_visible_attributes() -> None:
    assert set(VISIBLE_30) <= set(load_judge().config.attributes)


def test_its_code_takes_nothing_from_the_model() -> None:
    tree = ast.parse(inspect.getsource(module))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith(("unif2ace_core.model", "unif2ace_core.tokens")) for name in used if name)
    assert "unif2ace_core.experts.clip" not in used


def test_both_values_of_an_attribute_weigh_alike_unless_one_is_too_rare() -> None:
    labels = torch.tensor([[1, 1], [0, -1], [0, 0], [0, 0]] + [[0, 0]] * 200, dtype=torch.int8)
    weights = balancing(labels)
    assert weights[1, 0] == 10.0  # one yes among 204 would weigh 102
    assert balancing(labels[:4])[0, 0] * 3 == pytest.approx(float(balancing(labels[:4])[1, 0]))


def test_a_training_run_goes_on_from_an_export(made_up_faces: Path, tmp_path: Path, own_cache: None) -> None:
    save_part(tmp_path, "judge", Judge(SMALL), SMALL)
    task = JudgeTask(JudgeTrainConfig(init=str(tmp_path)), made_up_faces)
    assert task.judge.config == SMALL
    found = task.evaluate()
    assert 0 <= found["visible_30"] <= 1
