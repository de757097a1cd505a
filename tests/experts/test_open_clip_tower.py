"""Published towers of open_clip as the CLIP expert: features, the self-contained folder, and refusals in words."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import expert_toys as toys
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import clip_width, load_clip, load_clip_expert, read_clip_config
from unif2ace_core.experts.open_clip_tower import (
    MEAN,
    STD,
    OpenClipConfig,
    OpenClipTower,
    Published,
    common_settings,
    draft,
    find_architecture,
    make_open_clip,
)

open_clip = pytest.importorskip("open_clip")


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    """An architecture that open_clip knows for the time of a test."""
    yield toys.architecture(tmp_path / "architectures")
    toys.forget()


@pytest.fixture
def weights(name: str, tmp_path: Path) -> Path:
    return toys.save_clip(tmp_path / "tiny.safetensors")


@pytest.fixture
def folder(name: str, weights: Path, tmp_path: Path) -> Path:
    """A part folder."""
    make_open_clip(name, str(weights), tmp_path / "clip")
    return tmp_path / "clip"


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of clip.json."""
    path = folder / "clip.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- Features ------------------------------------------------------------------------------------------


def test_features_are_the_patches_before_the_last_block_and_the_embedding(folder: Path) -> None:
    model, seen = toys.clip_model(), []
    model.visual.transformer.resblocks[-2].register_forward_hook(lambda module, given, out: seen.append(out))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    embedding = model.encode_image(((images + 1) / 2 - mean) / std)
    found = load_clip_expert(folder).features(images)
    assert found.tokens.shape == (2, toys.PATCHES, toys.WIDTH)
    assert torch.allclose(found.tokens, seen[0][:, 1:], atol=1e-5)  # without the class token
    assert torch.allclose(found.embedding, embedding, atol=1e-5)
    assert found.attributes is None and found.age is None
    assert torch.allclose(found.pooled, torch.cat([found.tokens.mean(1), found.embedding], 1))


@pytest.mark.parametrize(("side", "tolerance"), [(32, 1e-6), (80, 0.02)])
def test_images_are_prepared_as_open_clip_does(folder: Path, side: int, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    bytes_ = torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8)
    transform = open_clip.image_transform(32, is_train=False, mean=MEAN, std=STD)
    theirs = transform(Image.fromarray(bytes_.numpy()))
    tower = load_clip_expert(folder)
    assert isinstance(tower, OpenClipTower)
    ours = tower.prepared(bytes_.permute(2, 0, 1).float().div(127.5).sub(1).unsqueeze(0))[0]
    assert torch.allclose(ours, theirs, atol=tolerance)  # PIL rounds resized pixels to bytes


