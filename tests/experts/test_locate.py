"""Decoding and plumbing of the face locator."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import Frame
from unif2ace_core.experts.locate import (
    STRIDE,
    UNIT,
    Face,
    Locator,
    LocatorConfig,
    LocatorNetwork,
    distinct,
    peaks,
    read_cells,
)


class Oracle(nn.Module):
    """Stands for the network: the brightest red spot of a view is a face of frame size `8 x spot width`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        out = torch.zeros(batch, 6, height // STRIDE, width // STRIDE)
        out[:, 0] = -20
        out[:, 4] = 1
        for row, image in enumerate(images):
            mark = (image[0] > 0.2) & (image[1] < -0.2)
            if mark.sum() < 2:
                continue
            y, x = (v.float().mean().item() + 0.5 for v in torch.nonzero(mark, as_tuple=True))
            size = 8 * mark.sum().item() ** 0.5
            j, i = min(int(x // STRIDE), out.shape[3] - 1), min(int(y // STRIDE), out.shape[2] - 1)
            centre = ((j + 0.5) * STRIDE, (i + 0.5) * STRIDE)
            values = [5, (x - centre[0]) / size, (y - centre[1]) / size, math.log(size / UNIT), 1, 0]
            out[row, :, i, j] = torch.tensor(values)
        return out


def located(size: tuple[int, int], spot: tuple[int, int, int] | None) -> list[Face]:
    """Faces the oracle finds in a black photo with one red square (x, y, width)."""
    image = Image.new("RGB", size)
    if spot:
        x, y, width = spot
        image.paste((255, 0, 0), (x, y, x + width, y + width))
    locator = Locator()
    locator.network = Oracle()  # type: ignore[assignment]
    return locator.find(image)


def test_network_is_small_and_gives_a_cell_per_eight_pixels() -> None:
    network = LocatorNetwork()
    assert sum(p.numel() for p in network.parameters()) < 400_000
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 6, 8, 12)


def test_cells_name_frames_in_input_pixels() -> None:
    out = torch.zeros(1, 6, 2, 3)
    out[0, :, 1, 2] = torch.tensor([2.0, 0.5, -0.25, math.log(2), 0.0, 1.0])
    cell = read_cells(out)[0, 5]
    score = 1 / (1 + math.exp(-2))
    assert cell.tolist() == pytest.approx([score, 20 + 32, 12 - 16, 64, math.pi / 2])


def test_neighbouring_cells_of_one_face_become_one() -> None:
    pair = [[0.9, 50, 50, 40, 0.1], [0.9, 52, 50, 40, 0.3]]
    cells = np.array([*pair, [0.7, 120, 50, 40, 0], [0.2, 9, 9, 40, 0]])
    found = peaks(cells, 0.3)
    assert [round(f.frame.cx) for f in found] == [51, 120]
    assert found[0].frame.angle == pytest.approx(0.2)


def test_angles_are_averaged_across_the_turn() -> None:
    cells = np.array([[0.9, 50, 50, 40, math.pi - 0.1], [0.9, 50, 50, 40, -math.pi + 0.1]])
    assert abs(peaks(cells, 0.3)[0].frame.angle) == pytest.approx(math.pi)


def test_of_faces_on_one_another_the_surest_stays() -> None:
    faces = [Face(Frame(50, 50, 40), 0.6), Face(Frame(55, 50, 44), 0.9), Face(Frame(90, 50, 40), 0.5)]
    assert [f.score for f in distinct(faces)] == [0.9, 0.5]


@pytest.mark.parametrize("size", [(160, 160), (640, 480), (90, 300), (2000, 1500)])
def test_a_frame_is_in_pixels_of_the_photo_whatever_its_size(size: tuple[int, int]) -> None:
    width = max(4, max(size) // 20)
    x, y = size[0] // 2 + width, size[1] // 3
    (face,) = located(size, (x, y, width))
    assert face.frame.cx == pytest.approx(x + width / 2, abs=width / 4)
    assert face.frame.cy == pytest.approx(y + width / 2, abs=width / 4)
    assert face.frame.size == pytest.approx(8 * width, rel=0.3)


def test_nothing_there_is_an_empty_list() -> None:
    assert located((300, 200), None) == []


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (200, 150)])
def test_any_mode_and_size_is_searched(mode: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    assert isinstance(Locator().eval().find(Image.new(mode, size)), list)


def test_saved_locator_finds_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    locator = Locator(LocatorConfig(widths=(8, 8, 8, 8))).eval()
    locator.half().float().save(tmp_path)
    again, view = Locator.load(tmp_path), torch.rand(1, 3, 64, 64)
    assert again.config == locator.config and torch.equal(again.network(view), locator.network(view))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"locator\.json does not exist"):
        Locator.load(tmp_path)
