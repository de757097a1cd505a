"""The cache of aligned photos: made once, and made anew when a photo or the landmarks change."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unif2ace_core.data.pixels import aligned_pixels, opened_photo
from unif2ace_core.data.sources import read_records
from unif2ace_core.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two grey photos as a source, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data"
    (data / "mine").mkdir(parents=True)
    (data / "mine.csv").write_text("file,split\na.png,train\nb.png,train\n")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16), (100, 100, 100)).save(data / "mine" / name)
    return data


def test_the_second_call_opens_the_same_array(folder: Path, tmp_path: Path) -> None:
    records = read_records(folder)
    first, second = (aligned_pixels(folder, records, 8) for _ in range(2))
    assert first.shape == (2, 8, 8, 3) and np.array_equal(first, second)
    assert len(list((tmp_path / "cache" / "unif2ace").glob("*.npy"))) == 1


def test_a_replaced_photo_is_read_again(folder: Path) -> None:
    records = read_records(folder)
    before = np.array(aligned_pixels(folder, records, 8))
    Image.new("RGB", (16, 16), (200, 0, 0)).save(folder / "mine" / "new.png")
    (folder / "mine" / "new.png").replace(folder / "mine" / "a.png")
    after = aligned_pixels(folder, records, 8)
    assert not np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])


def test_what_is_no_photo_is_named_without_an_address_and_a_bomb_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no image \(not an image\); 'unif2ace data check' names it"):
        opened_photo(b"nonsense")
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="decompression bomb"):
        opened_photo(stream.getvalue())
