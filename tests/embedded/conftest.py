"""What the tests of the shipped model share: the real command line, the model in memory, photos of its own faces.

Every test here needs the embedded weights and is skipped without them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, generate
from unif2ace_core.weights.resolve import LoadedModel, load_model

PORTRAITS = (
    "a smiling young woman with long brown hair",
    "a man with short black hair and a beard",
    "a young woman with blond hair",
    "a middle-aged man with glasses",
    "a smiling man",
    "a woman with black hair",
)


@pytest.fixture
def run(embedded: Path, command_line: Callable[..., Any]) -> Callable[..., Any]:
    """The command line with the real core."""
    return command_line


@pytest.fixture
def python(embedded: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own, with as many threads as this one."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        threads = str(torch.get_num_threads())
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": threads}
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=tmp_path, env=environment)

    return call


@pytest.fixture
def model_folder(embedded: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the embedded model's files, some replaced by other bytes, some (None) left out."""

    def make(changes: Mapping[str, bytes | None] | None = None, name: str = "model") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in embedded.iterdir():
            if file.is_file() and file.name not in (changes or {}):
                (folder / file.name).symlink_to(file.resolve())
        for file_name, content in (changes or {}).items():
            if content is not None:
                (folder / file_name).write_bytes(content)
        return folder

    return make


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file grows beyond some number of bytes, as on a disk that has filled up."""
    resource: Any = pytest.importorskip("resource")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture(scope="session")
def loaded(embedded: Path) -> LoadedModel:
    """The embedded model with all its parts, on the CPU."""
    return load_model("mini", device="cpu")


@pytest.fixture(scope="session")
def portraits(loaded: LoadedModel) -> list[Image.Image]:
    """Six faces in the training frame, made by the model; whether they look like faces is not checked."""
    requests = [GenerateRequest(prompt, seed) for seed, prompt in enumerate(PORTRAITS)]
    return [made.image for made in generate(loaded, requests, GenerateOptions(), batch_size=len(requests))]


def on_canvas(face: Image.Image, side: int = 224, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A face enlarged to `side` pixels on a plain larger picture, left of its middle."""
    canvas = Image.new("RGB", size, (128, 132, 140))
    large = face.resize((side, side), Image.Resampling.BICUBIC)
    canvas.paste(large, ((size[0] - side) // 3, (size[1] - side) // 2))
    return canvas


@pytest.fixture(scope="session")
def faces(loaded: LoadedModel, portraits: list[Image.Image]) -> list[Image.Image]:
    """The portraits in which, put on a larger canvas, the locator finds a face: at least two of six."""
    assert loaded.locator is not None
    found = [face for face in portraits if len(loaded.locator.find(on_canvas(face))) == 1]
    assert len(found) >= 2, f"the locator finds {len(found)} of {len(portraits)} generated faces"
    return found


@pytest.fixture(scope="session")
def face_photo(faces: list[Image.Image]) -> Image.Image:
    """A photo with one face that is neither in the middle nor fills it."""
    return on_canvas(faces[0])
