"""Scenes for the face locator and the loss on them."""

from __future__ import annotations

import math

import pytest
import torch

from unif2ace_core.experts.align import Frame
from unif2ace_core.experts.locate import read_cells
from unif2ace_core.train.recipes.face import person_pairs, verification
from unif2ace_core.train.recipes.locate import frame_errors, locator_loss, overlap, targets
from unif2ace_core.train.scenes import BACKGROUNDS, LAYERS, Draw, FaceBank, Scenes, _sample, _sampling, scenes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def bank() -> FaceBank:
    """Photos with a white dot in the middle of their frame, which is off-centre, small and turned."""
    photos = torch.zeros(6, 3, 64, 64, dtype=torch.uint8)
    photos[:, :, 38:42, 22:26] = 255
    frames = torch.tensor([[24 / 64, 40 / 64, 0.5, 0.2]]).repeat(6, 1)
    return FaceBank(photos, frames, torch.ones(6, dtype=torch.bool))


def test_same_seed_same_scenes_and_another_seed_others(bank: FaceBank) -> None:
    a, b, c = (scenes(bank, 4, 96, generator(s)) for s in (0, 0, 1))
    assert torch.equal(a.images, b.images) and torch.equal(a.frames, b.frames)
    assert not torch.equal(a.images, c.images)


def test_scenes_are_finite_images_in_range(bank: FaceBank) -> None:
    batch = scenes(bank, 40, 96, generator(3))
    assert batch.images.shape == (40, 3, 96, 96) and batch.frames.shape == (40, LAYERS, 4)
    assert batch.images.isfinite().all() and batch.images.abs().max() <= 1
    assert batch.present.any() and not batch.present.all()


def test_faces_of_a_scene_keep_apart_and_in_view(bank: FaceBank) -> None:
    batch = scenes(bank, 60, 160, generator(4))
    for frames, present in zip(batch.frames, batch.present, strict=True):
        true = frames[present]
        assert ((true[:, :2] >= 0) & (true[:, :2] <= 160)).all()
        for i, a in enumerate(true):
            assert all((a[:2] - b[:2]).norm() > 0.4 * (a[2] + b[2]) for b in true[i + 1 :])


def test_without_faces_none_is_present(bank: FaceBank) -> None:
    assert not scenes(bank, 8, 64, generator(), faces=False).present.any()


@pytest.mark.parametrize("make", BACKGROUNDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [64, 100])
def test_every_background_fills_the_canvas(bank: FaceBank, make, size: int) -> None:
    assert make(3, size, bank, Draw(generator())).shape == (3, 3, size, size)


def test_a_pasted_frame_lies_where_the_label_says(bank: FaceBank) -> None:
    target = torch.tensor([[70.0, 40.0, 60.0, -0.4]]).repeat(6, 1)
    theta = _sampling(bank.frames, target, 128)
    seen, _ = _sample(bank.photos.float() / 255, theta, 128, torch.zeros(6))
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    weight = seen[0, 0] / seen[0, 0].sum()
    assert (x * weight).sum().item() == pytest.approx(70, abs=0.3)
    assert (y * weight).sum().item() == pytest.approx(40, abs=0.3)
    # the dot has 4 of the frame's 32 pixels, and of the canvas accordingly
    assert seen[0, 0].sum().item() == pytest.approx((60 / 32 * 4) ** 2, rel=0.1)


def _one(frame: tuple[float, float, float, float]) -> Scenes:
    present = torch.zeros(1, LAYERS, dtype=torch.bool)
    present[0, 1] = True
    frames = torch.zeros(1, LAYERS, 4)
    frames[0, 1] = torch.tensor(frame)
    return Scenes(torch.zeros(1, 3, 160, 160), frames, present)


@pytest.mark.parametrize("frame", [(83.0, 61.0, 13.0, 0.3), (40.0, 100.0, 150.0, -0.6)])
def test_perfect_outputs_decode_to_the_truth_and_cost_nothing(frame) -> None:
    batch = _one(frame)
    positive, _, values = targets(batch, 20)
    assert positive.sum() >= 1
    outputs = torch.cat([(positive * 40 - 20)[..., None], values], -1).transpose(1, 2).reshape(1, 6, 20, 20)
    loss, _ = locator_loss(outputs, batch, 4.0)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    for cell in read_cells(outputs)[0][positive[0] > 0]:
        assert cell[1:].tolist() == pytest.approx(frame, abs=1e-2)


def test_a_scene_without_faces_has_no_positive_cell() -> None:
    batch = _one((80, 80, 40, 0))
    batch.present[:] = False
    positive, weight, values = targets(batch, 20)
    assert positive.sum() == 0 and weight.min() == 1 and values.isfinite().all()
    loss, _ = locator_loss(torch.zeros(1, 6, 20, 20), batch, 4.0)
    assert loss.isfinite()


def test_overlap_and_errors_of_frames() -> None:
    a = Frame(50, 50, 20, 0.1)
    assert overlap(a, a) == 1 and overlap(a, Frame(90, 50, 20)) == 0
    centre, size, angle = frame_errors(Frame(53, 54, 22, 0.1 + 2 * math.pi), a)
    assert (centre, size, angle) == pytest.approx((0.25, 0.1, 0), abs=1e-6)


def test_verification_finds_the_separating_threshold() -> None:
    import numpy as np

    same = np.arange(100) % 3 == 0
    accuracy, threshold = verification(np.where(same, 0.3, 0.8), same)
    assert accuracy == 1 and 0.3 < threshold < 0.8


def test_pairs_are_half_of_one_person() -> None:
    pairs, same = person_pairs(["a", "a", "b", "b", "c", None], 10)
    assert same.sum() == 2 and (~same).sum() == 2 and 5 not in pairs
