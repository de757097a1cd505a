"""`unif2ace data`: a folder of labelled photos becomes a captioned set, and what is wrong is said before any work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory_toys as toys
import pytest


@pytest.fixture
def raw(command_line: Callable[..., Any], made_up_faces: Path) -> str:
    assert command_line("data", "import", "packed", str(made_up_faces), "-o", "raw", "--rows", "5").code == 0
    return "raw"


def test_photos_become_a_captioned_and_questioned_set(command_line: Callable[..., Any], raw: str) -> None:
    done = command_line("data", "align", raw, "-o", "faces", "--aligned", "mine")
    assert done.code == 0 and done.lines[-1] == "faces" and done.lines[0].split() == ["kept", "16"]
    assert command_line("data", "caption", "faces", "-o", "captioned", "--styles", "dense,tags").code == 0
    done = command_line("data", "questions", "captioned", "-o", "asked", "--count", "9", "--json")
    record = json.loads(done.out)
    assert (record["output"], record["stage"], record["rows"]) == ("asked", "questions", 16)
    assert record["questions"] >= 9 * 16
    stages = json.loads(Path("asked/stages.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["import", "align", "caption", "questions"]


def test_a_finished_alignment_is_left_alone_and_other_settings_are_refused_at_once(
    command_line: Callable[..., Any], raw: str
) -> None:
    args = ("data", "align", raw, "-o", "faces", "--aligned", "mine")
    assert command_line(*args).code == 0
    other = command_line(*args, "--pixels", "64")
    assert other.code == 1 and "pixels 128, now 64" in other.error and not Path("faces/.faces").exists()
    assert command_line(*args).code == 0 and not Path("faces/.faces").exists()


def test_a_second_run_changes_nothing(command_line: Callable[..., Any], raw: str) -> None:
    times = []
    for _ in range(2):
        assert command_line("data", "caption", raw, "-o", "captioned").code == 0
        times.append([path.stat().st_mtime_ns for path in sorted(Path("captioned/data").iterdir())])
    assert times[0] == times[1]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("import", "nope", "raw", "-o", "x"), 2, "no kind 'nope'"),
        (("import", "packed", "nowhere", "-o", "x"), 1, "nowhere"),
        (("align", "nowhere", "-o", "x"), 1, "holds no data set"),
        (("caption", "raw"), 2, "needs -o DIR"),
        (("caption", "raw", "-o", "x", "--styles", "poem"), 2, "no caption style 'poem'"),
        (("questions", "raw", "-o", "raw"), 1, "is inside of raw"),
        (("caption", "raw", "-o", "x", "--styles", ""), 2, "no caption style"),
        (("align", "raw", "-o", "x", "--aligned", "mien"), 1, "there are mine"),
        (("align", "raw", "-o", "x", "--model", "nowhere"), 1, "nowhere"),
        (("align", "raw", "-o", "x", "--distance", "16"), 2, "distance"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    command_line: Callable[..., Any], raw: str, args: tuple[str, ...], code: int, words: str
) -> None:
    done = command_line("data", *args)
    assert done.code == code and words in done.error and done.err.count("\n") == 1
    assert not Path("x").exists()


@pytest.mark.slow
def test_the_documented_launch_line_starts_processes_that_share_the_work(
    command_line: Callable[..., Any], raw: str
) -> None:
    launcher = Path(sys.executable).parent / "accelerate"
    if not launcher.exists():
        pytest.skip("needs the command accelerate beside this Python")
    Path("work.py").write_text(
        "import os, pathlib, sys\nfrom unif2ace_cli.app import main\n"
        "pathlib.Path('rank' + os.environ['RANK']).touch()\nsys.exit(main(sys.argv[1:]))\n"
    )
    line = [str(launcher), "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]  # any free port
    line += ["work.py", "data", "caption", raw, "-o"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([*line, "two"], check=True, capture_output=True, timeout=120, env=environment)
    assert Path("rank0").exists() and Path("rank1").exists()
    assert command_line("data", "caption", raw, "-o", "one").code == 0
    assert toys.contents(Path("two")) == toys.contents(Path("one"))
