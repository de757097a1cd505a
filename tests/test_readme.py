"""The README's commands, word for word, in an empty folder with made-up photos as its data.

Those that make data and train run in order, and beside them, in order, the others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAUNCH = "unif2ace_core/assets/launch"  # what a checkout holds beside the working folder
QUICK = " steps=2 batch_size=2 threads=1 eval_every=0"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shell(embedded: Path, made_up_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An empty working folder with `data/`, and an environment in which `unif2ace` is the one installed."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").symlink_to(made_up_faces)
    command = folder / "bin" / "unif2ace"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unif2ace_cli "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    cache = str(folder / "cache")
    one_thread = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return folder, {**os.environ, "PATH": path, "XDG_CACHE_HOME": cache, **one_thread}


def quickened(block: str) -> str:
    """A block's commands, with fewer steps of training, fewer processes and none that install."""
    script = re.sub(r"^pip install \. && ", "", block)
    runs = r"^((?:unif2ace|accelerate launch).* train (?!.*--dry-run).*)$"
    script = re.sub(runs, rf"\1{QUICK}", script, flags=re.MULTILINE)
    script = re.sub(r"^(.* train model (?!.*--dry-run).*)$", r"\1 eval_rows=8", script, flags=re.MULTILINE)
    script = re.sub(r"^(.* train decoder .*)$", r"\1 photos=8 drawn=8 sampling_steps=2", script, flags=re.MULTILINE)
    script = script.replace("--aligned celebahq,ffhq", "--aligned mine")
    return script.replace("--num_processes 8", "--num_processes 2").replace(LAUNCH, str(ROOT / LAUNCH))


def run_in_order(scripts: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Each of the scripts in bash; fails with what it said at the first error."""
    for script in scripts:
        done = subprocess.run(
            ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_commands_of_the_readme_run(shell: tuple[Path, dict[str, str]]) -> None:
    scripts = [quickened(block) for block in blocks("bash") if not block.startswith("pip install '.[test]'")]
    learning = [script for script in scripts if "sets/" in script or "runs/" in script]
    using = [script for script in scripts if script not in learning]
    assert learning and using
    with ThreadPoolExecutor(2) as pool:  # neither needs what the other writes
        chains = [pool.submit(run_in_order, chain, *shell) for chain in (learning, using)]
    failed = [str(found) for chain in chains if (found := chain.exception())]
    assert not failed, "\n".join(failed)
    folder, _ = shell
    assert (folder / "face.png").exists() and (folder / "mini-int8" / "model.safetensors").exists()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(shell: tuple[Path, dict[str, str]]) -> None:
    folder, environment = shell
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=folder, env=environment, check=True, timeout=120)
    assert (folder / "rosy.png").exists()


def test_the_first_commands_are_install_and_test() -> None:
    first, second = blocks("bash")[:2]
    assert first == 'pip install . && unif2ace generate "rosy cheeks, hoop earrings"\n'
    assert second == "pip install '.[test]' && pytest\n"


def test_every_file_the_readme_names_exists(embedded: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_sampler_that_the_readme_calls_the_default_is_the_models_own(embedded: Path) -> None:
    sampler = json.loads((embedded / "config.json").read_text())["generation"]["sampler"]
    assert f"(now {sampler} is the default," in README and f"Its sampler is `{sampler}`" in README


def test_ci_runs_the_readme_test_command() -> None:
    assert blocks("bash")[1].strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_estimates_of_the_readme_are_current() -> None:
    from unif2ace_core.train.recipes.model import ModelTrainConfig, forecast

    settings = ModelTrainConfig(preset="1.8b", batch_size=256, accumulation=8, checkpointing=True)
    for name, value in forecast(settings).items():
        assert re.search(rf"^{name.replace('_', ' ')} +{value:,}$", README, re.MULTILINE), name
    table = {"8, DDP": 32, "8, DeepSpeed ZeRO-2": 32, "8, FSDP": 32}
    found = forecast(replace(settings, accumulation=1))
    for (row, rows), (_, gigabytes) in zip(table.items(), list(found.items())[2:5], strict=True):
        assert re.search(rf"^\| {row} \| {rows} \| .*\| {gigabytes:.1f} \|", README, re.MULTILINE), row
