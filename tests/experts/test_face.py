"""The embedded face encoder and the insightface adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.experts.face import FaceConfig, FaceEncoder, InsightFaceEncoder, cut_region

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


def test_insightface_adapter_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        InsightFaceEncoder(tmp_path / "glintr100.onnx")


def _recognition_model(path: Path) -> None:
    """A recognition model in name only: mean over pixels of 16 channels, as ONNX."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = torch.randn(16, 3, 1, 1, generator=torch.Generator().manual_seed(0)).numpy()
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "recognition",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, 3, 112, 112])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 8
    onnx.save(model, path)


@pytest.mark.slow
def test_insightface_adapter_reads_a_users_model(tmp_path: Path) -> None:
    pytest.importorskip("insightface")
    _recognition_model(tmp_path / "tiny.onnx")
    encoder = InsightFaceEncoder(tmp_path / "tiny.onnx")
    red, blue = torch.full((2, 3, 128, 128), -1.0).unbind(0)
    red[0], blue[2] = 1, 1
    out = encoder(torch.stack([red, blue]))
    assert out.shape == (2, encoder.dimension) and torch.allclose(out.norm(dim=1), torch.ones(2), atol=1e-5)
    weight = torch.randn(16, 3, 1, 1, generator=torch.Generator().manual_seed(0))[..., 0, 0]
    expected = torch.nn.functional.normalize(weight @ torch.tensor([1.0, -1, -1]), dim=0)
    assert torch.allclose(out[0], expected, atol=0.02)  # RGB reaches the model as RGB


@pytest.mark.slow
def test_insightface_adapter_refuses_what_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("insightface")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be read"):
        InsightFaceEncoder(tmp_path / "bad.onnx")
