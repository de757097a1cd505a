"""Sequence layouts, ids and attention masks (Show-o's, without padding inside).

    T2I   [t2i] [end] prompt [end] | [soi] code x N [eoi]
    MMU   [mmu] [soi] code x N [eoi] | [end] question [end] answer [end] | [end] question [end] answer [end] | ...

The [end] between question and answer is `question_end` of the config; Show-o has none there, but words around the
question (`question_template`): [end] USER: question ASSISTANT: answer [end].

One MMU row may carry several turns. A turn sees the image and itself, and its positions continue from the image, so
each turn is computed exactly as if it stood alone: several questions share one pass over the picture.

Who sees whom (i sees j): j is no pad, and j <= i or both are in the bidirectional span, and j is in turn 0 (the shared
part) or in i's turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.tokens.text import TextTokenizer

IGNORE = -100  # label of positions without a target


@dataclass
class Row:
    """One sequence before padding; lists have the same length."""

    ids: list[int]
    positions: list[int]
    turns: list[int]  # 0 for what every turn may see
    bidirectional: list[bool]
    labels: list[int]  # id of the token that follows, or IGNORE
    group: Group
    span: int  # index of the first image code, -1 without an image


@dataclass
class Batch:
    """Padded sequences, ready for the model."""

    ids: Tensor  # (B, L)
    positions: Tensor  # (B, L)
    mask: Tensor  # (B, 1, L, L) bool
    group: Tensor  # (B, L), -1 on pads
    span: Tensor  # (B,)
    labels: Tensor  # (B, L) next-token targets, IGNORE elsewhere
    turns: Tensor  # (B, L)
    valid: Tensor  # (B, L) bool, False on pads

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def text_ids(ids: Sequence[int], config: ModelConfig) -> list[int]:
    """Cut BPE ids to the model's text length."""
    return list(ids[: config.text_length])


def question_ids(question: str, tokenizer: TextTokenizer, config: ModelConfig) -> list[int]:
    """Ids of a question in the model's template; one that is too long loses its last words, never the template's."""
    before, after = config.question_template.split("{question}")
    ids = tokenizer.encode(before + question + after)
    if len(ids) <= config.text_length:
        return ids
    tail = tokenizer.encode(after)
    return text_ids([*ids[: max(0, config.text_length - len(tail))], *tail], config)


def answer_ids(answer: str, tokenizer: TextTokenizer, config: ModelConfig) -> list[int]:
    """Ids of an answer as it follows the question; uncut."""
    return tokenizer.encode(config.answer_start + answer)


def t2i_prefix(prompt: Sequence[int], end: int, config: ModelConfig) -> list[int]:
    """[t2i] [end] prompt [end]; an empty prompt is the unconditional one."""
    return [config.special("t2i"), end, *text_ids(prompt, config), end]


def image_span(codes: Sequence[int], config: ModelConfig) -> list[int]:
    """[soi] codes [eoi]; code K stands for the mask token."""
    ids = [config.code_offset + code for code in codes]  # offset + K is the mask's id
    return [config.special("soi"), *ids, config.special("eoi")]


def t2i_row(prompt: Sequence[int], codes: Sequence[int], end: int, config: ModelConfig) -> Row:
    """A generation row; codes may hold masks (K)."""
    prefix, span = t2i_prefix(prompt, end, config), image_span(codes, config)
    length = len(prefix) + len(span)
    return Row(
        prefix + span,
        list(range(length)),
        [0] * length,
        [False] * len(prefix) + [True] * len(span),
        [IGNORE] * length,
        Group.T2I,
        len(prefix) + 1,
    )


def photo_prefix(codes: Sequence[int], config: ModelConfig) -> list[int]:
    """[mmu] [soi] codes [eoi]: what every question about a photo follows, and what sees no question."""
    return [config.special("mmu"), *image_span(codes, config)]


def asked_ids(question: Sequence[int], end: int, config: ModelConfig) -> list[int]:
    """[end] question [end], what comes before an answer."""
    return [end, *text_ids(question, config), *[end] * config.question_end]


def mmu_row(
    codes: Sequence[int], turns: Sequence[tuple[Sequence[int], Sequence[int] | None]], end: int, config: ModelConfig
) -> Row:
    """An understanding row with any number of (question, answer) turns; answer None leaves it to be decoded."""
    ids = photo_prefix(codes, config)
    start = len(ids)
    row = Row(ids, list(range(start)), [0] * start, [True] * start, [IGNORE] * start, Group.MMU, 2)
    for number, (question, answer) in enumerate(turns, start=1):
        asked = asked_ids(question, end, config)
        said = [] if answer is None else [*text_ids(answer, config), end]
        length = len(asked) + len(said)
        row.ids += asked + said
        row.positions += range(start, start + length)
        row.turns += [number] * length
        row.bidirectional += [False] * length
        # the token before each answer token predicts it; the last token predicts nothing
        row.labels += [IGNORE] * (len(asked) - 1) + said + [IGNORE]
        if answer is None:
            row.labels = row.labels[: len(row.ids) - 1] + [IGNORE]
    return row


def attention_mask(turns: Tensor, bidirectional: Tensor, valid: Tensor) -> Tensor:
    """The module's rule as (B, 1, L, L) bool; pads see themselves, so that no row is empty. Inputs are (B, L)."""
    length = turns.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=turns.device).tril()
    both = bidirectional.unsqueeze(2) & bidirectional.unsqueeze(1)
    same = (turns.unsqueeze(1) == 0) | (turns.unsqueeze(1) == turns.unsqueeze(2))
    mask = valid.unsqueeze(1) & (causal | both) & same
    mask |= torch.eye(length, dtype=torch.bool, device=turns.device)
    return mask.unsqueeze(1)


def padded(rows: Sequence[Row], multiple: int = 1) -> int:
    """Tokens of the longest row, rounded up to a multiple."""
    return -(-max(len(row.ids) for row in rows) // multiple) * multiple


def collate(rows: Sequence[Row], config: ModelConfig, multiple: int = 1) -> Batch:
    """Pad rows on the right to a common length (a multiple of `multiple`)."""
    length = padded(rows, multiple)

    def table(lists: Sequence[Sequence[int]], fill: int) -> Tensor:
        return torch.tensor([[*items, *[fill] * (length - len(items))] for items in lists])

    valid = table([[1] * len(row.ids) for row in rows], 0).bool()
    turns = table([row.turns for row in rows], 0)
    bidirectional = table([row.bidirectional for row in rows], 0).bool()
    group = table([[int(row.group)] * len(row.ids) for row in rows], -1)
    return Batch(
        ids=table([row.ids for row in rows], config.special("pad")),
        positions=table([row.positions for row in rows], 0),
        mask=attention_mask(turns, bidirectional, valid),
        group=group,
        span=torch.tensor([row.span for row in rows]),
        labels=table([row.labels for row in rows], IGNORE),
        turns=turns,
        valid=valid,
    )
