"""Layouts and masks of both tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unif2ace_core.config import PRESETS, Group, ModelConfig
from unif2ace_core.tokens.sequence import IGNORE, answer_ids, collate, mmu_row, question_ids, t2i_row
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights.showo import LAYOUT

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


# --- The words around a question -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def letters() -> TextTokenizer:
    """A tokenizer with an entry for each byte."""
    return TextTokenizer.train([""], 257)


def test_questions_stand_alone_where_no_template_is_given(letters: TextTokenizer, tiny_config: ModelConfig) -> None:
    for question in ("is she old?", "what colour is the hair of this woman?", "{question}"):
        assert question_ids(question, letters, tiny_config) == letters.encode(question)[: tiny_config.text_length]
        assert answer_ids(question, letters, tiny_config) == letters.encode(question)


def test_a_template_without_an_end_is_followed_by_the_answer(letters: TextTokenizer, tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, question_template="q {question} a", question_end=False, answer_start=" ")
    asked, said = question_ids("old?", letters, config), answer_ids("no", letters, config)
    row = mmu_row([1] * 9, [(asked, said)], END, config)
    assert row.ids[12:] == [END, *letters.encode("q old? a no"), END]
    assert [label for label in row.labels if label != IGNORE] == [*letters.encode(" no"), END]
    for place, label in enumerate(row.labels):
        assert label == IGNORE or row.ids[place + 1] == label
    opened = mmu_row([1] * 9, [(asked, None)], END, config)
    assert opened.ids == row.ids[: len(opened.ids)] and opened.ids[-1] == asked[-1]


def test_a_long_question_keeps_the_template(letters: TextTokenizer, tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, question_template="q {question} a")
    asked = question_ids("what colour is her hair?", letters, config)
    assert letters.decode(asked) == "q what col a" and len(asked) == config.text_length
    tight = replace(config, question_template="q {question} and the answer to this:")
    assert len(question_ids("old?", letters, tight)) == config.text_length


@pytest.mark.parametrize("template", ["", "USER: ASSISTANT:", "{question} {question}"])
def test_a_template_holds_the_question_once(tiny_config: ModelConfig, template: str) -> None:
    with pytest.raises(ValueError, match=r"question_template '.*' does not hold \{question\} once"):
        replace(tiny_config, question_template=template)


# What Show-o's inference_mmu.py (commit 45a5a2d) makes of the question with the tokenizer of Phi-1.5.
ASKED = "USER: \nWhat is the hair color of the woman? ASSISTANT:"
SHOWO = [29904, 25, 220, 198, 2061, 318, 262, 4190, 3124, 286, 262, 2415, 30, 24994, 8808, 8643, 25]


def test_full_size_layout_has_show_os_ids() -> None:
    config, phi = replace(PRESETS["1.8b"], **LAYOUT), FixedTokenizer({ASKED: SHOWO})
    asked = question_ids("What is the hair color of the woman?", phi, config)
    row = mmu_row(range(256), [(asked, None)], 50256, config)
    assert row.ids == [50301, 50296, *range(50305, 50561), 50297, 50256, *SHOWO]


class FixedTokenizer(TextTokenizer):
    """Knows a few texts only."""

    def __init__(self, known: dict[str, list[int]]) -> None:
        self.known = known

    def encode(self, text: str) -> list[int]:
        return self.known[text]
