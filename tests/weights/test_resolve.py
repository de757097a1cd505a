"""From the name of a device to the device."""

from __future__ import annotations

import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.weights.resolve import pick_device


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "cpu"), (0, 0, "cpu")])
def test_auto_takes_cuda_else_the_cpu(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: int, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert pick_device("auto") == torch.device(expected)


def test_mps_is_taken_by_name_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"'mps' is not available here; use one of auto, .*cpu"):
        pick_device("mps")
