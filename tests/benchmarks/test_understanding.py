"""Answers: a key-value cache and text rows alone against the whole sequence anew; eight questions at once against one.

pytest tests/benchmarks/test_understanding.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from plain import reduced, standing_alone, uncached_answer
from torch import Tensor

from unif2ace_core.config import PRESETS
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tasks.understand import AskedPhotos, greedy
from unif2ace_core.tokens.sequence import Row, collate, mmu_row
from unif2ace_core.weights.resolve import load_model

TOKENS = 100
QUESTIONS = 8
NEVER = -1  # an id that no token has, so that every answer has all of its tokens


@pytest.fixture(scope="module", params=["mini", "24_layers"])
def transformer(request: pytest.FixtureRequest) -> UniF2ace:
    if request.param == "mini":
        model = load_model("mini", "cpu", parts=()).transformer
    else:
        model = UniF2ace(reduced(PRESETS["base"], 256)).initialise(torch.Generator().manual_seed(0)).eval()
    model.config = replace(model.config, text_length=TOKENS)
    return model


class Case:
    """A made-up photo and questions of different lengths about it."""

    def __init__(self, model: UniF2ace) -> None:
        self.model, config = model, model.config
        generator = torch.Generator().manual_seed(1)
        self.codes = torch.randint(config.codes, (config.positions,), generator=generator)
        lengths = range(5, 5 + QUESTIONS)
        self.questions = [torch.randint(config.text_vocabulary, (n,), generator=generator).tolist() for n in lengths]
        self.clip = torch.randn(1, 17, config.clip_width, generator=generator)
        self.face = torch.randn(1, 1, config.face_width, generator=generator)

    def rows(self, count: int) -> list[Row]:
        return [mmu_row(self.codes.tolist(), [(q, None)], 0, self.model.config) for q in self.questions[:count]]

    def features(self, count: int) -> Features:
        return Features(clip=self.clip.expand(count, -1, -1), face=self.face.expand(count, -1, -1))

    def fast(self, rows: list[Row], tokens: int) -> tuple[list[list[int]], Tensor]:
        batch = collate(rows, self.model.config)
        asked = AskedPhotos(standing_alone(self.model, 0), batch, self.features(len(rows)))
        return greedy(asked, NEVER, "bare", tokens)

    def plain(self, tokens: int) -> list[int]:
        return uncached_answer(self.model, self.codes, self.questions[0], 0, self.features(1), tokens)


def test_answer_of_a_hundred_tokens(transformer: UniF2ace, compare: Callable[..., float | None]) -> None:
    case = Case(transformer)
    rows = case.rows(1)
    with torch.inference_mode():
        few = 12
        assert case.fast(rows, few)[0] == [case.plain(few)]
        compare(lambda: case.fast(rows, TOKENS), lambda: case.plain(TOKENS), 20, rounds=5)


def test_eight_questions_at_once(transformer: UniF2ace, compare: Callable[..., float | None]) -> None:
    case = Case(transformer)
    rows, tokens = case.rows(QUESTIONS), 12
    with torch.inference_mode():

        def one_at_a_time() -> list[list[int]]:
            return [case.fast([row], tokens)[0][0] for row in rows]

        assert case.fast(rows, tokens)[0] == one_at_a_time()
        compare(lambda: case.fast(rows, tokens), one_at_a_time, 3)
