"""A token-level mixture of experts against a dense feed-forward layer of as many active FLOPs.

    pytest tests/benchmarks/test_mixture.py

Ratios are the dense layer's time over the mixture's: 1 would be free routing. One token may take 30% longer.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from plain import looped_experts

from unif2ace_core.config import PRESETS, Group
from unif2ace_core.model.token_moe import FeedForward, TokenGroups, TokenMoE, top_k_gates

CASES = [(1, 1 / 1.3), (8, None), (64, None), (256, 0.9), (512, 0.9)]  # tokens, least ratio


@pytest.mark.parametrize(("tokens", "asked"), CASES, ids=[f"{tokens}_tokens" for tokens, _ in CASES])
@pytest.mark.parametrize("preset", ["mini", "base", "1.8b"])
def test_layer(preset: str, tokens: int, asked: float | None, compare: Callable[..., float | None]) -> None:
    config, generator = PRESETS[preset], torch.Generator().manual_seed(0)
    moe = TokenMoE(config).eval().requires_grad_(False)
    dense = FeedForward(config.width, config.ffn + config.top_k * config.expert_hidden).requires_grad_(False)
    for parameter in [*moe.parameters(), *dense.parameters()]:
        parameter.normal_(0, 0.02, generator=generator)
    h = torch.randn(1, tokens, config.width, generator=generator)
    groups, experts = TokenGroups.of(Group.MMU), moe.groups["mmu"]
    with torch.inference_mode():
        gates, chosen, _ = top_k_gates(h[0] @ experts.router.T, config.top_k)
        weights = (experts.fc1_weight, experts.fc1_bias, experts.fc2_weight, experts.fc2_bias)
        few = slice(0, 8)
        expected = moe.shared(h[0, few]) + looped_experts(weights, h[0, few], gates[few], chosen[few])
        torch.testing.assert_close(moe(h, groups)[0][0, few], expected, rtol=1e-5, atol=1e-5)
        compare(lambda: moe(h, groups), lambda: dense(h), asked, rounds=50 if tokens * config.width < 1e5 else 9)
