"""Descriptions say what the labels say and the CLIP expert sees: labels it is unsure of are left out.

pytest tests/train/test_sure.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, attribute_slices
from unif2ace_core.train.sure import SureLabels
from unif2ace_core.weights.parts import save_part

LABELS = {"Smiling": "yes", "Eyeglasses": "no", "Wearing_Hat": "yes", "Emotion": "happiness"}


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """A tower whose head says, of any photo: smiling surely, glasses hardly, a hat as likely as not, happy."""
    config = ClipConfig(pixels=32, widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), neck=4, embed=8)
    encoder = ClipEncoder(config)
    parts = attribute_slices()
    with torch.no_grad():
        encoder.attributes.weight.zero_()
        encoder.attributes.bias.zero_()
        encoder.attributes.bias[parts["Smiling"]] = 3.0
        encoder.attributes.bias[parts["Eyeglasses"]] = -3.0
        encoder.attributes.bias[parts["Emotion"].start + 1] = 5.0
    save_part(tmp_path, "clip", encoder, config)
    return tmp_path


FEATURES = np.zeros((2, 2, 2, 16), dtype=np.float16)  # two photos, two views, a patch and the summary


def test_what_the_expert_is_sure_of_stays_and_nothing_else(tower: Path) -> None:
    kept = SureLabels(tower, FEATURES, 0.6).keep(1, LABELS)
    assert kept == {"Smiling": "yes", "Eyeglasses": "no", "Emotion": "happiness"}


def test_labels_that_the_expert_contradicts_are_left_out(tower: Path) -> None:
    assert SureLabels(tower, FEATURES, 0.6).keep(0, {"Smiling": "no", "Eyeglasses": "yes"}) == {}


def test_at_one_half_an_even_chance_is_enough(tower: Path) -> None:
    assert "Wearing_Hat" in SureLabels(tower, FEATURES, 0.5).keep(0, LABELS)


def test_without_cached_features_it_says_what_to_do(tower: Path) -> None:
    with pytest.raises(UserError, match="leave clip out of train_experts"):
        SureLabels(tower, None, 0.6)
