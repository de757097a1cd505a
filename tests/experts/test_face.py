"""The embedded face encoder, and which kind of expert a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.experts.face import FaceConfig, FaceEncoder, cut_region, face_width, load_face_expert

SMALL = FaceConfig(pixels=32, widths=(8, 16, 16), depths=(1, 1, 1), neck=4, dimension=12)


@pytest.fixture
def encoder() -> FaceEncoder:
    torch.manual_seed(0)
    return FaceEncoder(SMALL).eval()


def test_default_encoder_stays_small() -> None:
    assert sum(p.numel() for p in FaceEncoder().parameters()) < 1_200_000


@pytest.mark.parametrize("side", [40, 128, 200])
def test_any_crop_size_gives_one_descriptor(encoder: FaceEncoder, side: int) -> None:
    assert encoder(torch.zeros(2, 3, side, side)).shape == (2, encoder.dimension)


def test_a_descriptor_does_not_depend_on_its_batch(encoder: FaceEncoder) -> None:
    images = torch.rand(3, 3, 64, 64)
    assert torch.allclose(encoder(images)[1:2], encoder(images[1:2]), atol=1e-5)


def test_region_is_the_square_asked_for() -> None:
    images = torch.zeros(1, 3, 100, 100)
    images[:, :, 40:60, 40:60] = 1
    assert cut_region(images, 0.2, 0.5, 10).min() == 1 and cut_region(images, 0.4, 0.5, 10).min() == 0


def test_distance_is_on_the_teachers_scale(encoder: FaceEncoder) -> None:
    a, b = torch.zeros(12), torch.ones(12)
    assert encoder.distance(a, b).item() == pytest.approx(SMALL.scale * 12**0.5)


def test_saved_encoder_is_read_back(encoder: FaceEncoder, tmp_path: Path) -> None:
    encoder.half().float().save(tmp_path)
    again, images = FaceEncoder.load(tmp_path), torch.rand(1, 3, 64, 64)
    assert again.config == SMALL and torch.equal(again(images), encoder(images))
    assert not any(p.requires_grad for p in again.parameters())


def test_missing_or_foreign_files_are_named(encoder: FaceEncoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"face\.json does not exist"):
        FaceEncoder.load(tmp_path)
    encoder.save(tmp_path)
    (tmp_path / "face.json").write_text("[]")
    with pytest.raises(UserError, match="holds no JSON object"):
        FaceEncoder.load(tmp_path)


def test_the_width_is_known_without_the_weights(encoder: FaceEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    (tmp_path / "face.safetensors").unlink()
    assert face_width(tmp_path) == 12


def test_a_folder_without_kind_holds_the_embedded_encoder(encoder: FaceEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    found = load_face_expert(tmp_path)
    assert isinstance(found, FaceEncoder) and found.config == SMALL


def test_an_unknown_kind_is_named(encoder: FaceEncoder, tmp_path: Path) -> None:
    (tmp_path / "face.json").write_text('{"kind": "arcface"}')
    for read in (face_width, load_face_expert):
        with pytest.raises(UserError, match="kind 'arcface', known is insightface"):
            read(tmp_path)
