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


def measured(images: Tensor, train: Tensor, **options: Path) -> dict:
    generator = torch.Generator().manual_seed(0)
    return measure(images, photos(150, 2), train.numpy(), features, lambda part: part, generator, **options)


def test_copies_are_told_from_faces_that_were_never_seen() -> None:
    train = photos(400, 0)
    honest, copied = measured(photos(150, 1), train), measured(train[:150], train)
    assert copied["generated_to_train"]["least"] == 0 and copied["share_nearer"]["share"] == 1.0
    low, high = honest["share_nearer"]["interval"]
    assert low < 0.05 < high and honest["copies_nearer"]["share"] == 1.0
    assert copied["held_out_to_train"] == honest["held_out_to_train"]


def test_few_faces_have_no_share() -> None:
    assert measured(photos(20, 1), photos(400, 0))["share_nearer"] == {"share": None, "interval": [None, None]}


def test_the_sheet_shows_each_face_over_its_nearest_photo(tmp_path: Path) -> None:
    train, path = photos(30, 0), tmp_path / "sheet.png"
    measured(train[[3, 8, 5, 1, 2, 4, 9]], train, sheet=path)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * 8, 6 * 4, 3)
    assert (sheet[:4] == sheet[4:8]).all() and (sheet[:4, 4:8] == train[8].numpy()).all()
    assert not sheet[8:, 4:].any()  # the seventh stands alone in its row
