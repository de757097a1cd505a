"""A new reader of old patches: the tower stays, its evidence is of unit spread, and a model goes on with it.

pytest tests/train/test_reader.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ATTRIBUTE_LOGITS, ClipConfig, ClipEncoder, load_clip
from unif2ace_core.model.resampler import Resampler
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.train.recipes.model import ModelTrainConfig
from unif2ace_core.train.run import run
from unif2ace_core.train.stitch import check_stitch, projections, stitch
from unif2ace_core.weights.parts import save_part

SMALL = ClipConfig(pixels=32, widths=(8, 8, 8, 96), depths=(1, 1, 1, 1), neck=4, embed=8)
WIDE = ClipConfig(pixels=32, widths=(8, 8, 8, 96), depths=(1, 1, 1, 1), neck=4, summary=24, embed=8)


def test_the_last_token_gives_the_heads_outputs_back() -> None:
    for config in (SMALL, WIDE):
        encoder = ClipEncoder(config).eval()
        if config.summary:
            encoder.evidence_mean.normal_()
            encoder.evidence_spread.uniform_(0.5, 2)
        found = encoder.features(torch.rand(3, 3, 32, 32))
        torch.testing.assert_close(encoder.heads(found.tokens[:, -1])[:, :-1], found.attributes)


def test_a_photo_and_its_mirror_image_read_the_same_and_keep_their_own_patches() -> None:
    encoder, images = ClipEncoder(WIDE).eval(), torch.rand(2, 3, 32, 32)
    torch.nn.init.normal_(encoder.position)
    once, twice, mirrored = encoder.features(images), encoder.seen_twice(images), encoder.seen_twice(images.flip(3))
    torch.testing.assert_close(twice.tokens[:, :-1], once.tokens[:, :-1])
    for name in ("attributes", "age"):
        torch.testing.assert_close(getattr(twice, name), getattr(mirrored, name))
        assert not torch.equal(getattr(twice, name), getattr(once, name))
    torch.testing.assert_close(encoder.heads(twice.tokens[:, -1])[:, :-1], twice.attributes)


def test_a_summary_that_is_no_evidence_is_of_the_photo_alone() -> None:
    encoder, images = ClipEncoder(SMALL).eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(encoder.seen_twice(images).tokens, encoder.features(images).tokens)


def test_a_token_without_room_for_the_evidence_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        ClipEncoder(ClipConfig(widths=(8, 8, 8, 16), summary=24))


@pytest.mark.usefixtures("own_cache")
def test_the_tower_stays_and_the_evidence_is_of_unit_spread(made_up_faces: Path, tmp_path: Path) -> None:
    save_part(tmp_path / "start", "clip", ClipEncoder(SMALL), SMALL)
    options = {"steps": "3", "batch_size": "8", "threads": "1", "neck": "5", "summary": "24", "ema": "0"}
    run("reader", made_up_faces, tmp_path / "run", {**options, "init": str(tmp_path / "start")})
    before, after = load_clip(tmp_path / "start"), load_clip(tmp_path / "run" / "export")
    assert after.config == ClipConfig(**{**vars(SMALL), "neck": 5, "summary": 24})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(after.patches(images), before.patches(images))
    assert after.evidence_spread.min() > 0 and not torch.equal(after.evidence_spread, torch.ones(ATTRIBUTE_LOGITS + 1))


@pytest.mark.usefixtures("own_cache")
def test_a_reader_starts_from_a_tower(made_up_faces: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs init=DIR"):
        run("reader", made_up_faces, tmp_path / "run", {"steps": "1"})


def test_a_stitched_model_reads_another_last_token_as_before(
    tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    config = replace(tiny_config, clip_width=12, resampler=16)
    model = UniF2ace(config).initialise(generator)
    resampler = cast("Resampler", model.resamplers["clip"])
    with torch.no_grad():
        resampler.norm.weight.uniform_(0.5, 2, generator=generator)
        resampler.norm.bias.normal_(generator=generator)
    former = torch.randn(400, 2, 1, 12, generator=generator).numpy().astype(np.float16)
    present = former[..., torch.randperm(12, generator=generator).numpy()]
    layers = projections(model)

    def added(reader: UniF2ace, features: np.ndarray) -> list[torch.Tensor]:
        resampled = reader.resamplers["clip"](torch.from_numpy(features[:, 0]).float())
        return [layer(resampled) for layer in projections(reader)]

    wanted = added(model, former)
    other = UniF2ace(config)
    other.load_state_dict(model.state_dict())
    monkeypatch.setattr("unif2ace_core.train.stitch.ROOM", 0.0)
    assert stitch(model, former, present) > 0.99
    for found, before in zip(added(model, present), wanted, strict=True):
        torch.testing.assert_close(found, before, rtol=0.1, atol=0.1 * before.std().item())
    spread = resampler(torch.from_numpy(present[:, 0]).float())[:, 0].std(0)
    told = spread > 1e-3
    assert told.sum() == 11  # of twelve channels of a normalised token one follows from the others
    assert spread[told].max() / spread[told].min() < 1.1
    monkeypatch.setattr("unif2ace_core.train.stitch.ROOM", 0.5)
    stitch(other, former, present)
    ranks = (
        [torch.linalg.matrix_rank(layer.weight) for layer in layers],
        [
            torch.linalg.matrix_rank(m.weight)
            for n, m in other.named_modules()
            if n.endswith("groups.mmu.projections.clip")
        ],
    )
    assert min(ranks[1]) == 16 > max(ranks[0])  # all that the new expert says is somewhere in the span


def test_a_fresh_model_has_no_former_expert_and_one_that_learns_is_not_stitched() -> None:
    with pytest.raises(UserError, match="give init"):
        ModelTrainConfig(former_clip="runs/clip/export")
    with pytest.raises(UserError, match="leave clip out of train_experts"):
        ModelTrainConfig(former_clip="old", init="old", train_experts=("clip",))


def test_experts_that_do_not_go_together_are_named(tiny_config: ModelConfig, tmp_path: Path) -> None:
    sizes = {"old": SMALL, "new": WIDE, "wider": replace(SMALL, widths=(8, 8, 8, 104))}
    for name, config in sizes.items():
        torch.manual_seed(len(name))
        save_part(tmp_path / name, "clip", ClipEncoder(config), config)
    old, new, wider = (tmp_path / name for name in sizes)
    check_stitch(old, old, new, tiny_config)
    with pytest.raises(UserError, match="leave former_clip out"):
        check_stitch(old, old, old, tiny_config)
    with pytest.raises(UserError, match="has not read the expert"):
        check_stitch(old, new, wider, tiny_config)
    with pytest.raises(UserError, match="differ in tokens"):
        check_stitch(old, old, wider, tiny_config)
    (wider / "clip.json").write_text('{"kind": "open_clip"}')
    with pytest.raises(UserError, match="published tower"):
        check_stitch(old, old, wider, tiny_config)


@pytest.mark.usefixtures("own_cache")
def test_the_text_tower_goes_along_and_recipe_clip_measures_the_evidence_anew(
    made_up_faces: Path, tmp_path: Path
) -> None:
    pytest.importorskip("open_clip")
    quick = {"steps": "1", "batch_size": "4", "threads": "1", "ema": "0", "warmup": "0"}
    start, reader, on = tmp_path / "clip", tmp_path / "reader", tmp_path / "on"
    save_part(tmp_path / "small", "clip", ClipEncoder(SMALL), SMALL)
    run("clip", made_up_faces, start, {**quick, "init": str(tmp_path / "small")})
    run("reader", made_up_faces, reader, {**quick, "init": str(start / "export"), "summary": "24"})
    for name in ("clip_text.safetensors", "clip_tokenizer.json"):
        assert (reader / "export" / name).read_bytes() == (start / "export" / name).read_bytes()
    run("clip", made_up_faces, on, {**quick, "init": str(reader / "export"), "learning_rate": "0.01"})
    before, after = load_clip(reader / "export"), load_clip(on / "export")
    assert not torch.equal(before.evidence_mean, after.evidence_mean)
