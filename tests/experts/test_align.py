"""Geometry of the training frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from unif2ace_core.experts.align import (
    EYE_HEIGHT,
    EYE_WIDTH,
    Frame,
    crop,
    frame_from_landmarks,
    read_frames,
    whole_image,
)


def dotted(size: tuple[int, int], *points: tuple[float, float]) -> Image.Image:
    """White dots of radius 5 on black."""
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for x, y in points:
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=(255, 255, 255))
    return image


def centroid(array: np.ndarray) -> tuple[float, float]:
    """Brightness centroid x, y."""
    y, x = np.mgrid[: array.shape[0], : array.shape[1]] + 0.5
    return float((x * array).sum() / array.sum()), float((y * array).sum() / array.sum())


@pytest.mark.parametrize("tilt", [-0.6, -0.2, 0.0, 0.3, 0.7])
@pytest.mark.parametrize("distance", [30.0, 110.0])
def test_eyes_of_a_crop_are_a_quarter_apart_at_48_percent(tilt: float, distance: float) -> None:
    dx, dy = math.cos(tilt) * distance / 2, math.sin(tilt) * distance / 2
    left, right = (300 - dx, 280 - dy), (300 + dx, 280 + dy)
    view = np.asarray(crop(dotted((600, 600), left, right), frame_from_landmarks(left, right), 128))[..., 0]
    (lx, ly), (rx, ry) = centroid(view[:, :64]), centroid(view[:, 64:])
    assert (rx + 64 - lx) == pytest.approx(EYE_WIDTH * 128, abs=1.0)
    assert ly == pytest.approx(EYE_HEIGHT * 128, abs=1.0) and ry == pytest.approx(ly, abs=1.0)
    assert (lx + rx + 64) / 2 == pytest.approx(64, abs=0.7)


def test_frontal_nose_changes_nothing_and_a_turned_head_is_not_enlarged() -> None:
    frontal = frame_from_landmarks((40, 50), (72, 50), (56, 75))
    assert frontal == frame_from_landmarks((40, 50), (72, 50))
    turned = frame_from_landmarks((40, 50), (64, 50), (64, 75))  # eyes nearer, nose under one
    assert turned.size == pytest.approx(frontal.size, rel=0.1)


def test_coinciding_eyes_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        frame_from_landmarks((3, 4), (3, 4))


def test_identity_frame_returns_the_image() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert np.array_equal(crop(image, whole_image(64, 64), 64), image)


def test_downscaling_does_not_alias() -> None:
    checks = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    for angle in (0.0, 0.2):
        view = np.asarray(crop(Image.fromarray(checks), Frame(512, 512, 600, angle), 64), dtype=float)
        assert view.std() < 8 and view.mean() == pytest.approx(127.5, abs=4)


def test_outside_the_image_is_never_black() -> None:
    image = Image.new("RGB", (100, 80), (200, 150, 100))
    for frame in (Frame(0, 0, 150, 0.4), Frame(99, 79, 400), Frame(50, 40, 1000, 1.0), Frame(-300, 900, 50)):
        assert np.abs(np.asarray(crop(image, frame, 64), dtype=int) - (200, 150, 100)).max() <= 3


@given(
    st.floats(-500, 1500), st.floats(-500, 1500), st.floats(0.5, 5000), st.floats(-3.2, 3.2),
    st.integers(1, 60), st.integers(1, 60),
)  # fmt: skip
def test_any_frame_of_any_image_gives_the_pixels_asked_for(
    x: float, y: float, size: float, angle: float, width: int, height: int
) -> None:
    view = crop(Image.new("RGB", (width, height), (9, 9, 9)), Frame(x, y, size, angle), 16)
    assert view.size == (16, 16)


def test_a_frame_found_in_a_crop_composes_to_the_source() -> None:
    outer, inner = Frame(300, 200, 160, 0.3), Frame(70, 40, 50, -0.1)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    image = image.resize((600, 400), Image.Resampling.BICUBIC)
    twice = np.asarray(crop(crop(image, outer, 320), Frame(140, 80, 100, -0.1), 64), dtype=int)
    once = np.asarray(crop(image, outer.compose(inner, 160), 64), dtype=int)
    assert np.abs(twice - once).mean() < 2


def test_corners_turn_with_the_angle() -> None:
    corners = Frame(10, 10, 2 * math.sqrt(2), math.pi / 4).corners()
    assert corners == pytest.approx(np.array([[10, 8], [12, 10], [10, 12], [8, 10]]))


def test_table_uses_landmarks_then_the_median_then_the_whole_image(tmp_path) -> None:
    face = [[88, 60], [76, 60], [42, 60], [54, 60], [65, 80]]
    np.savez(
        tmp_path / "landmarks.npz",
        lfw_file=np.array(["a.webp", "b.webp"]), lfw_points=np.array([face, np.zeros((5, 2))]),
        lfw_hit=np.array([1, 0]),
    )  # fmt: skip
    table = read_frames(tmp_path)
    found = table.frame("lfw", "a.webp", 128, 128)
    assert found.size == pytest.approx(4 * 34) and found.cx == pytest.approx(65.5)
    assert table.frame("lfw", "b.webp", 128, 128).size == found.size
    assert table.frame("ffhq", "c.jpg", 128, 128) == Frame(64, 64, 128)
