"""A user's recognition model as the face expert: found, described, read, and refused in words."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import expert_toys as toys
import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.experts import insightface_model
from unif2ace_core.experts.face import FaceConfig, FaceEncoder, face_width, load_face_expert
from unif2ace_core.experts.insightface_model import InsightFaceEncoder, make_insightface

pytest.importorskip("insightface")
RED, BLUE = torch.full((2, 3, 128, 128), -1.0).unbind(0)
RED[0], BLUE[2] = 1, 1


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return toys.save_recognition(tmp_path / "models" / "tiny.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        InsightFaceEncoder(tmp_path / "glintr100.onnx")


def test_a_users_model_reads_colours_as_they_are(model: Path) -> None:
    encoder = InsightFaceEncoder(model)
    out = encoder(torch.stack([RED, BLUE]))
    assert out.shape == (2, encoder.dimension) and torch.allclose(out.norm(dim=1), torch.ones(2), atol=1e-5)
    weight = toys.recognition_weight()[..., 0, 0]
    expected = torch.nn.functional.normalize(weight @ torch.tensor([1.0, -1, -1]), dim=0)
    assert torch.allclose(out[0], expected, atol=0.02)  # RGB reaches the model as RGB


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be read"):
        InsightFaceEncoder(tmp_path / "bad.onnx")
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"is no \.onnx file"):
        InsightFaceEncoder(tmp_path / "model.bin")


@pytest.mark.parametrize("pixels", [192, 96, 50])
def test_a_model_for_another_task_is_refused(tmp_path: Path, pixels: int) -> None:
    with pytest.raises(UserError, match=r"is not a recognition model; give for example glintr100\.onnx"):
        InsightFaceEncoder(toys.save_recognition(tmp_path / "landmarks.onnx", pixels=pixels))


def test_a_model_for_one_image_at_a_time_takes_batches(model: Path, tmp_path: Path) -> None:
    single = InsightFaceEncoder(toys.save_recognition(tmp_path / "one.onnx", batch=1))
    images = torch.rand(3, 3, 40, 40) * 2 - 1
    assert torch.allclose(single(images), InsightFaceEncoder(model)(images), atol=1e-6)


def test_face_json_names_the_file_and_copies_nothing(model: Path, tmp_path: Path) -> None:
    made = make_insightface(str(model), tmp_path / "face")
    assert [file.name for file in (tmp_path / "face").iterdir()] == ["face.json"]
    assert json.loads((tmp_path / "face" / "face.json").read_text()) == {
        "kind": "insightface",
        "path": str(model),
        "bytes": model.stat().st_size,
        "pixels": 112,
        "dimension": 10,
    }
    assert made.dimension == face_width(tmp_path / "face") == 10


def test_the_expert_of_a_folder_computes_what_its_file_does(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path / "face")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.equal(load_face_expert(tmp_path / "face")(images), InsightFaceEncoder(model)(images))


def test_the_width_is_known_without_the_file(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path)
    model.unlink()
    assert face_width(tmp_path) == 10


def test_a_path_may_be_relative_to_its_folder(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path / "face")
    values = json.loads((tmp_path / "face" / "face.json").read_text())
    (tmp_path / "face" / "face.json").write_text(json.dumps({**values, "path": "../models/tiny.onnx"}))
    assert load_face_expert(tmp_path / "face")(RED.unsqueeze(0)).shape == (1, 10)


def test_a_file_that_is_gone_or_another_is_named(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path / "face")
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"tiny\.onnx is not the file that .*face\.json was made for; point to it"):
        load_face_expert(tmp_path / "face")
    model.unlink()
    with pytest.raises(UserError, match=r"face\.json names .*tiny\.onnx, which does not exist; point to it"):
        load_face_expert(tmp_path / "face")


def test_a_model_of_another_width_than_stated_is_named(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path / "face")
    values = json.loads((tmp_path / "face" / "face.json").read_text())
    (tmp_path / "face" / "face.json").write_text(json.dumps({**values, "dimension": 512}))
    with pytest.raises(UserError, match=r"descriptors of 10 from 112 pixels, .* states 512 from 112"):
        load_face_expert(tmp_path / "face")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"dimension": 0}, "width 0"), ({"bytes": "many"}, "does not fit"), ({"colour": 1}, "unknown field 'colour'")],
)
def test_a_damaged_face_json_is_named(model: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    make_insightface(str(model), tmp_path / "face")
    values = json.loads((tmp_path / "face" / "face.json").read_text())
    (tmp_path / "face" / "face.json").write_text(json.dumps(values | changes))
    with pytest.raises(UserError, match=words):
        face_width(tmp_path / "face")


def test_an_expert_in_the_way_is_replaced_by_force_alone(model: Path, tmp_path: Path) -> None:
    FaceEncoder(FaceConfig(widths=(8, 8, 8), neck=4)).save(tmp_path / "face")
    with pytest.raises(UserError, match=r"face\.json exists; add --force"):
        make_insightface(str(model), tmp_path / "face")
    make_insightface(str(model), tmp_path / "face", force=True)
    assert isinstance(load_face_expert(tmp_path / "face"), InsightFaceEncoder)
    assert not (tmp_path / "face" / "face.safetensors").exists()


def test_a_folder_of_models_gives_its_recognition_model(model: Path, tmp_path: Path) -> None:
    toys.save_recognition(model.parent / "landmarks.onnx", dimension=500, pixels=192)  # the larger file
    assert make_insightface(str(model.parent), tmp_path / "face").path == str(model)
    model.unlink()
    with pytest.raises(UserError, match=r"holds no recognition model of insightface \(1 \.onnx files\)"):
        make_insightface(str(model.parent), tmp_path / "face", force=True)


def test_a_model_pack_is_taken_from_insightfaces_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insightface_model, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "models")
    assert make_insightface("models", tmp_path / "face").path == str(model)


def test_a_pack_that_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import insightface.utils

    asked = []

    def refuse(kind: str, name: str) -> str:
        asked.append((kind, name))
        print("download_path: somewhere")
        raise RuntimeError("Failed downloading url somewhere")

    monkeypatch.setattr(insightface.utils, "ensure_available", refuse)
    monkeypatch.setattr(insightface_model, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"'antelopev2' cannot be fetched \(Failed downloading url somewhere\);"):
        make_insightface("antelopev2", tmp_path / "face")
    assert asked == [("models", "antelopev2")]
    with pytest.raises(UserError, match=r"no file 'antelopev9'; give an \.onnx file, or a model pack: antelopev2, "):
        make_insightface("antelopev9", tmp_path / "face")
    assert len(asked) == 1  # a misspelt name does not reach the network
    with pytest.raises(UserError, match=r"a\.onnx does not exist"):
        make_insightface("a.onnx", tmp_path / "face")
    assert len(asked) == 1


def test_the_licence_is_told_once_where_the_expert_is_made(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    caplog.set_level(logging.INFO, "unif2ace_core")
    make_insightface(str(model), tmp_path / "face")
    load_face_expert(tmp_path / "face")
    told = {id(record) for record in caplog.records if "for non-commercial research only" in record.getMessage()}
    assert len(told) == 1  # a record, which more than one handler may have caught


def test_recipe_face_does_not_start_from_a_published_model(model: Path, tmp_path: Path) -> None:
    make_insightface(str(model), tmp_path / "face")
    with pytest.raises(UserError, match="give an export of recipe face"):
        FaceEncoder.load(tmp_path / "face")
