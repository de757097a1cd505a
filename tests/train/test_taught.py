"""Noisy labels give way to what the CLIP expert reads, in what is asked and nowhere else.

pytest tests/train/test_taught.py
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ATTRIBUTE_LOGITS, attribute_slices
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet
from unif2ace_core.train.mixture import Mixture, MixtureConfig
from unif2ace_core.train.objectives import run_model, understanding_terms
from unif2ace_core.train.recipes.model import ModelTrainConfig
from unif2ace_core.train.taught import SHARPNESS, TaughtRecords, best_threshold
from unif2ace_core.train.texts import DrawnTexts

ROWS, WIDTH = 40, 4
SEEN = [row % 4 == 0 for row in range(ROWS)]  # whose hair the expert finds wavy


@pytest.fixture
def head() -> nn.Linear:
    """Reads wavy hair off the first channel of the summary, too eagerly: everybody is above one half."""
    found = nn.Linear(WIDTH, ATTRIBUTE_LOGITS + 1)
    with torch.no_grad():
        found.weight.zero_()
        found.bias.zero_()
        found.weight[attribute_slices()["Wavy_Hair"].start, 0] = 1.0
        found.bias[attribute_slices()["Wavy_Hair"].start] = 8.0
    return found


@pytest.fixture
def features() -> np.ndarray:
    values = np.zeros((ROWS, 2, 3, WIDTH), np.float16)
    values[:, :, -1, 0] = np.where(SEEN, 1.0, -1.0)[:, None]
    return values


def people() -> list[FaceRecord]:
    """Every tenth label is wrong; the last person's is not known."""
    labels = [{"Wavy_Hair": "yes" if SEEN[row] != (row % 10 == 9) else "no", "Smiling": "yes"} for row in range(ROWS)]
    del labels[-1]["Wavy_Hair"]
    return [FaceRecord("mine", f"{row}.png", "train", each, None, None) for row, each in enumerate(labels)]


def test_labels_follow_the_reading_parted_where_both_agree_best(head: nn.Linear, features: np.ndarray) -> None:
    records = people()
    taught = TaughtRecords(records, head, features, ["Wavy_Hair"])
    assert len(taught) == ROWS
    assert [each.labels.get("Wavy_Hair") for each in taught[:-1]] == ["yes" if seen else "no" for seen in SEEN[:-1]]
    assert sum(mine.labels != given.labels for mine, given in zip(taught, records, strict=True)) == 3


def test_what_is_unknown_or_not_named_stays_as_it_is(head: nn.Linear, features: np.ndarray) -> None:
    taught = TaughtRecords(people(), head, features, ["Wavy_Hair"])
    assert taught[ROWS - 1].labels == {"Smiling": "yes"}
    assert all(record.labels["Smiling"] == "yes" for record in taught)


def test_doubt_is_what_the_expert_leaves_to_the_other_value(head: nn.Linear, features: np.ndarray) -> None:
    taught = TaughtRecords(people(), head, features, ["Wavy_Hair"])
    chance = 1 / (1 + math.exp(SHARPNESS))  # of logits that are 1 away from the threshold
    assert [taught.doubt(row, "Wavy_Hair") for row in range(ROWS)] == pytest.approx([chance] * ROWS, abs=1e-3)
    assert taught.doubt(0, "Smiling") == 0.0


def test_questions_see_the_readings_and_captions_the_labels(
    head: nn.Linear, features: np.ndarray, tiny_config: ModelConfig
) -> None:
    records = people()
    taught = TaughtRecords(records, head, features, ["Wavy_Hair"])
    drawn, labelled = DrawnTexts(records, asked=taught), DrawnTexts(records)
    assert drawn.prompts(9, random.Random(0)) == labelled.prompts(9, random.Random(0))
    answers = [
        pair.answer for seed in range(200) for pair in drawn.pairs(9, random.Random(seed), 3) if "wavy" in pair.answer
    ]
    assert answers and all(answer.startswith("No") or " not " in answer for answer in answers)  # the label says yes
    tokenizer = TextTokenizer.train(["is the hair wavy? no, the hair is not wavy."], 300)
    config = replace(tiny_config, text_length=120, clip_width=WIDTH, text_vocabulary=tokenizer.size)
    codes = np.zeros((ROWS, 2, config.positions), np.int16)
    mixed = Mixture(
        records, EncodedSet(codes, features, None), tokenizer, config, MixtureConfig(t2i_share=0.0), asked=taught
    )
    assert mixed.texts.pairs(9, random.Random(0), 3) == drawn.pairs(9, random.Random(0), 3)
    batch = mixed.draw(8, torch.Generator().manual_seed(0))
    assert batch.doubted is not None and len(batch.doubted.row) >= 3
    told = batch.sequences.labels[batch.doubted.row, batch.doubted.column]
    words = {tokenizer.encode(word)[0] for word in ("yes", "no")}
    assert set(told.tolist()) | set(batch.doubted.other.tolist()) == words
    assert bool((told != batch.doubted.other).all())
    assert batch.doubted.share.tolist() == pytest.approx([1 / (1 + math.exp(SHARPNESS))] * len(told), abs=1e-3)
    model = UniF2ace(config).eval()
    model.initialise(torch.Generator().manual_seed(0))
    output = run_model(model, batch)
    soft, hard = (understanding_terms(model, output, each)[0] for each in (batch, replace(batch, doubted=None)))
    logits = model.text_logits(output.hidden[batch.doubted.row, batch.doubted.column])
    steps = torch.arange(len(told))
    more = (batch.doubted.share * (logits[steps, told] - logits[steps, batch.doubted.other])).sum()
    soft, hard, more = soft.detach(), hard.detach(), more.detach()
    assert float(more) != 0 and float(soft - hard) == pytest.approx(float(more / batch.denominators[1]), abs=1e-5)


def test_a_threshold_parts_as_well_as_any() -> None:
    truth = torch.tensor([True, False, True, False, False])
    assert 2.0 < best_threshold(torch.tensor([5.0, 1.0, 3.0, 2.0, 0.0]), truth) < 3.0
    assert best_threshold(torch.tensor([1.0, 2.0]), torch.tensor([True, True])) == 0.0
    assert best_threshold(torch.tensor([]), torch.tensor([], dtype=torch.bool)) == 0.0


def test_other_names_and_runs_without_answers_are_refused() -> None:
    with pytest.raises(UserError, match="taught=Hair is no yes/no attribute"):
        ModelTrainConfig(taught=("Hair",))
    with pytest.raises(UserError, match="leave taught out too"):
        ModelTrainConfig(taught=("Wavy_Hair",), t2i_share=1.0)
