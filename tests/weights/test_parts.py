"""Modules for weights that are read anyway are built fast, and hold what the file says."""

import subprocess
import sys

import torch
from torch import nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.weights.parts import build, unfilled

CODE = """
import sys
from dataclasses import replace
from unif2ace_core.config import PRESETS
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.weights.parts import build, unfilled
build(UniF2ace, replace(PRESETS["mini"], layers=2))
print(sorted({"sympy", "torch._dynamo"} & set(sys.modules)))
"""


class Computed(nn.Module):
    """Has a buffer that its file leaves out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.register_buffer("table", torch.zeros(size).fill_(3.0), persistent=False)


def test_a_model_is_built_without_importing_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_random_number_is_drawn(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with unfilled():
        built = UniF2ace(tiny_config)
    assert torch.equal(torch.get_rng_state(), before)
    plain = UniF2ace(tiny_config).state_dict()
    assert {name: value.shape for name, value in built.state_dict().items()} == {k: v.shape for k, v in plain.items()}
    assert {value.device.type for value in built.state_dict().values()} == {"cpu"}


def test_what_a_file_leaves_out_is_computed() -> None:
    assert build(Computed, 4).table.tolist() == [3.0] * 4
