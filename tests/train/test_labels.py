"""What a tower learns of labels: factors weigh categories, and photos are spoiled the way the world does.

pytest tests/train/test_labels.py
"""

from __future__ import annotations

import pytest
import torch

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.augment import augment, dim
from unif2ace_core.data.labels import attribute_loss
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ATTRIBUTE_LOGITS, attribute_slices
from unif2ace_core.train.recipes.clip import ClipTrainConfig, label_factors
from unif2ace_core.train.recipes.reader import ReaderTrainConfig

COLUMN = {attribute.name: index for index, attribute in enumerate(SCHEMA)}


def labelled(name: str, value: int) -> torch.Tensor:
    """(1, 46) labels of which one is known."""
    values = torch.full((1, len(SCHEMA)), -1)
    values[0, COLUMN[name]] = value
    return values


@pytest.mark.parametrize("name", ["Wearing_Hat", "Emotion"])
def test_a_factor_scales_the_loss_and_gradient_of_its_category_alone(name: str) -> None:
    logits, unknown = torch.randn(1, ATTRIBUTE_LOGITS), torch.tensor([float("nan")])
    plain, _ = attribute_loss(logits, torch.zeros(1), labelled(name, 1), unknown)
    for factors, ratio in (({name: 3.0}, 3), ({"Bangs": 3.0}, 1)):
        lifted, _ = attribute_loss(logits, torch.zeros(1), labelled(name, 1), unknown, factors)
        torch.testing.assert_close(lifted, ratio * plain)


def test_factors_name_any_category() -> None:
    assert label_factors(("Emotion:4", "Wearing_Hat:2")) == {"Emotion": 4.0, "Wearing_Hat": 2.0}
    assert "Emotion" in attribute_slices()


@pytest.mark.parametrize("config", [ClipTrainConfig, ReaderTrainConfig])
@pytest.mark.parametrize("word", ["Emotion", "Emotion:0", "Emotion:much", "Ears:2"])
def test_a_bad_factor_is_refused_by_name(config: type, word: str) -> None:
    with pytest.raises(UserError, match=f"learn_more={word} is no attribute with a factor"):
        config(learn_more=(word,))


def test_an_attribute_has_one_factor() -> None:
    with pytest.raises(UserError, match="learn_more has Bangs twice"):
        label_factors(("Bangs:2", "Bangs:3"))


def test_a_share_of_photos_is_dark_and_the_others_stay() -> None:
    images = torch.rand(400, 3, 4, 4)  # upper half of [-1, 1]
    dimmed = dim(images.clone(), torch.Generator().manual_seed(0), share=0.25)
    darker = ((dimmed + 1) / (images + 1)).mean((1, 2, 3))
    assert darker.min() >= 0.19 and darker.max() <= 1.01
    assert 0.18 < (darker < 0.99).float().mean() < 0.32


def test_augmented_photos_keep_range_and_depend_on_the_seed_alone() -> None:
    images = torch.rand(16, 3, 32, 32) * 2 - 1
    a, b = (augment(images.clone(), torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b) and a.min() >= -1.01 and a.max() <= 1.01
