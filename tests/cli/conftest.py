"""Stand-ins for the core, so that the command line's contract is tested fast and without weights.

Each fake module has the interface of the real one; `core` records the calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unif2ace_core.errors import UserError


@dataclass(frozen=True)
class GenerateOptions:
    steps: int | None = None
    guidance: float | None = None
    guidance_schedule: str | None = None
    guidance_rescale: float | None = None
    temperature: float | None = None
    cooling: float | None = None
    repair: float | None = None
    sampler: str | None = None
    negative: str | None = None
    best_of: int = 1


@dataclass(frozen=True)
class GenerateRequest:
    prompt: str
    seed: int


@dataclass
class GeneratedImage:
    request: GenerateRequest
    image: Any
    seconds: float
    options: GenerateOptions
    negative: str


@dataclass(frozen=True)
class Answer:
    answer: str
    confidence: float
    seconds: float


@dataclass(frozen=True)
class AttributeReading:
    name: str
    value: str
    probability: float


@dataclass(frozen=True)
class Description:
    description: str
    attributes: list[AttributeReading]
    seconds: float


@dataclass(frozen=True)
class QuantizeReport:
    before_bytes: int = 4_000_000
    after_bytes: int = 2_500_000
    transformer_before: int = 2_000_000
    transformer_after: int = 1_000_000


@dataclass
class Progress:
    step: int
    steps: int
    loss: float = 1.5
    learning_rate: float = 1e-3
    samples_per_second: float = 20.0
    eta_seconds: float = 65.0
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, float] | None = None


@dataclass
class FakeCore:
    """What the fakes were asked, and what to let them do."""

    loads: list[tuple[str, str]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    asked: list[tuple[Any, str]] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    fail: BaseException | None = None
    faceless: int | None = None  # width of the pictures in which no face is found

    def load_model(self, model: str = "mini", device: str = "auto", parts: Any = None, quantize: Any = None) -> Any:
        self.loads.append((model, device))
        if self.fail is not None:
            raise self.fail
        config = types.SimpleNamespace(text_length=8)
        tokenizer = types.SimpleNamespace(encode=lambda text: text.split())
        return types.SimpleNamespace(name=model, config=config, tokenizer=tokenizer, version="1", quantization=quantize)

    def generate(
        self, model: Any, requests: Sequence[GenerateRequest], options: GenerateOptions, batch_size: int = 8
    ) -> Iterator[GeneratedImage]:
        self.batches.append(batch_size)
        defaults = {"steps": 16, "guidance": 2.0, "temperature": 1.0, "sampler": "maskgit"}
        defaults |= {
            "guidance_schedule": "constant",
            "guidance_rescale": 0.0,
            "cooling": 0.0,
            "repair": 0.0,
            "negative": "",
        }
        given = {key: value for key, value in vars(options).items() if value is not None}
        used = replace(options, **{**defaults, **given})
        for request in requests:
            colour = (request.seed % 256, len(request.prompt) % 256, 0)
            yield GeneratedImage(request, Image.new("RGB", (32, 32), colour), 0.25, used, used.negative or "")

    def align_face(self, model: Any, image: Any, face: int = 0) -> Any:
        self.faces.append(face)
        if image.width == self.faceless:
            raise UserError("no face found; use a photo that shows one, or --no-align")
        return image.resize((128, 128))

    def ask(self, model: Any, pairs: Sequence[tuple[Any, str]], batch_size: int = 8) -> Iterator[Answer]:
        self.batches.append(len(pairs))
        self.asked.extend(pairs)
        yield from (Answer(f"yes, {question}", 0.87654, 0.12345) for _, question in pairs)

    def describe(self, model: Any, images: Sequence[Any], batch_size: int = 8) -> Iterator[Description]:
        reading = AttributeReading("Smiling", "yes", 0.912345)
        yield from (Description("A smiling person.\nAbout 30.", [reading], 0.5) for _ in images)

    def train(
        self,
        recipe: str,
        data: Path,
        output: Path,
        overrides: Any,
        resume: bool,
        on_progress: Callable[..., None],
    ) -> dict[str, float]:
        self.calls.append((recipe, data, output, overrides, resume))
        if self.fail is not None:
            raise self.fail
        for step in (1, 2):
            on_progress(Progress(step, 2, evaluation={"psnr": 21.5} if step == 2 else None))
        return {"psnr": 21.5}

    def load_recipe(self, name: str, overrides: dict[str, str]) -> None:
        if set(overrides) - {"steps", "seed", "preset"}:
            raise UserError(f"unknown setting {min(overrides)!r}; valid ones are steps (int), seed (int), preset (str)")

    def plan(self, recipe: str, data: Path, output: Path, overrides: Any) -> dict[str, Any]:
        return {"recipe": recipe, "parameters": 1_234_567, "hours": 0.5}

    def run_suites(
        self,
        names: Sequence[str],
        model: Any,
        data: Path,
        split: str,
        limit: int | None,
        seed: int,
        on_progress: Any,
        sampling: Any = None,
        judge: Path | None = None,
        sheet: Path | None = None,
    ) -> dict[str, Any]:
        self.calls.append((tuple(names), model.name, split, limit, seed))
        self.judge, self.sheet = judge, sheet
        self.sampling = sampling
        on_progress(names[0], 1, 2)
        table = {"Smiling": {"balanced_accuracy": 0.75, "n_yes": 5}, "Hat": {"n_yes": 6}}
        yes_no = {"balanced_accuracy": 0.8125, "interval": [0.75, 0.875], "by_attribute": table}
        suites = {name: {"n": 10, "yes_no": yes_no} for name in names}
        return {"split": split, "seed": seed, "suites": suites}

    def answers_agreement(self, first: Any, second: Any, data: Path, n: int = 200, seed: int = 0) -> Any:
        self.calls.append((first.name, second.name, n))
        return {"n": n, "same_value": 0.975}

    def quantize_model(self, source: str, bits: int, output: Path, force: bool) -> QuantizeReport:
        self.calls.append((source, bits, output, force))
        return QuantizeReport()


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    """The fakes in place of the core's modules."""
    fake = FakeCore()
    modules: dict[str, dict[str, Any]] = {
        "weights.resolve": {"load_model": fake.load_model},
        "weights.quantized": {"quantize_model": fake.quantize_model, "QuantizeReport": QuantizeReport},
        "tasks.generate": {
            "GenerateOptions": GenerateOptions,
            "GenerateRequest": GenerateRequest,
            "generate": fake.generate,
        },
        "tasks.understand": {"ask": fake.ask, "describe": fake.describe, "align_face": fake.align_face},
        "train.run": {"run": fake.train, "plan": fake.plan, "load_recipe": fake.load_recipe},
        "evaluate.run": {"run_suites": fake.run_suites, "answers_agreement": fake.answers_agreement},
    }
    for name, members in modules.items():
        module = types.ModuleType(f"unif2ace_core.{name}")
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake


@pytest.fixture
def cli(core: FakeCore, command_line: Callable[..., Any]) -> Callable[..., Any]:
    """The command line against the fakes."""
    return command_line


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own."""

    def call(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, cwd=tmp_path, env=environment, **options
        )

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., str]:
    """Writes a plain picture and gives its name in the current folder."""

    def make(name: str = "photo.png", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(path, **options)
        return name

    return make
