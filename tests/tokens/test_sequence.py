"""Layouts and masks of both tasks."""

from __future__ import annotations

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.tokens.sequence import IGNORE, collate, mmu_row, t2i_row

END = 0


def test_t2i_layout_is_text_then_span(tiny_config: ModelConfig) -> None:
    row = t2i_row([5, 6], [3] * 9, END, tiny_config)
    c = tiny_config
    assert row.ids[:5] == [c.special("t2i"), END, 5, 6, END]
    assert row.ids[5:] == [c.special("soi"), *[c.code_offset + 3] * 9, c.special("eoi")]
    assert row.span == 6 and row.group == Group.T2I


def test_masked_code_has_the_mask_id(tiny_config: ModelConfig) -> None:
    row = t2i_row([], [tiny_config.codes] * 9, END, tiny_config)
    assert row.ids[row.span] == tiny_config.mask_id == tiny_config.vocabulary - 1


def test_answers_alone_are_supervised(tiny_config: ModelConfig) -> None:
    row = mmu_row([1] * 9, [([5, 6], [7, 8])], END, tiny_config)
    assert [label for label in row.labels if label != IGNORE] == [7, 8, END]
    for place, label in enumerate(row.labels):
        assert label == IGNORE or row.ids[place + 1] == label


def test_open_question_has_no_labels(tiny_config: ModelConfig) -> None:
    row = mmu_row([1] * 9, [([5, 6], None)], END, tiny_config)
    assert set(row.labels) == {IGNORE}
    assert len(row.labels) == len(row.ids)
    assert row.ids[-4:] == [END, 5, 6, END]


def test_long_text_is_cut(tiny_config: ModelConfig) -> None:
    row = t2i_row([5] * 100, [3] * 9, END, tiny_config)
    assert row.ids.count(5) == tiny_config.text_length


def test_turns_do_not_see_each_other(tiny_config: ModelConfig) -> None:
    row = mmu_row([1] * 9, [([5], [6]), ([7], [8])], END, tiny_config)
    batch = collate([row], tiny_config)
    second = [i for i, turn in enumerate(row.turns) if turn == 2]
    first = [i for i, turn in enumerate(row.turns) if turn == 1]
    assert not batch.mask[0, 0][second][:, first].any()
    assert batch.mask[0, 0][second][:, : first[0]].all()
    assert row.positions[second[0]] == row.positions[first[0]]


def test_pads_are_seen_by_nobody_else(tiny_config: ModelConfig) -> None:
    short, long = t2i_row([5], [3] * 9, END, tiny_config), t2i_row([5] * 6, [3] * 9, END, tiny_config)
    batch = collate([short, long], tiny_config)
    pads = ~batch.valid[0]
    assert pads.sum() == 5
    seen = batch.mask[0, 0][:, pads]
    assert seen[~pads].sum() == 0
    assert (batch.group[0][pads] == -1).all()
