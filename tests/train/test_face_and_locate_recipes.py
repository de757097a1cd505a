"""The recipes `face` and `locate` from a data folder to exported files, on made-up photos."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unif2ace_core.errors import UserError
from unif2ace_core.experts.face import FaceEncoder
from unif2ace_core.experts.locate import Locator
from unif2ace_core.train.loop import Progress
from unif2ace_core.train.recipes.face import augment
from unif2ace_core.train.recipes.locate import read_bank
from unif2ace_core.train.run import run

QUICK = {"steps": "2", "batch_size": "4", "photos": "8", "threads": "1", "eval_every": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photos of noise, two a person, six of them for training, with landmarks and descriptors."""
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(12)]
    rows = [f"{name},{'train' if i < 6 else 'val'},p{i // 2}" for i, name in enumerate(names)]
    (tmp_path / "lfw.csv").write_text("\n".join(["file,split,person", *rows]) + "\n")
    with zipfile.ZipFile(tmp_path / "lfw.zip", "w") as archive:
        for name in names:
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(stream, "png")
            archive.writestr(name, stream.getvalue())
    face = np.array([[44, 30], [36, 30], [20, 30], [28, 30], [32, 42]], dtype=np.float32)
    points, hit = np.repeat(face[None], 12, 0), np.ones(12, np.int8)
    np.savez(tmp_path / "landmarks.npz", lfw_file=names, lfw_points=points, lfw_hit=hit)
    descriptors = rng.normal(size=(12, 128)).astype(np.float32)
    np.savez(tmp_path / "face_descriptors.npz", lfw_file=names, lfw=descriptors)
    return tmp_path


def test_face_recipe_trains_evaluates_and_exports(folder: Path) -> None:
    seen: list[Progress] = []
    metrics = run("face", folder, folder / "out", QUICK, on_progress=seen.append)
    assert {"cosine", "verification", "teacher_verification"} <= metrics.keys()
    assert all(math.isfinite(p.loss) for p in seen)
    encoder = FaceEncoder.load(folder / "out" / "export")
    assert encoder(torch.zeros(1, 3, 128, 128)).shape == (1, 128)


def test_locate_recipe_trains_evaluates_and_exports(folder: Path) -> None:
    metrics = run("locate", folder, folder / "out", {**QUICK, "val_scenes": "3"})
    assert 0 <= metrics["recall"] <= 1 and metrics["photo_recall"] >= 0
    assert Locator.load(folder / "out" / "export").find(Image.new("RGB", (50, 40))) == []


@pytest.mark.parametrize("recipe", ["face", "locate"])
def test_same_seed_trains_the_same_weights(folder: Path, recipe: str) -> None:
    files = []
    for name in ("a", "b"):
        extra = {"val_scenes": "1"} if recipe == "locate" else {}
        run(recipe, folder, folder / name, {**QUICK, **extra})
        files.append(next((folder / name / "export").glob("*.safetensors")).read_bytes())
    assert files[0] == files[1]


def test_face_recipe_without_descriptors_says_so(folder: Path) -> None:
    (folder / "face_descriptors.npz").unlink()
    with pytest.raises(UserError, match=r"face_descriptors\.npz"):
        run("face", folder, folder / "out", QUICK)


def test_bank_holds_only_its_split_with_frames_in_photo_sides(folder: Path) -> None:
    bank = read_bank(folder, "train", 100)
    assert bank.photos.shape == (6, 3, 128, 128) and not bank.aligned.any()
    assert bank.frames[0, 2].item() == pytest.approx(64 / 64, rel=1e-3)  # eyes 16 of 64 pixels apart


def test_augmented_faces_keep_range_and_depend_on_the_seed_alone() -> None:
    faces = torch.randint(0, 255, (5, 3, 40, 40), dtype=torch.uint8)
    a, b = (augment(faces, 32, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (5, 3, 32, 32) and a.abs().max() <= 1
