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
