"""`unif2ace data calibrate` and `unif2ace data annotate`: from a labelled set to labels for plain photos."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.importers import open_importer
from unif2ace_core.data.shards import run_stage
from unif2ace_core.data.stages.imports import import_jobs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of which little is known: photos/, the set raw/, and faces/, which counts as aligned."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    (folder / "photos/mine").mkdir(parents=True)
    with (folder / "photos/mine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", "Smiling"])
        for number in range(12):
            table.writerow([f"{number}.png", "val" if number > 7 else "train", ("yes", "no", "")[number % 3]])
            photo = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(photo).save(folder / "photos/mine" / f"{number}.png")
    jobs, stages = import_jobs(open_importer("packed", folder / "photos"), 3), [{"stage": "import"}, {"stage": "align"}]
    run_stage(folder / "raw", stages[:1], jobs)
    run_stage(folder / "faces", stages, jobs)
    return folder


@pytest.fixture
def faces(command_line: Callable[..., Any], made: Path) -> str:
    """An aligned set in the folder where the command line runs."""
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return "faces"


@pytest.fixture
def measured(command_line: Callable[..., Any], faces: str) -> Path:
    """A calibration of the embedded model on a few photos, by which nothing is sure, and then all."""
    assert command_line("data", "calibrate", faces).code == 0
    values = json.loads(Path("calibration.json").read_text())
    for head in values["attributes"].values():
        for sure in head["values"].values():
            assert sure["threshold"] is None
            sure["threshold"] = 0.55
    Path("all.json").write_text(json.dumps(values))
    return Path("all.json")


@pytest.mark.usefixtures("embedded")
def test_plain_photos_become_a_captioned_set(command_line: Callable[..., Any], measured: Path, faces: str) -> None:
    done = command_line("data", "annotate", faces, "-o", "annotated", "--calibration", measured, "--json")
    record = json.loads(done.out)
    assert (record["output"], record["stage"], record["rows"], record["known"]) == ("annotated", "annotate", 12, 8)
    assert record["filled"] > 12 * 10
    assert command_line("data", "caption", "annotated", "-o", "captioned", "--styles", "dense").code == 0
    assert command_line("data", "questions", "captioned", "-o", "asked").code == 0
    stages = json.loads(Path("asked/stages.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["import", "align", "annotate", "caption", "questions"]
    assert len(stages[2]["clip"]) == len(stages[2]["calibration"]) == 16 and stages[2]["precision"] == 0.9


@pytest.mark.usefixtures("embedded")
def test_the_embedded_model_brings_its_calibration(command_line: Callable[..., Any], faces: str) -> None:
    done = command_line("data", "annotate", faces, "-o", "annotated")
    assert done.code == 0 and done.lines[-1] == "annotated"


@pytest.mark.usefixtures("embedded")
def test_a_calibration_is_a_table_or_a_record_and_never_replaced_unasked(
    command_line: Callable[..., Any], faces: str
) -> None:
    done = command_line("data", "calibrate", faces, "--split", "train", "--precision", "0.8", "-o", "c.json")
    assert done.code == 0 and done.lines[-1] == "c.json"
    assert [line.split()[0] for line in done.lines[1:-1]] == [each.name for each in SCHEMA]
    again = command_line("data", "calibrate", faces, "-o", "c.json")
    assert again.code == 1 and "c.json exists; add --force" in again.error
    record = json.loads(command_line("data", "calibrate", faces, "-o", "c.json", "--force", "--json").out)
    assert record["output"] == "c.json" and record["attributes"]["Smiling"]["photos"] == 2


@pytest.mark.usefixtures("embedded")
def test_a_calibration_of_another_expert_is_refused_in_one_line(
    command_line: Callable[..., Any], measured: Path, faces: str
) -> None:
    text = measured.read_text()
    clip = json.loads(text)["clip"]
    measured.write_text(text.replace(clip, "0" * 16))
    done = command_line("data", "annotate", faces, "-o", "x", "--calibration", measured)
    assert done.code == 1 and done.err.count("\n") == 1 and not Path("x").exists()
    assert "another CLIP expert" in done.error and "unif2ace data calibrate" in done.error


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("annotate", "faces"), 2, "needs -o DIR"),
        (("annotate", "raw", "-o", "x"), 1, "not aligned"),
        (("annotate", "nowhere", "-o", "x"), 1, "nowhere"),
        (("annotate", "faces", "-o", "faces/x"), 1, "is inside of faces"),
        (("annotate", "faces", "-o", "x", "--calibration", "no.json"), 1, "data calibrate SET --model mini"),
        (("annotate", "faces", "-o", "x", "--model", "photos"), 1, "--model photos has no CLIP expert"),
        (("annotate", "faces", "-o", "x", "--calibration", "photos/mine.csv"), 1, "not valid JSON"),
        (("calibrate", "faces", "-o", "x", "--split", "test"), 1, "no split 'test'; it has train, val"),
        (("calibrate", "faces", "-o", "x", "--precision", "1.5"), 2, "precision"),
        (("calibrate", "faces", "-o", "nowhere/x"), 1, "nowhere"),
        (("calibrate", "raw", "-o", "x"), 1, "not aligned"),
        (("annotate", "nope", "-o", "x"), 1, "nope holds no data set"),
        (("calibrate", "nope", "-o", "x"), 1, "nope holds no data set"),
        (("encode", "nope", "-o", "x"), 1, "nope holds no data set"),
        (("encode", "raw", "-o", "x"), 1, "not aligned"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    command_line: Callable[..., Any], faces: str, args: tuple[str, ...], code: int, words: str
) -> None:
    done = command_line("data", *args)
    assert done.code == code and words in done.error and done.err.count("\n") == 1
    assert not Path("x").exists()


@pytest.mark.parametrize("command", ["annotate", "calibrate", "encode"])
def test_a_folder_that_is_no_set_is_named_before_torch_is_imported(tmp_path: Path, command: str) -> None:
    program = (
        "import sys\nfrom unif2ace_cli.app import main\n"
        f"code = main(['data', '{command}', 'nope', '-o', 'x'])\n"
        "assert code == 1 and 'torch' not in sys.modules, code\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "nope holds no data set" in done.stderr, done.stderr
