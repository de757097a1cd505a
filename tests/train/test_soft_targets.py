"""Answers that the expert doubts are taught as shares of yes and no.

pytest tests/train/test_soft_targets.py
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unif2ace_core.config import ModelConfig
from unif2ace_core.tokens.sequence import IGNORE, Batch, collate, mmu_row
from unif2ace_core.train.objectives import doubted_nats
from unif2ace_core.train.soft_targets import SoftTargets, Turn, contrary, parting, soft_targets

END = 1
SURE = Turn([5, 6], [7, 8], [], 0.0)
UNSURE = Turn([5], [9, 20, 21], [9, 30, 21], 0.25)  # the answers part at their second token


def batch(config: ModelConfig, *rows: list[Turn]) -> Batch:
    """Understanding rows of these turns."""
    codes = [0] * config.positions
    return collate([mmu_row(codes, [(t.question, t.answer) for t in turns], END, config) for turns in rows], config)


def test_the_first_word_is_what_is_exchanged() -> None:
    assert contrary("Yes, he wears a hat.") == "No, he wears a hat."
    assert contrary("The hair is straight.") == ""


def test_answers_part_at_their_first_other_token() -> None:
    assert parting(SURE) is None
    assert parting(UNSURE) == 1


def test_a_target_stands_where_the_answers_part(tiny_config: ModelConfig) -> None:
    sequences = batch(tiny_config, [SURE], [SURE, UNSURE], [UNSURE])
    found = soft_targets(sequences, [[SURE, UNSURE], [UNSURE]])  # of the last two rows
    assert found is not None
    assert found.row.tolist() == [1, 2] and found.other.tolist() == [30, 30] and found.share.tolist() == [0.25, 0.25]
    assert sequences.labels[found.row, found.column].tolist() == [20, 20]
    assert sequences.turns[found.row, found.column].tolist() == [2, 1]


def test_an_answer_that_is_cut_before_it_parts_has_no_target(tiny_config: ModelConfig) -> None:
    late = Turn([5], list(range(7, 27)), [*range(7, 26), 30], 0.25)
    config = replace(tiny_config, text_length=19)
    assert soft_targets(batch(config, [late]), [[late]]) is None
    assert soft_targets(batch(replace(config, text_length=20), [late]), [[late]]) is not None


def test_nothing_in_doubt_is_no_target(tiny_config: ModelConfig) -> None:
    assert soft_targets(batch(tiny_config, [SURE]), [[SURE]]) is None


def test_the_loss_is_the_cross_entropy_of_both_by_their_shares() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([[IGNORE, 3, 4], [5, IGNORE, IGNORE]])
    logits, targets = torch.randn(3, 8), labels[labels != IGNORE]
    doubted = SoftTargets(torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([6, 7]), torch.tensor([0.2, 0.4]))
    shares = F.one_hot(targets, 8).float()
    shares[1, 4], shares[1, 6], shares[2, 5], shares[2, 7] = 0.8, 0.2, 0.6, 0.4
    hard = F.cross_entropy(logits, targets, reduction="sum")
    expected = F.cross_entropy(logits, shares, reduction="sum")
    assert float(hard + doubted_nats(logits, targets, labels, doubted)) == pytest.approx(float(expected), rel=1e-5)
