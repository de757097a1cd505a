"""Sets made of the sixteen made-up faces, in small shards, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unif2ace_core.data.importers import open_importer
from unif2ace_core.data.shards import VERSION, Share, following, is_complete, run_stage
from unif2ace_core.data.stages.align import FACES, AlignSettings, distinct_jobs, face_jobs, finish, settings_dict, start
from unif2ace_core.data.stages.imports import import_jobs
from unif2ace_core.data.stages.texts import STYLES, caption_jobs, question_jobs

FRAMED = AlignSettings(aligned=("mine",), pixels=64, smallest=0, distance=6)


class Killed(BaseException):
    """What no code catches, as a signal."""


def imported(data: Path, output: Path, rows: int = 4) -> Path:
    """The photos of a packed folder as a data set of small shards."""
    run_stage(output, [{"stage": "import", "version": VERSION}], import_jobs(open_importer("packed", data), rows))
    return output


def aligned(source: Path, output: Path, share: Share | None = None, settings: AlignSettings = FRAMED) -> Path:
    """Both halves of `data align`."""
    stages = following(source, "align", settings_dict(settings))
    jobs = distinct_jobs(source, output, settings)
    start(output, share)
    if not is_complete(output, jobs):
        run_stage(output / FACES, stages, face_jobs(source, settings, no_locator), share)
    run_stage(output, stages, jobs, share)
    finish(output, jobs, share)
    return output


def no_locator() -> Any:
    raise AssertionError("nothing has to be located")


def captioned(source: Path, output: Path, share: Share | None = None) -> Path:
    """`data caption`."""
    run_stage(output, following(source, "caption", {}), caption_jobs(source, STYLES, 0), share)
    return output


def asked(source: Path, output: Path, share: Share | None = None) -> Path:
    """`data questions`."""
    run_stage(output, following(source, "questions", {}), question_jobs(source, 8, 0), share)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a data set."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
