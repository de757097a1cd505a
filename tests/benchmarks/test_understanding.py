"""Answers: a key-value cache and text rows alone against the whole sequence anew; eight questions at once against one.

pytest tests/benchmarks/test_understanding.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from plain import reduced, standing_alone, uncached_answer

from unif2ace_core.config import PRESETS
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tasks.understand import AskedPhotos, Photos, greedy
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
        model.requires_grad_(False)
    model.config = replace(model.config, text_length=TOKENS)
    return model


class Case:
    """Made-up photos and questions of different lengths."""

    def __init__(self, model: UniF2ace) -> None:
        self.model, config, self.alone = model, model.config, standing_alone(model, 0)
        generator = torch.Generator().manual_seed(1)
        self.codes = torch.randint(config.codes, (QUESTIONS, config.positions), generator=generator)
        lengths = range(5, 5 + QUESTIONS)
        self.questions = [torch.randint(config.text_vocabulary, (n,), generator=generator).tolist() for n in lengths]
        self.clip = torch.randn(QUESTIONS, 17, config.clip_width, generator=generator)
        self.face = torch.randn(QUESTIONS, 1, config.face_width, generator=generator)

    def fast(self, rows: Sequence[int], questions: Sequence[int], tokens: int) -> list[list[int]]:
        """Answers to some questions about some photos, rows[i] for the i-th."""
        used = sorted(set(rows))
        photos = Photos(self.codes[used], self.clip[used], self.face[used], None)
        places, texts = [used.index(row) for row in rows], [self.questions[n] for n in questions]
        return greedy(AskedPhotos(self.alone, photos, places, texts), NEVER, "bare", tokens)[0]

    def plain(self, tokens: int) -> list[int]:
        features = Features(clip=self.clip[:1], face=self.face[:1])
        return uncached_answer(self.model, self.codes[0], self.questions[0], 0, features, tokens)


def test_answer_of_a_hundred_tokens(transformer: UniF2ace, compare: Callable[..., float | None]) -> None:
    case = Case(transformer)
    with torch.inference_mode():
        few = 12
        assert case.fast([0], [0], few) == [case.plain(few)]
        compare(lambda: case.fast([0], [0], TOKENS), lambda: case.plain(TOKENS), 20, rounds=5)


@pytest.mark.parametrize("photos", ["one_photo", "eight_photos"])
def test_eight_questions_at_once(transformer: UniF2ace, photos: str, compare: Callable[..., float | None]) -> None:
    case, tokens, questions = Case(transformer), 12, range(QUESTIONS)
    rows = [0] * QUESTIONS if photos == "one_photo" else list(questions)
    with torch.inference_mode():

        def one_at_a_time() -> list[list[int]]:
            return [case.fast([row], [number], tokens)[0] for row, number in zip(rows, questions)]

        assert case.fast(rows, questions, tokens) == one_at_a_time()
        compare(lambda: case.fast(rows, questions, tokens), one_at_a_time, 3 if photos == "one_photo" else None)
