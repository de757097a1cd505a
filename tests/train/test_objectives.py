"""The joint objective and what a run logs of it.

pytest tests/train/test_objectives.py
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import train_toys as toys

from unif2ace_core.config import ModelConfig


@pytest.mark.parametrize(("share", "drawn", "answered"), [(0.0, False, True), (1.0, True, False), (0.75, True, True)])
def test_a_batch_is_logged_by_the_tasks_that_it_holds(
    tiny_config: ModelConfig, share: float, drawn: bool, answered: bool
) -> None:
    task = toys.tiny_task(tiny_config)
    task.mixture.config = replace(task.mixture.config, t2i_share=share)
    _, logged = task.loss(task.mixture.draw(4, torch.Generator().manual_seed(0)), torch.Generator())
    assert all(math.isfinite(value) for value in logged.values())
    for task_name, there in (("t2i", drawn), ("mmu", answered)):
        assert any(name.startswith(f"gate_{task_name}_") for name in logged) is there
        assert (f"balance_{task_name}" in logged) is there
    assert ("d3diff" in logged, "answers_right" in logged) == (drawn, answered)


def test_pictures_and_answers_run_apart_as_they_do_together(tiny_config: ModelConfig) -> None:
    task = toys.tiny_task(tiny_config)
    apart = task.mixture.draw(8, torch.Generator().manual_seed(0))
    assert apart.lengths is not None
    assert apart.lengths[0] != apart.lengths[1]
    assert max(apart.lengths) == apart.sequences.ids.shape[1]
    found = []
    for batch in (apart, replace(apart, lengths=None)):
        task.model.zero_grad()
        loss, logged = task.loss(batch, torch.Generator())
        loss.backward()
        found.append((logged, {name: p.grad for name, p in task.model.named_parameters()}))
    (logged, gradients), (logged_whole, whole) = found
    assert logged == pytest.approx(logged_whole, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6, msg=name)


def test_parts_without_rows_of_both_tasks_run_in_one_pass(tiny_config: ModelConfig) -> None:
    drawn = toys.tiny_task(tiny_config).mixture  # of four rows one is an answer
    assert drawn.draw(4, torch.Generator().manual_seed(0), 0, 2).lengths is None
    assert drawn.draw(4, torch.Generator().manual_seed(0)).lengths is not None
