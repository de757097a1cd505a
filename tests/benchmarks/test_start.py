"""Cold starts: `--help`, `generate` and `ask` in processes of their own, and where their time goes (`--timings`).

pytest tests/benchmarks/test_start.py

Asked for on two free cores: --help in 0.3 s, the others in 4 s, of which 0.7 s neither import torch, read weights nor
compute. A run of the whole suite starts each once and checks the breakdown, not the time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROUNDS = 5
ASKED = {"total": 4.0, "else": 0.7}
GENERATE = ("generate", "rosy cheeks", "--seed", "7", "-o", "face.png", "--force")
ASK = ("ask", "photo.png", "what emotion?", "--no-align")


def start(folder: Path, *arguments: str) -> tuple[float, str]:
    """(seconds from outside, stderr) of a command line in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "unif2ace_cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stderr


def breakdown(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `--timings` says of a run; `end` is what passes after that until the process has gone."""
    seconds, err = start(folder, *arguments, "--json", "--quiet", "--timings")
    found = json.loads(err.splitlines()[-1])["timings"]
    return {**found, "end": seconds - found["total"]}


def show(capsys: pytest.CaptureFixture[str], name: str, runs: list[dict[str, Any]]) -> None:
    """Medians over the runs, a line each."""
    rows = {key: statistics.median(run[key] for run in runs) for key in ("total", "else", "end")}
    names = dict.fromkeys(name for run in runs for name in run["phases"])
    phases = {name: statistics.median(run["phases"].get(name, 0.0) for run in runs) for name in names}
    with capsys.disabled():
        print(f"\n{name}: medians of {len(runs)} cold starts")
        for key, seconds in {**phases, **rows}.items():
            asked = f"   asked for on free cores: {ASKED[key]}" if key in ASKED else ""
            print(f"  {seconds:7.3f} s  {key}{asked}")


def test_help(tmp_path: Path, measured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = statistics.median(start(tmp_path, "--help")[0] for _ in range(ROUNDS if measured else 1))
    if measured:
        with capsys.disabled():
            print(f"\n--help: {seconds:.3f} s   asked for on free cores: 0.3")


@pytest.mark.slow
@pytest.mark.parametrize("command", [GENERATE, ASK], ids=["generate", "ask"])
def test_cold_start(
    command: tuple[str, ...], embedded: Path, tmp_path: Path, measured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    quick = () if measured or command is ASK else ("--steps", "1")
    runs = [breakdown(tmp_path, *command, *quick) for _ in range(ROUNDS if measured else 1)]
    for run in runs:
        assert sum(run["phases"].values()) == pytest.approx(run["total"], abs=0.05)
        assert {"start", "command line", "import: torch", "weights: transformer"} <= set(run["phases"])
        assert any(name.startswith("compute: ") for name in run["phases"])
    if measured:
        show(capsys, command[0], runs)
