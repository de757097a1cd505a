"""A token-level mixture of experts against a dense feed-forward layer of as many active FLOPs.

    pytest tests/benchmarks/test_mixture.py

Ratios are the dense layer's time over the mixture's. Routing of one token is measured against the same experts chosen
beforehand: it may add 30% to their time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from plain import looped_experts
from torch import Tensor

from unif2ace_core.config import PRESETS, Group, ModelConfig
from unif2ace_core.model.token_moe import FeedForward, TokenGroups, TokenMoE, top_k_gates

M = TypeVar("M", bound=torch.nn.Module)
CASES = [(1, None), (8, None), (64, None), (256, 0.9), (512, 0.9)]  # tokens, least ratio
OVERHEAD = 0.3


def random_moe(config: ModelConfig) -> TokenMoE:
    return randomised(TokenMoE(config).eval())


def randomised(module: M) -> M:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.requires_grad_(False).parameters():
        parameter.normal_(0, 0.02, generator=generator)
    return module


@pytest.mark.parametrize(("tokens", "asked"), CASES, ids=[f"{tokens}_tokens" for tokens, _ in CASES])
@pytest.mark.parametrize("preset", ["mini", "base", "1.8b"])
def test_layer(preset: str, tokens: int, asked: float | None, compare: Callable[..., float | None]) -> None:
    config, generator = PRESETS[preset], torch.Generator().manual_seed(0)
    moe = random_moe(config)
    dense = randomised(FeedForward(config.width, config.ffn + config.top_k * config.expert_hidden))
    h = torch.randn(1, tokens, config.width, generator=generator)
    groups, experts = TokenGroups.of(Group.MMU), moe.groups["mmu"]
    with torch.inference_mode():
        gates, chosen, _ = top_k_gates(h[0] @ experts.router.T, config.top_k)
        weights = (experts.fc1_weight, experts.fc1_bias, experts.fc2_weight, experts.fc2_bias)
        few = slice(0, 8)
        expected = moe.shared(h[0, few]) + looped_experts(weights, h[0, few], gates[few], chosen[few])
        torch.testing.assert_close(moe(h, groups)[0][0, few], expected, rtol=1e-5, atol=1e-5)
        compare(lambda: moe(h, groups), lambda: dense(h), asked, rounds=50 if tokens * config.width < 1e5 else 9)


@pytest.mark.parametrize("preset", ["mini", "base", "1.8b"])
def test_routing_of_one_token(preset: str, compare: Callable[..., float | None]) -> None:
    config = PRESETS[preset]
    moe, groups = random_moe(config), TokenGroups.of(Group.MMU)
    h = torch.randn(1, 1, config.width, generator=torch.Generator().manual_seed(0))
    experts = moe.groups["mmu"]
    with torch.inference_mode():
        gates, chosen, _ = (table[0].tolist() for table in top_k_gates(h[0] @ experts.router.T, config.top_k))

        def chosen_beforehand() -> Tensor:
            y = moe.shared(h[0])
            for gate, index in zip(gates, chosen):
                y.add_(experts.expert(index, h[0]), alpha=gate)
            return y.view_as(h)

        torch.testing.assert_close(moe(h, groups)[0], chosen_beforehand(), rtol=1e-5, atol=1e-5)
        compare(lambda: moe(h, groups), chosen_beforehand, 1 / (1 + OVERHEAD), rounds=50)
