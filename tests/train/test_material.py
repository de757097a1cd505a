"""What a decoder learns from: made once, redrawn as often as said, the same for a seed.

pytest tests/train/test_material.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unif2ace_core.data.pixels import aligned_pixels, cache_directory
from unif2ace_core.data.sources import read_records
from unif2ace_core.train import material
from unif2ace_core.train.material import MOST_REDRAWN, Maker, drawn_anew, maker
from unif2ace_core.weights.resolve import load_model

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def made(embedded: Path, made_up_faces: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """A maker of the embedded model, in lots of four rows."""
    monkeypatch.setattr(material, "LOT", 4)
    monkeypatch.setattr(material, "BATCH", 2)
    records = [record for record in read_records(made_up_faces) if record.split == "train"]
    loaded = load_model(str(embedded), device="cpu", parts=())
    return maker(loaded, made_up_faces, records, aligned_pixels(made_up_faces, records), 2, 0)


def test_lots_are_made_once_and_cut_to_the_count(made: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made.of_photos(6)
    assert first["codes"].shape == (6, 64) and first["expected"].shape == (6, 64, 13)
    assert first["expected"].abs().max() <= 1

    def nobody(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Maker, "photo_lot", nobody)
    again = made.of_photos(5)
    assert all(torch.equal(again[name], rows[:5]) for name, rows in first.items())


def test_drawings_come_with_what_was_expected_of_them(made: Maker) -> None:
    found = made.of_drawings(3)
    assert found["codes"].shape == (3, 64) and found["expected"].shape == (3, 64, 13)
    assert found["codes"].max() < made.model.config.codes


def test_as_many_codes_are_drawn_anew_as_said_and_the_others_stay(made: Maker) -> None:
    span = made.span(["a smiling woman", "a man"], torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    codes = torch.zeros(2, 64, dtype=torch.long)
    with torch.inference_mode():
        found = drawn_anew(codes, span, torch.tensor([0.0, MOST_REDRAWN]), generator)
        same = drawn_anew(codes, span, torch.zeros(2), generator)
    changed = (found != codes).sum(1).tolist()
    assert changed[0] == 0 and 15 < changed[1] < 50
    assert torch.equal(same, codes)


def test_another_seed_or_other_settings_have_other_lots(made: Maker) -> None:
    others = [
        maker(made.model, made.data, made.records, made.photos, 2, 1),
        maker(made.model, made.data, made.records, made.photos, 3, 0),
        maker(made.model, made.data, made.records[1:], made.photos, 2, 0),
    ]
    assert len({each.drawn_key for each in (made, *others)}) == 4
    assert len({each.key for each in (made, *others)}) == 3  # a photo's codes are not drawn in steps
    for each in (made, others[1]):
        each.of_photos(2)
        each.of_drawings(2)
    assert [len(list(cache_directory().glob(f"{kind}-*-000000-*"))) for kind in ("photos", "drawn")] == [1, 2]


def test_a_damaged_lot_is_made_anew(made: Maker, caplog: pytest.LogCaptureFixture) -> None:
    first = made.of_photos(2)
    (lot,) = cache_directory().glob("photos-*.safetensors")
    lot.write_bytes(lot.read_bytes()[:100])
    again = made.of_photos(2)
    assert "is made anew" in caplog.text
    assert all(torch.equal(again[name], rows) for name, rows in first.items())


def test_a_decoder_that_learns_on_finds_the_lots_and_another_encoder_does_not(made: Maker) -> None:
    codec, keys = made.model.codec, [made.key]
    for name in ("decoder.head.bias", "to_bits.bias"):
        with torch.no_grad():
            codec.state_dict()[name].add_(1)
        keys.append(maker(made.model, made.data, made.records, made.photos, 2, 0).key)
    assert keys[0] == keys[1] != keys[2]
