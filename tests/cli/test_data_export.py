"""`unif2ace data export`: tars and back, and what is wrong is said in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unif2ace_cli.commands.data.export import FORMATS
from unif2ace_core.data.stages import export


@pytest.fixture
def raw(command_line: Callable[..., Any], made_up_faces: Path) -> str:
    assert command_line("data", "import", "packed", str(made_up_faces), "-o", "raw", "--rows", "5").code == 0
    return "raw"


def test_the_formats_are_those_of_the_core() -> None:
    assert FORMATS == export.FORMATS


def test_a_set_goes_into_tars_and_comes_back(command_line: Callable[..., Any], raw: str) -> None:
    done = command_line("data", "export", raw, "-o", "tars", "--rows", "6", "--json")
    assert json.loads(done.out) == {"output": "tars", "stage": "export", "rows": 16}
    assert [path.name for path in sorted(Path("tars/data").iterdir())] == [
        "train-00000.tar", "train-00001.tar", "val-00000.tar",
    ]  # fmt: skip
    assert "data/val-*.tar" in Path("tars/README.md").read_text()
    done = command_line("data", "import", "webdataset", "tars", "-o", "back", "--rows", "5")
    assert done.code == 0 and done.lines[0].split() == ["rows", "16"]
    for name in ("train-00000", "train-00001", "val-00000", "val-00001"):
        paths = [Path(folder) / "data" / f"{name}.parquet" for folder in (raw, "back")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_tars_of_the_same_names_are_another_source(command_line: Callable[..., Any], raw: str) -> None:
    assert command_line("data", "export", raw, "-o", "tars").code == 0
    for folder in ("tars", "copy"):
        assert command_line("data", "import", "webdataset", folder, "-o", folder + "_back").code == 0
        if folder == "tars":
            shutil.copytree("tars", "copy")
    book = Path("tars_back/stages.json").read_bytes()
    assert Path("copy_back/stages.json").read_bytes() == book
    tar = Path("copy/data/train-00000.tar")
    tar.write_bytes(tar.read_bytes().replace(b'"Male": "no"', b'"Male": ""  '))
    done = command_line("data", "import", "webdataset", "copy", "-o", "copy_back")
    assert done.code == 1 and "was begun otherwise (import: input" in done.error
    assert command_line("data", "import", "webdataset", "copy", "-o", "new").code == 0
    assert Path("new/stages.json").read_bytes() != book


def test_help_says_what_is_left_out(command_line: Callable[..., Any]) -> None:
    assert "are left out" in " ".join(command_line("data", "export", "--help").out.split())


def test_a_second_export_changes_nothing_and_other_settings_are_refused(
    command_line: Callable[..., Any], raw: str
) -> None:
    for _ in range(2):
        assert command_line("data", "export", raw, "-o", "tars").code == 0
    other = command_line("data", "export", raw, "-o", "tars", "--rows", "3")
    assert other.code == 1 and "rows 5000, now 3" in other.error


def test_an_export_and_its_import_need_no_torch(raw: str) -> None:
    code = (
        "import sys; from unif2ace_cli.app import main; code = main(['data', 'export', 'raw', '-o', 'tars']);"
        "code = code or main(['data', 'import', 'webdataset', 'tars', '-o', 'back']);"
        "sys.exit('torch' in sys.modules or code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("raw",), 2, "needs -o DIR"),
        (("raw", "-o", "x", "--format", "zip"), 2, "no format 'zip'; choose one of webdataset"),
        (("raw", "-o", "raw/x"), 1, "is inside of raw"),
        (("nowhere", "-o", "x"), 1, "holds no data set"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    command_line: Callable[..., Any], raw: str, args: tuple[str, ...], code: int, words: str
) -> None:
    done = command_line("data", "export", *args)
    assert done.code == code and words in done.error and not Path("x").exists()
