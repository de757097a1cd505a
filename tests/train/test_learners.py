"""Encoders that learn beside the transformer: the features of frozen ones at the start, gradients, and their export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, load_clip
from unif2ace_core.experts.face import FaceConfig, FaceEncoder
from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.train.learners import LearningExperts
from unif2ace_core.train.loop import Trainer
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.model import ModelTask, ModelTrainConfig
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.store import load_tensors

CLIP = ClipConfig(widths=(8, 8, 8, 16), neck=4, embed=8)
FACE = FaceConfig(widths=(8, 8, 8), neck=4, dimension=24)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder with small encoders."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)  # which experts the routers choose depends on the codes
    codec = CodecConfig(bits=6, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    save_part(folder, "codec", Codec(codec), codec)
    save_part(folder, "clip", ClipEncoder(CLIP), CLIP)
    save_part(folder, "face", FaceEncoder(FACE), FACE)
    return {name: str(folder) for name in ("codec", "clip", "face")}


@pytest.fixture(autouse=True)
def own_cache(parts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(parts["codec"]) / "cache"))


@pytest.fixture
def config(parts: dict[str, str]) -> ModelTrainConfig:
    """Settings of a short run in which both encoders learn."""
    short = ModelTrainConfig(steps=3, batch_size=4, threads=1, warmup=1, eval_rows=4, precision="fp32", **parts)
    return replace(short, train_experts=("clip", "face"))


def losses(config: ModelTrainConfig, data: Path) -> dict[str, float]:
    """The parts of the loss of the first step."""
    task = ModelTask(config, data)
    with torch.no_grad():
        return task.loss(task.batch(0, step_part(0, 0, 0, 1)), torch.Generator())[1]


def test_experts_that_learn_start_as_the_frozen_ones(made_up_faces: Path, config: ModelTrainConfig) -> None:
    learning, frozen = (losses(c, made_up_faces) for c in (config, replace(config, train_experts=())))
    assert learning == pytest.approx(frozen, abs=1e-3)  # cached features are in fp16


def test_features_are_those_of_the_photos_and_zero_for_rows_without() -> None:
    experts = LearningExperts({"clip": ClipEncoder(CLIP), "face": FaceEncoder(FACE)}, 128)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = experts(images, 5)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"clip": (5, 17, 16), "face": (5, 1, 24)}
    for name, value in found.items():
        assert not value[:3].any() and torch.equal(value[3:], experts.features(name, images))


@pytest.mark.parametrize("count", [0, 1])
def test_all_that_learns_has_a_gradient_whether_there_are_photos_or_not(count: int) -> None:
    """Else the processes of a sharded run would exchange different sets of them."""
    experts = LearningExperts({"clip": ClipEncoder(CLIP)}, 128)
    experts(torch.zeros(count, 3, 128, 128), 2)["clip"].sum().backward()
    learning = {name for name, parameter in experts.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in experts.named_parameters() if parameter.grad is not None} == learning
    frozen = {name for name, _ in experts.named_parameters()} - learning
    assert {name.split(".")[2] for name in frozen} == {"projection", "attributes"}


def test_what_was_learned_is_exported(made_up_faces: Path, config: ModelTrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(ModelTask(config, made_up_faces), config, tmp_path)
    for _ in range(3):
        trainer.update()
    assert trainer.evaluate()["val_d3diff"] > 0
    trainer.export()
    for name in config.train_experts:
        before, after = (
            load_tensors(folder / f"{name}.safetensors") for folder in (Path(config.clip), tmp_path / "export")
        )
        assert changed(before, after)
    assert load_clip(tmp_path / "export").config == CLIP


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """Whether tensors of the same names and shapes have other values."""
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    return any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_experts": ("noise",)}, "no expert 'noise' to train"),
        ({"train_experts": ("face",), "face": ""}, "train_experts=face needs face=DIR"),
    ],
)
def test_what_cannot_learn_is_named(made_up_faces: Path, config: ModelTrainConfig, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelTask(replace(config, **settings), made_up_faces)


def test_a_model_of_insightface_cannot_learn(made_up_faces: Path, config: ModelTrainConfig, tmp_path: Path) -> None:
    from unif2ace_core.train.learners import load_learners

    (tmp_path / "face.json").write_text('{"kind": "insightface"}')
    with pytest.raises(UserError, match="insightface cannot learn"):
        load_learners(("face",), {"face": tmp_path}, 128)
