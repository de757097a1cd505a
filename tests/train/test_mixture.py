"""Batches hold what their settings say.

pytest tests/train/test_mixture.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.diffusion.samplers import fixed_rank
from unif2ace_core.errors import UserError
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet
from unif2ace_core.train.mixture import Mixture, MixtureConfig

PLAIN = {"Male": "no", "Smiling": "yes", "Wearing_Hat": "no"}
ROWS = 20  # every fifth person wears a hat


def mixture(config: ModelConfig, settings: MixtureConfig) -> Mixture:
    labels = [PLAIN | ({"Wearing_Hat": "yes"} if i % 5 == 0 else {}) for i in range(ROWS)]
    records = [FaceRecord("mine", f"{i}.png", "train", each, None, None) for i, each in enumerate(labels)]
    tokenizer = TextTokenizer.train(["a smiling woman with a hat", "is she wearing a hat? no."], 300)
    codes = np.arange(ROWS, dtype=np.int16)[:, None, None].repeat(2, 1).repeat(config.positions, 2)  # code = row
    clip = np.zeros((ROWS, 2, 6, config.clip_width), np.float16)
    return Mixture(records, EncodedSet(codes, clip, None), tokenizer, config, settings)


def share_of_hats(drawn: Mixture) -> float:
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([drawn.draw(50, generator).targets[:, 0] for _ in range(12)])
    return (rows % 5 == 0).float().mean().item()


def test_rarity_draws_remarkable_photos_more_often_and_zero_draws_all_alike(tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, text_length=120)
    evenly = share_of_hats(mixture(config, MixtureConfig(t2i_share=1.0)))
    eagerly = share_of_hats(mixture(config, MixtureConfig(t2i_share=1.0, t2i_rarity=1.5)))
    assert abs(evenly - 0.2) < 0.06
    assert eagerly > 0.4


def test_plain_prompts_show_photos_with_and_without_what_they_name_equally_often(tiny_config: ModelConfig) -> None:
    plain = mixture(replace(tiny_config, text_length=120), MixtureConfig(t2i_share=1.0, plain_share=1.0))
    generator = torch.Generator().manual_seed(0)
    about = [value for _ in range(12) for value in plain.plan(50, generator).about if value is not None]
    assert len(about) == 600
    hats = [value for name, value in about if name == "Wearing_Hat"]
    assert 0.4 < hats.count("yes") / len(hats) < 0.6  # of the photos a fifth
    assert {name for name, _ in about} == {"Wearing_Hat"}  # everybody smiles, so to name it would give it away


def test_plain_prompts_need_labels_of_both_values(tiny_config: ModelConfig) -> None:
    settings = MixtureConfig(t2i_share=1.0, plain_share=0.5, t2i_sources=("none of these",))
    with pytest.raises(UserError, match="plain_share needs photos"):
        mixture(tiny_config, settings)


def test_plain_prompts_are_not_dropped(tiny_config: ModelConfig) -> None:
    settings = MixtureConfig(t2i_share=1.0, plain_share=1.0, condition_dropout=1.0)
    config = replace(tiny_config, text_length=120)
    plain, captions = mixture(config, settings), mixture(config, replace(settings, plain_share=0.0))
    long, empty = (each.draw(16, torch.Generator().manual_seed(0)).sequences.ids for each in (plain, captions))
    assert long.shape[1] > empty.shape[1]


def test_a_batch_holds_the_share_of_generation_rows(tiny_config: ModelConfig) -> None:
    drawn = mixture(replace(tiny_config, text_length=120), MixtureConfig(t2i_share=0.75))
    assert len(drawn.draw(8, torch.Generator().manual_seed(0)).targets) == 6


def test_prompts_keep_to_their_own_budget_but_beside_descriptions(tiny_config: ModelConfig) -> None:
    settings = MixtureConfig(text_budget=100, prompt_budget=40, long_share=0.5)
    drawn = mixture(replace(tiny_config, text_length=120), settings)
    generator = torch.Generator().manual_seed(0)
    budgets = {(plan.budget, plan.prompt_budget) for plan in (drawn.plan(2, generator) for _ in range(12))}
    assert budgets == {(100, 40), (110, 110)}
    alike = mixture(tiny_config, MixtureConfig(text_budget=100, long_share=0.0)).plan(2, generator)
    assert alike.budget == alike.prompt_budget == 100


@pytest.mark.parametrize("sampler", ["halton", "halton_centred"])
def test_ordered_rows_are_masked_as_the_sampler_leaves_them(tiny_config: ModelConfig, sampler: str) -> None:
    settings = MixtureConfig(t2i_share=1.0, ordered_share=1.0, sampler=sampler)
    drawn = mixture(replace(tiny_config, text_length=120), settings).draw(20, torch.Generator().manual_seed(0))
    rank = fixed_rank(sampler, tiny_config.grid)
    assert rank is not None
    for mask, codes in zip(drawn.masked.mask, drawn.masked.codes, strict=True):
        assert rank[mask].min() == len(rank) - mask.sum()  # those that come last, and no other
        assert torch.equal(codes == tiny_config.codes, mask)


def test_the_share_of_ordered_rows_leaves_the_number_of_masks_as_it_is(tiny_config: ModelConfig) -> None:
    def masks(share: float) -> torch.Tensor:
        settings = MixtureConfig(t2i_share=1.0, ordered_share=share)
        return mixture(tiny_config, settings).masked(400, torch.Generator().manual_seed(0)).mask

    half, none = masks(0.5), masks(0.0)
    assert torch.equal(half.sum(1), none.sum(1))
    assert 0.4 < (half == none).all(1).float().mean() < 0.7  # some masks of few or all codes are alike by chance


def test_ordered_rows_need_a_sampler_with_an_order(tiny_config: ModelConfig) -> None:
    with pytest.raises(UserError, match="maskgit has none; give sampler=halton"):
        mixture(tiny_config, MixtureConfig(ordered_share=0.5, sampler="maskgit"))
