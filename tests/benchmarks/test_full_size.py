"""The 1.8b preset with random weights on the CPU: one picture in 16 steps and one answer of 32 tokens, memory, seconds.

    pytest tests/benchmarks/test_full_size.py

Takes many minutes and up to 14 GB, so it runs only when named like this. See `full_size.py` for what is measured; the
plain algorithm's seconds are one step's and two tokens' times the number of steps and tokens.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).with_name("full_size.py")
NEEDED = {"fp32": 14e9, "int8": 6e9, "nf4": 6e9}  # bytes of free memory
MOST = 16.0  # GB that a process may take


@pytest.fixture(autouse=True)
def named(request: pytest.FixtureRequest) -> None:
    """Skip unless this file was named on the command line."""
    if not any(SCRIPT.stem in str(argument) for argument in request.config.args):
        pytest.skip("takes many minutes; run 'pytest tests/benchmarks/test_full_size.py'")


@pytest.mark.parametrize("weights", NEEDED)
def test_a_picture_and_an_answer_fit_into_sixteen_gigabytes(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    available = psutil.virtual_memory().available
    if available < NEEDED[weights]:
        pytest.skip(f"needs {NEEDED[weights] / 1e9:.0f} GB of free memory, there are {available / 1e9:.0f}")
    done = subprocess.run([sys.executable, str(SCRIPT), weights, "--plain"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with capsys.disabled():
        print("", *(f"{name:16} {value}" for name, value in found.items()), sep="\n")
    assert found["peak_gb"] <= MOST
    assert found["picture_s"] < found["plain_picture_s"] and found["answer_s"] < found["plain_answer_s"]