TOWERS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "convolutional": ({"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}, (16, 128)),
    "average": ({**toys.VISION, "pool_type": "avg", "no_ln_pre": True}, (16, 12)),
    "timm": ({"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 32}, (4, 64)),
    "timm stages": ({"timm_model_name": "test_convnext", "timm_pool": "avg", "image_size": 64}, (16, 48)),
}


@pytest.mark.parametrize("kind", TOWERS)
def test_every_tower_of_open_clip_gives_its_last_but_one_layer(tmp_path: Path, kind: str) -> None:
    vision, size = TOWERS[kind]
    name = toys.architecture(tmp_path, "another", vision)
    try:
        weights = toys.save_clip(tmp_path / "w.safetensors", name)
        config = make_open_clip(name, str(weights), tmp_path / "clip")
        images = torch.rand(2, 3, 48, 48) * 2 - 1
        tower = load_clip_expert(tmp_path / "clip")
        found = tower.features(images)
        assert (config.tokens, config.width) == found.tokens.shape[1:] == size
        expected = toys.clip_model(name).encode_image(tower.prepared(images))
        assert torch.allclose(found.embedding, expected, atol=1e-4)
    finally:
        toys.forget("another")


def test_what_a_tower_computes_at_construction_is_there_after_reading(folder: Path) -> None:
    class Tower(OpenClipTower):
        """With a table that no file holds, as rotary towers have."""

        def __init__(self, config: OpenClipConfig) -> None:
            super().__init__(config)
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    from unif2ace_core.weights.parts import load_part

    assert load_part(folder, "clip", Tower, OpenClipConfig).table.tolist() == [0, 1, 2]


# --- The folder ----------------------------------------------------------------------------------------


def test_the_folder_is_all_that_is_needed(folder: Path, weights: Path) -> None:
    images = torch.rand(1, 3, 40, 40)
    before = load_clip_expert(folder).features(images).tokens
    weights.unlink()
    toys.forget()
    assert torch.equal(load_clip_expert(folder).features(images).tokens, before)
    assert sorted(file.name for file in folder.iterdir()) == ["clip.json", "clip.safetensors"]


def test_only_the_image_tower_is_stored_in_half_precision(folder: Path, weights: Path) -> None:
    stored, whole = load_file(folder / "clip.safetensors"), load_file(weights)
    assert set(stored) == {key for key in whole if key.startswith("visual.")} != set(whole)
    assert {value.dtype for value in stored.values()} == {torch.float16}


def test_the_width_is_known_without_the_weights(folder: Path) -> None:
    (folder / "clip.safetensors").unlink()
    config = read_clip_config(folder)
    assert clip_width(folder) == toys.WIDTH and (config.tokens, config.pixels) == (16, 32)


def test_files_of_any_form_give_the_same_tower(name: str, weights: Path, folder: Path, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in load_file(weights).items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "trained.pt")
    make_open_clip(name, str(tmp_path / "trained.pt"), tmp_path / "again")
    first, second = (load_file(path / "clip.safetensors") for path in (folder, tmp_path / "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_folder_keeps_its_other_files_and_an_expert_unless_forced(name: str, weights: Path, folder: Path) -> None:
    (folder / "face.json").write_text("{}")
    with pytest.raises(UserError, match=r"clip\.json exists; add --force"):
        make_open_clip(name, str(weights), folder)
    make_open_clip(name, str(weights), folder, force=True)
    assert (folder / "face.json").read_text() == "{}"


# --- What weights were trained with --------------------------------------------------------------------


def test_a_file_is_prepared_for_as_the_published_weights_of_its_name() -> None:
    architecture = find_architecture("ViT-L-14-336")
    tags = open_clip.list_pretrained_tags_by_model("ViT-L-14-336")
    known = [open_clip.get_pretrained_cfg("ViT-L-14-336", tag) for tag in tags]
    config = draft("ViT-L-14-336", architecture, Published(Path("x"), "x", common_settings("ViT-L-14-336", known)))
    assert config.quick_gelu and not architecture.get("quick_gelu")  # OpenAI's weights are the only ones
    assert (config.pixels, config.mean, config.std, config.interpolation) == (336, MEAN, STD, "bicubic")
    siglip = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    found = draft("ViT-B-16-SigLIP", find_architecture("ViT-B-16-SigLIP"), Published(Path("x"), "webli", siglip))
    assert (found.pixels, found.mean, found.std) == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_file_of_a_name_whose_published_weights_differ_gets_open_clips_default(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    caplog.set_level(logging.INFO, "unif2ace_core")
    found = common_settings("ViT-B-32", [{"quick_gelu": True, "mean": MEAN}, {"mean": MEAN}])
    assert "quick_gelu" not in found and found["mean"] == MEAN
    assert "ViT-B-32 differ in quick_gelu" in caplog.text


def test_the_penultimate_size_of_the_papers_tower_is_show_os() -> None:
    architecture = find_architecture("ViT-L-14-336")
    with torch.device("meta"):
        tower = OpenClipTower(draft("ViT-L-14-336", architecture, Published(Path("x"), "x", {})))
        patches, embedding = tower.maps(torch.zeros(2, 3, 336, 336))
    assert patches.flatten(2).transpose(1, 2).shape == (2, 576, 1024) and embedding.shape == (2, 768)


# --- Refusals ------------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no architecture 'ViT-L-14-3366'; it has for example ViT-L-14-336,"):
        make_open_clip("ViT-L-14-3366", "openai", tmp_path / "clip")


def test_what_is_neither_tag_nor_file_is_answered_with_tags(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--weights opena is neither a file nor a tag; tags of ViT-B-32 are .*openai"):
        make_open_clip("ViT-B-32", "opena", tmp_path / "clip")
    with pytest.raises(UserError, match="tiny-vit has no tags, give a file"):
        make_open_clip(name, "nowhere.pt", tmp_path / "clip")


def test_a_tag_that_is_not_here_and_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Any) -> str:
        raise FileNotFoundError("Failed to download file. Last error: no route\nto the host")

    monkeypatch.setattr(open_clip, "download_pretrained", refuse)
    with pytest.raises(UserError, match=r"'openai' of ViT-B-32 are not on this machine .* \(Failed to download file\)"):
        make_open_clip("ViT-B-32", "openai", tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_weights_of_something_else_are_named(name: str, weights: Path, tmp_path: Path) -> None:
    other = toys.architecture(tmp_path / "architectures", "wider", {**toys.VISION, "width": 18})
    try:
        with pytest.raises(UserError, match=r"holds another tower than wider: \d+ tensors .* \(visual\."):
            make_open_clip(other, str(weights), tmp_path / "clip")
    finally:
        toys.forget("wider")
    save_file({"bert.weight": torch.zeros(2)}, tmp_path / "bert.safetensors")
    with pytest.raises(UserError, match=r"no image tower of open_clip \(its first tensor is bert\.weight\)"):
        make_open_clip(name, str(tmp_path / "bert.safetensors"), tmp_path / "clip")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:999])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        make_open_clip(name, str(tmp_path / "cut.safetensors"), tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_are_named(name: str, tmp_path: Path, value: float) -> None:
    state = load_file(toys.save_clip(tmp_path / "w.safetensors"))
    save_file({**state, "visual.proj": torch.full_like(state["visual.proj"], value)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors holds values that fp16 can't"):
        make_open_clip(name, str(tmp_path / "w.safetensors"), tmp_path / "clip")


def test_a_tower_without_patches_is_named(name: str, weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def pooled(self: OpenClipTower, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 12), torch.zeros(1, 6)

    monkeypatch.setattr(OpenClipTower, "maps", pooled)
    with pytest.raises(UserError, match=r"image tower of tiny-vit gives no patches .*; take a ViT"):
        make_open_clip(name, str(weights), tmp_path / "clip")


def test_a_tower_for_oblong_images_is_named(weights: Path, tmp_path: Path) -> None:
    name = toys.architecture(tmp_path / "architectures", "oblong", {**toys.VISION, "image_size": [32, 48]})
    try:
        with pytest.raises(UserError, match="oblong reads images of 32 x 48 pixels"):
            make_open_clip(name, str(weights), tmp_path / "clip")
    finally:
        toys.forget("oblong")


def test_damaged_foreign_and_missing_weights_of_a_folder_are_named(folder: Path) -> None:
    path = folder / "clip.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a readable safetensors file"):
        load_clip_expert(folder)
    save_file({"bert.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"does not fit its config: .* missing"):
        load_clip_expert(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"clip\.safetensors does not exist"):
        load_clip_expert(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std": [0.5, 0, 0.5]}, "is not usable"),
        ({"interpolation": "nearest"}, "is not usable"),
        ({"mean": [0.5]}, "is not usable"),
        ({"vision": [1]}, "does not fit"),
        ({"vision": {"colour": 3}}, "has impossible sizes"),
        ({"vision": {"layers": 3, "width": 13, "head_width": 6}}, "has impossible sizes"),
        ({"later": 1}, "unknown field 'later'"),
    ],
)
def test_a_damaged_clip_json_is_named(folder: Path, changes: dict[str, Any], words: str) -> None:
    edit(folder, **changes)
    with pytest.raises(UserError, match=words):
        load_clip_expert(folder)


@pytest.mark.parametrize("field", ["width", "tokens"])
def test_features_of_another_size_than_stated_are_named(folder: Path, field: str) -> None:
    edit(folder, **{field: 7})
    with pytest.raises(UserError, match="features, its tower has 16 x 12; make it again"):
        load_clip_expert(folder).features(torch.zeros(1, 3, 32, 32))


def test_recipes_do_not_start_from_a_published_tower(folder: Path) -> None:
    with pytest.raises(UserError, match="give an export of recipe clip"):
        load_clip(folder)
