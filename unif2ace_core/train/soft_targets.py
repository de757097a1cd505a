"""Soft targets of answers that may be yes or no: the token where the two part has a share of either.

After that token an answer goes on as it was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unif2ace_core.tokens.sequence import IGNORE, Batch

CONTRARIES = {"Yes": "No", "No": "Yes"}


class Turn(NamedTuple):
    """A question with its answer, in ids."""

    question: list[int]
    answer: list[int]
    other: list[int]  # an answer that begins with the contrary; [] if there is none
    doubt: float  # probability of the contrary


@dataclass(frozen=True)
class SoftTargets:
    """Labels of a batch that are another token with some probability."""

    row: Tensor  # (D,)
    column: Tensor  # (D,)
    other: Tensor  # (D,) id of the other token
    share: Tensor  # (D,) its probability


def contrary(answer: str) -> str:
    """The answer with yes and no exchanged in its first word; empty where it begins otherwise."""
    first, comma, rest = answer.partition(",")
    return CONTRARIES[first] + comma + rest if first in CONTRARIES else ""


def parting(turn: Turn) -> int | None:
    """At which of its tokens the answer and its contrary part; None where they don't."""
    pairs = enumerate(zip(turn.answer, turn.other, strict=False))
    return next((place for place, (said, other) in pairs if said != other), None)


def soft_targets(sequences: Batch, turns: Sequence[Sequence[Turn]]) -> SoftTargets | None:
    """The soft targets of a batch whose last rows hold these turns; None where nothing is in doubt."""
    found: list[tuple[int, int, int, float]] = []
    start = len(sequences.ids) - len(turns)
    for row, asked in enumerate(turns, start):
        for number, turn in enumerate(asked, 1):
            place = parting(turn)
            if place is None:
                continue
            answer = (sequences.turns[row] == number) & (sequences.labels[row] != IGNORE)
            columns = answer.nonzero().flatten().tolist()  # one more than the row has of the answer, for its end
            if place < len(columns) - 1:
                found.append((row, columns[place], turn.other[place], turn.doubt))
    if not found:
        return None
    rows, places, others, shares = zip(*found, strict=True)
    return SoftTargets(torch.tensor(rows), torch.tensor(places), torch.tensor(others), torch.tensor(shares))
