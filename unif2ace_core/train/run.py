"""Entry points of `unif2ace train`: look a recipe up, apply overrides, plan or run it."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from unif2ace_core.data.sets import is_set
from unif2ace_core.data.shards import STAGES, own_share
from unif2ace_core.errors import UserError
from unif2ace_core.train.loop import Progress, Task, check_output, train
from unif2ace_core.train.options import TrainConfig, with_overrides
from unif2ace_core.train.processes import leave_processes, main_process_first
from unif2ace_core.train.recipes import RECIPES
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import write_text_atomic

logger = logging.getLogger(__name__)


def load_recipe(name: str, overrides: Mapping[str, str]) -> tuple[ModuleType, TrainConfig]:
    """The recipe's module and its config with overrides applied.

    Raises:
        UserError: no such recipe, or a bad override.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    module = importlib.import_module(RECIPES[name])
    return module, with_overrides(module.CONFIG(), overrides)


def check_data(data: Path) -> None:
    """Say in words that a data folder is missing, or holds neither labels nor a set made by `unif2ace data`."""
    if not data.is_dir():
        raise UserError(
            f"--data {data} is not a directory; give the folder that holds NAME.csv beside NAME.zip or NAME/, "
            "or a set made by 'unif2ace data'"
        )
    if not is_set(data) and not list(data.glob("*.csv")):
        raise UserError(
            f"--data {data} holds no NAME.csv; each source is a CSV beside a zip or folder of its images, "
            "or make a set with 'unif2ace data'"
        )


def build_task(module: ModuleType, config: TrainConfig, data: Path, output: Path) -> Task:
    """The recipe's task; of several processes on a machine the first one fills the caches for the others."""
    check_data(data)
    with main_process_first():
        return module.build(config, data, output)


def note_data(data: Path, output: Path, resume: bool) -> None:
    """Write down what is learned from; a run that goes on with other data says so, as it does of other settings."""
    made = hashlib.sha256((data / STAGES).read_bytes()).hexdigest()[:16] if is_set(data) else ""
    found, path = {"data": str(data.resolve()), "stages": made}, output / "data.json"
    saved = read_json(path) if resume and path.is_file() else found
    if saved != found:
        logger.warning("resuming with other data than before: %s, now %s", saved.get("data"), found["data"])
    write_text_atomic(path, json.dumps(found, indent=1) + "\n")


def run(
    recipe: str,
    data: Path,
    output: Path,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train a recipe; returns the last evaluation's metrics."""
    module, config = load_recipe(recipe, overrides or {})
    check_output(output, resume)  # before the data are read, which may take long
    task = build_task(module, config, data, output)
    if own_share().index == 0:
        note_data(data, output, resume)
    last: dict[str, float] = {}

    def note(progress: Progress) -> None:
        last.update(progress.evaluation or {})
        if on_progress:
            on_progress(progress)

    train(task, config, output, resume, note)
    leave_processes()
    return last


def plan(recipe: str, data: Path, output: Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `--dry-run` shows: the settings, sizes, an estimate per graphics card, and one timed step where it fits.

    Nothing is written under `output`, but where a step is timed the data are prepared as for a run, which takes long
    the first time: photos and codes go into the user's cache, where the run finds them.
    """
    module, config = load_recipe(recipe, overrides or {})
    check_data(data)
    forecast = module.forecast(config) if hasattr(module, "forecast") else {}
    settings = {"recipe": recipe, "data": str(data), "output": str(output), **vars(config)}
    ready = not config.missing() and fits_here(forecast.get("gb_of_one_gpu", 0.0))
    timed = time_a_step(module, config, data, output) if ready else {}
    missing = {"not_given_yet": ", ".join(config.missing())} if config.missing() else {}
    return {**settings, **forecast, **timed, "samples": config.steps * config.batch_size, **missing}


def fits_here(gigabytes: float) -> bool:
    """Whether this machine has the memory for a run: of its graphics card, else its own."""
    import psutil
    import torch

    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    return gigabytes * 1e9 < 0.8 * free


def time_a_step(module: ModuleType, config: TrainConfig, data: Path, output: Path) -> dict[str, Any]:
    """Seconds of the second of two steps, and what follows."""
    import time

    from unif2ace_core.train.loop import Trainer

    trainer = Trainer(build_task(module, config, data, output), config, output)
    trainer.update()
    began = time.monotonic()
    trainer.update()
    seconds = time.monotonic() - began
    parameters = sum(p.numel() for p in trainer.module.parameters() if p.requires_grad)
    return {
        "parameters": parameters,
        "seconds_per_step": round(seconds, 3),
        "hours": round(seconds * config.steps / 3600, 2),
    }
