"""A denoising step: prefix cache, no padding, codebook rows at masked positions, against the padded whole sequence.

pytest tests/benchmarks/test_generation.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from plain import PaddedGeneration, reduced, standing_alone

from unif2ace_core.config import PRESETS
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tasks.generate import PromptedSpan
from unif2ace_core.weights.resolve import load_model

GUIDANCE = 5.0
TWELVE_WORDS = 15  # text ids of a prompt of twelve words
CASES = [  # slots, ids of the prompt, least ratio
    pytest.param(128, 125, 1.5, id="128_slots_full"),
    pytest.param(381, 378, 2.5, id="381_slots_full"),
    pytest.param(381, TWELVE_WORDS, 3.0, id="381_slots_twelve_words"),
]


@pytest.fixture(scope="module", params=["mini", "24_layers"])
def transformer(request: pytest.FixtureRequest) -> UniF2ace:
    if request.param == "mini":
        return load_model("mini", "cpu", parts=()).transformer
    model = UniF2ace(reduced(PRESETS["base"], 256))
    return model.initialise(torch.Generator().manual_seed(0)).eval()


@pytest.mark.parametrize(("slots", "length", "asked"), CASES)
def test_step(
    transformer: UniF2ace, slots: int, length: int, asked: float, compare: Callable[..., float | None]
) -> None:
    config, end = replace(transformer.config, text_length=slots), 0
    transformer.config = config
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(1, config.text_vocabulary, (length,), generator=generator).tolist()
    codes = torch.randint(config.codes, (config.positions,), generator=generator)
    codes[torch.rand(config.positions, generator=generator) < 0.5] = config.codes
    noise = torch.randn(1, config.noise_tokens, config.noise_width, generator=generator)
    with torch.inference_mode():
        plain = PaddedGeneration(transformer, prompt, end, slots, noise, GUIDANCE)
        fast = PromptedSpan(standing_alone(transformer, end), [prompt], noise, GUIDANCE)
        torch.testing.assert_close(
            fast.posterior(codes.unsqueeze(0)).log_softmax(1), plain.logits(codes).log_softmax(1), rtol=1e-4, atol=1e-4
        )
        compare(lambda: fast.posterior(codes.unsqueeze(0)), lambda: plain.logits(codes), asked)
