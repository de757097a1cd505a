"""Descriptions say what the labels say and the CLIP expert sees: labels it is unsure of are left out.

pytest tests/train/test_sure.py
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, attribute_slices
from unif2ace_core.train.mixture import Mixture
from unif2ace_core.train.sure import SureLabels, attribute_head
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
    kept = SureLabels(attribute_head(tower, ()), FEATURES, 0.6).keep(1, LABELS)
    assert kept == {"Smiling": "yes", "Eyeglasses": "no", "Emotion": "happiness"}


def test_labels_that_the_expert_contradicts_are_left_out(tower: Path) -> None:
    assert SureLabels(attribute_head(tower, ()), FEATURES, 0.6).keep(0, {"Smiling": "no", "Eyeglasses": "yes"}) == {}


def test_at_one_half_an_even_chance_is_enough(tower: Path) -> None:
    assert "Wearing_Hat" in SureLabels(attribute_head(tower, ()), FEATURES, 0.5).keep(0, LABELS)


def test_without_a_frozen_tower_that_knows_attributes_it_says_what_to_do(tower: Path) -> None:
    with pytest.raises(UserError, match="leave clip out of train_experts"):
        attribute_head(tower, ("clip",))
    (tower / "clip.json").write_text('{"kind": "open_clip"}')
    with pytest.raises(UserError, match="which the published tower"):
        attribute_head(tower, ())


def test_an_age_is_told_only_where_its_group_is_seen(tower: Path) -> None:
    mixture = object.__new__(Mixture)
    labels = {"Male": "yes", "Age_Group": "senior"}
    mixture.records = [FaceRecord("mine", "0.png", "train", labels, 71.0, None)]
    mixture.sure = SureLabels(attribute_head(tower, ()), FEATURES, 0.9)
    texts = {mixture.described(0, random.Random(seed))[1] for seed in range(20)}
    assert not any("71" in text for text in texts)
    mixture.sure = None
    assert any("71" in mixture.described(0, random.Random(seed))[1] for seed in range(20))
