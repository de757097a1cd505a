"""From the name of a device to the device, from a folder of other programs' parts to a model that works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import expert_toys
import pytest
import showo_toys as toys
import torch
from PIL import Image

from unif2ace_core.errors import UserError
from unif2ace_core.experts.insightface_model import InsightFaceEncoder, make_insightface
from unif2ace_core.experts.open_clip_tower import OpenClipTower, make_open_clip
from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, generate
from unif2ace_core.tasks.understand import ask, describe, encode_photos
from unif2ace_core.tokens.codec import CodecConfig
from unif2ace_core.tokens.magvit import MagvitConfig, MagvitV2
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.resolve import LoadedModel, codec_config, load_model, pick_device
from unif2ace_core.weights.showo import convert_showo


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "cpu"), (0, 0, "cpu")])
def test_auto_takes_cuda_else_the_cpu(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: int, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert pick_device("auto") == torch.device(expected)


def test_mps_is_taken_by_name_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"'mps' is not available here; use one of auto, .*cpu"):
        pick_device("mps")


# --- A converted Show-o with published experts ---------------------------------------------------------


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up Show-o with its MAGVIT-v2, a tower of open_clip and a recognition model, in one folder."""
    pytest.importorskip("insightface")
    root, text = tmp_path_factory.mktemp("full"), 300
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "TEXT", text)
        patch.setattr(toys, "VOCABULARY", text + 10 + toys.CODES + 1)
        TextTokenizer.train(["a smiling woman", "what emotion?"], text).save(root / "tokenizer.json")
        sources = [toys.save_backbone(root / "showo"), toys.save_codec(root / "magvit")]
        convert_showo(
            str(sources[0]), root / "model", codec=str(sources[1]), tokenizer=root / "tokenizer.json",
            preset=toys.PRESET,
        )  # fmt: skip
    name = expert_toys.architecture(root / "architectures")
    make_open_clip(name, str(expert_toys.save_clip(root / "clip.safetensors")), root / "model")
    expert_toys.forget()
    make_insightface(str(expert_toys.save_recognition(root / "face.onnx")), root / "model")
    return root / "model"


@pytest.fixture(scope="module")
def loaded(converted: Path) -> LoadedModel:
    return load_model(str(converted), "cpu")


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(converted, tmp_path / "model")
    return tmp_path / "model"


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


PHOTO = Image.effect_noise((200, 240), 60).convert("RGB")


def test_every_part_is_of_the_kind_its_file_states(loaded: LoadedModel) -> None:
    assert isinstance(loaded.codec, MagvitV2)
    assert isinstance(loaded.clip, OpenClipTower) and isinstance(loaded.face, InsightFaceEncoder)
    assert (loaded.config.clip_width, loaded.config.face_width) == (expert_toys.WIDTH, expert_toys.DIMENSION)


def test_photos_become_codes_and_features(loaded: LoadedModel) -> None:
    photos = encode_photos(loaded, [PHOTO, PHOTO])
    assert photos.codes.shape == (2, 16) and photos.attributes is None
    assert photos.clip is not None and photos.clip.shape == (2, 16, 12)
    assert photos.face is not None and photos.face.shape == (2, 1, 10)


def test_the_model_draws_answers_and_describes(loaded: LoadedModel) -> None:
    made = list(generate(loaded, [GenerateRequest("a smiling woman", 1)], GenerateOptions(steps=2)))
    assert made[0].image.size == (16, 16)
    (answer,) = ask(loaded, [(PHOTO, "what emotion?")])
    (description,) = describe(loaded, [PHOTO])
    assert 0 <= answer.confidence <= 1 and description.attributes == []  # a published tower reads no attributes


def test_drawing_needs_neither_expert(folder: Path) -> None:
    (folder / "clip.safetensors").unlink()
    edit(folder / "face.json", path="nowhere.onnx")
    drawing = load_model(str(folder), "cpu", parts=())
    assert drawing.clip is None and drawing.face is None
    for part, words in (
        ("clip", r"clip\.safetensors does not exist"),
        ("face", r"nowhere\.onnx, which does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            load_model(str(folder), "cpu", parts=(part,))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("clip.json", {"width": 1024}, r"clip\.json gives clip_width 1024, config\.json has 12; take both from one"),
        ("face.json", {"dimension": 512}, r"face\.json gives face_width 512, config\.json has 10; take both from one"),
        ("codec.json", {"pixels": 32}, r"codec\.json gives grid \(8, 8\), config\.json has \(4, 4\); take both from"),
        ("clip.json", {"kind": "siglip"}, r"clip\.json has kind 'siglip', known is open_clip"),
        ("codec.json", {"kind": "vq-gan"}, r"codec\.json has kind 'vq-gan', known is magvit-v2"),
    ],
)
def test_parts_that_do_not_go_together_are_named(folder: Path, file: str, changes: Any, words: str) -> None:
    edit(folder / file, **changes)
    with pytest.raises(UserError, match=words):
        load_model(str(folder), "cpu")


def test_an_expert_that_no_router_knows_may_have_any_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    model = {**config["model"], "clip_width": 99, "sequence_mmu": ["copy", "copy"], "sequence_t2i": ["copy", "copy"]}
    edit(folder / "config.json", model=model)
    with pytest.raises(UserError, match=r"model\.safetensors does not fit"):  # the weights, not the width
        load_model(str(folder), "cpu")


def test_sizes_of_either_codec_are_known_without_its_weights(folder: Path, tmp_path: Path) -> None:
    (folder / "codec.safetensors").unlink()
    found = codec_config(folder)
    assert isinstance(found, MagvitConfig) and (found.codes, found.grid, found.pixels) == (32, (4, 4), 16)
    save_part(tmp_path, "codec", torch.nn.Linear(1, 1), CodecConfig(pixels=64, bits=5))
    own = codec_config(tmp_path)
    assert isinstance(own, CodecConfig) and (own.codes, own.grid, own.pixels) == (32, (4, 4), 64)


def test_sizes_without_a_codec_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"codec\.json does not exist"):
        codec_config(tmp_path)
