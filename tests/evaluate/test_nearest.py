"""Suite `nearest`: copies are told from new faces, and the sheet shows faces over their photos.

pytest tests/evaluate/test_nearest.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unif2ace_core.evaluate.nearest import measure


def photos(count: int, seed: int) -> Tensor:
    return torch.randint(0, 255, (count, 4, 4, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def features(images: Tensor) -> Tensor:
    return images.flatten(1)


def test_a_copying_generator_is_nearer_than_photos_that_were_never_seen() -> None:
    train = photos(200, 0)
    honest = measure(photos(100, 1), photos(100, 2), train.numpy(), features)
    copied = measure(train[:100], photos(100, 2), train.numpy(), features)
    assert copied["generated_to_train"]["least"] == 0 and copied["share_nearer"] == 1.0
    assert honest["share_nearer"] < 0.2 and honest["generated_to_train"]["median"] > 0
    assert copied["held_out_to_train"] == honest["held_out_to_train"]


def test_the_sheet_shows_each_face_over_its_nearest_photo(tmp_path: Path) -> None:
    train, path = photos(30, 0), tmp_path / "sheet.png"
    measure(train[[3, 8, 5, 1, 2, 4, 9]], photos(20, 2), train.numpy(), features, path)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * 8, 6 * 4, 3)
    assert (sheet[:4] == sheet[4:8]).all() and (sheet[:4, 4:8] == train[8].numpy()).all()
    assert not sheet[8:, 4:].any()  # the seventh stands alone in its row
