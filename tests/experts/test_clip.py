"""The embedded CLIP expert at any size of photo, and which kind of expert a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import (
    ATTRIBUTE_LOGITS,
    ClipConfig,
    ClipEncoder,
    clip_width,
    load_clip_expert,
    read_attributes,
    read_clip_config,
)
from unif2ace_core.weights.parts import save_part

SMALL = ClipConfig(pixels=64, widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), neck=4, embed=6)


@pytest.fixture
def encoder() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder(SMALL).half().float().eval()


def test_photos_of_any_size_are_resized_to_the_towers(encoder: ClipEncoder) -> None:
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    small = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    large, own = encoder.features(images), encoder.features(small)
    assert torch.equal(large.tokens, own.tokens) and torch.equal(large.attributes, own.attributes)
    assert large.tokens.shape == (2, SMALL.tokens, SMALL.feature_width) == (2, 5, 16)


def test_the_pooled_features_are_mean_patch_and_summary(encoder: ClipEncoder) -> None:
    found = encoder.features(torch.rand(2, 3, 64, 64))
    assert torch.allclose(found.pooled, torch.cat([found.tokens[:, :4].mean(1), found.tokens[:, 4]], 1))


def test_a_folder_without_kind_holds_the_embedded_tower(encoder: ClipEncoder, tmp_path: Path) -> None:
    save_part(tmp_path, "clip", encoder, SMALL)
    found, images = load_clip_expert(tmp_path), torch.rand(1, 3, 64, 64)
    assert isinstance(found, ClipEncoder) and found.labelled
    assert torch.equal(found.features(images).tokens, encoder.features(images).tokens)


def test_sizes_are_known_without_the_weights(encoder: ClipEncoder, tmp_path: Path) -> None:
    save_part(tmp_path, "clip", encoder, SMALL)
    (tmp_path / "clip.safetensors").unlink()
    assert clip_width(tmp_path) == 16 and read_clip_config(tmp_path).tokens == 5


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.json").write_text('{"kind": "siglip"}')
    for read in (clip_width, load_clip_expert):
        with pytest.raises(UserError, match=r"clip\.json has kind 'siglip', known is open_clip"):
            read(tmp_path)


def test_no_logits_read_no_attributes() -> None:
    assert read_attributes(None) == {} and len(read_attributes(torch.zeros(1, ATTRIBUTE_LOGITS))) == 46
