"""Fixtures: real face data where there is some, tiny models, and the embedded model."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

import unif2ace_core
from unif2ace_core.config import ModelConfig
from unif2ace_core.data.attributes import BINARY
from unif2ace_core.model.transformer import UniF2ace

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)  # small models: threads that wait for each other cost more than they save
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
settings.register_profile("suite", deadline=None)  # how long an example takes says what else runs
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite; none where tests are chosen or may print: they start sooner, and show it."""
    option, here = config.option, Path(__file__).parent
    whole = all((config.invocation_params.dir / argument).resolve() == here for argument in config.args)
    alone = option.keyword or option.trace or option.capture == "no" or getattr(option, "benchmark_only", False)
    return 2 if whole and not alone else 0


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of labelled face photos, which a plain clone does not have."""
    path = Path(os.environ.get("UNIF2ACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (path / "celebahq.csv").exists():
        pytest.skip(f"needs the labelled face photos in {path} (set UNIF2ACE_DATA)")
    return path


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The directory of the model that ships with the package."""
    path = Path(unif2ace_core.__file__).parent / "assets" / "mini"
    if not (path / "model.safetensors").exists():
        pytest.skip("the embedded weights are not in the package")
    return path


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A model small enough to build in every test; the mechanisms are all there."""
    return ModelConfig(
        width=64,
        layers=4,
        heads=2,
        ffn=96,
        rotary=16,
        text_vocabulary=40,
        codes=32,
        grid=(3, 3),
        text_length=12,
        experts=4,
        top_k=2,
        expert_hidden=24,
        resampler=16,
        clip_width=20,
        face_width=12,
        noise_width=8,
        noise_tokens=5,
    )


@pytest.fixture
def tiny_model(tiny_config: ModelConfig) -> UniF2ace:
    """Random weights, larger than at the start of training, so that every path matters."""
    model = UniF2ace(tiny_config)
    model.initialise(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.08)
    return model.eval()


@pytest.fixture(scope="session")
def made_up_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of sixteen noisy pictures with random labels, landmarks and descriptors, as a user could bring."""
    folder, rng = tmp_path_factory.mktemp("made_up") / "data", np.random.default_rng(0)
    (folder / "mine").mkdir(parents=True)
    names = [f"{number}.png" for number in range(16)]
    with (folder / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", "person", "age", "Emotion", *BINARY])
        for number, name in enumerate(names):
            emotion = ("neutral", "happiness")[number % 2]
            labels = rng.integers(0, 2, len(BINARY)).tolist()
            table.writerow([name, "val" if number > 9 else "train", f"p{number // 2}", 20 + number, emotion, *labels])
            pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "mine" / name)
    face = np.array([[44, 30], [36, 30], [20, 30], [28, 30], [32, 42]], dtype=np.float32)
    points, hit = np.repeat(face[None], 16, 0), np.ones(16, np.int8)
    np.savez(folder / "landmarks.npz", mine_file=names, mine_points=points, mine_hit=hit)
    np.savez(folder / "face_descriptors.npz", mine_file=names, mine=rng.normal(size=(16, 128)).astype(np.float32))
    return folder


@pytest.fixture(scope="session")
def aligned_faces(made_up_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up faces as a set of small shards, aligned."""
    import factory_toys as toys

    folder = tmp_path_factory.mktemp("aligned")
    return toys.aligned(toys.imported(made_up_faces, folder / "raw"), folder / "faces")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data goes into a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Result(NamedTuple):
    """What a run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The one error line of a failed run."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs a command line in an empty folder, in this process: call(*arguments, stdin=b"") -> Result."""
    from unif2ace_cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*args: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
