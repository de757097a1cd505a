"""Properties of the grouped sequence-level MoE."""

from __future__ import annotations

from dataclasses import replace

import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.model.sequence_moe import Exploration, SequenceExperts, SpanFeatures, exploration_draws


def experts_for(config: ModelConfig, names: tuple[str, ...], favoured: list[int]) -> SequenceExperts:
    """Sequence experts whose router prefers two places."""
    experts = SequenceExperts(names, config)
    with torch.no_grad():
        experts.router.weight.zero_()
        experts.router.bias.zero_()
        experts.router.bias[favoured] = 5.0
        for parameter in experts.projections.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return experts


def span(config: ModelConfig, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, config.positions, config.width, generator=torch.Generator().manual_seed(2))


def resampled(config: ModelConfig, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, config.positions, config.resampler, generator=torch.Generator().manual_seed(4))


def draws(config: ModelConfig, rows: int) -> torch.Tensor:
    """Of one layer."""
    return exploration_draws(config, rows, torch.Generator().manual_seed(0))[:, 0]


def test_two_copies_are_the_identity_bit_for_bit(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_mmu, [2, 3])
    z = span(tiny_config)
    features = SpanFeatures({"clip": resampled(tiny_config), "face": resampled(tiny_config)})
    y, gates = experts(z, features, Exploration())
    assert torch.equal(y, z)
    assert torch.equal(gates[:, :2], torch.zeros(3, 2))


def test_two_gates_sum_to_one_and_the_rest_are_zero(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_mmu, [0, 1])
    features = SpanFeatures({"clip": resampled(tiny_config), "face": resampled(tiny_config)})
    _, gates = experts(span(tiny_config), features, Exploration())
    assert torch.allclose(gates.sum(1), torch.ones(3))
    assert ((gates > 0).sum(1) == 2).all()


def test_delta_form_equals_the_weighted_sum_of_experts(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_mmu, [0, 2]).double()
    z, s = span(tiny_config).double(), resampled(tiny_config).double()
    y, gates = experts(z, SpanFeatures({"clip": s, "face": s}), Exploration())
    rho = experts.rho["clip"]
    clip = (1 - rho) * z + rho * experts.projections["clip"](s)
    plain = gates[:, 0, None, None] * clip + gates[:, 2, None, None] * z
    assert torch.allclose(y, plain, atol=1e-12)


def test_zero_removes_its_share_of_the_stream(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_t2i, [0, 1])
    z = span(tiny_config)
    y, gates = experts(z, SpanFeatures({"noise": resampled(tiny_config)}), Exploration())
    assert torch.allclose(y, z * gates[:, 0, None, None], atol=1e-6)


def test_absent_experts_are_masked_out_of_routing(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_mmu, [0, 1])
    z = span(tiny_config)
    y, gates = experts(z, SpanFeatures({}), Exploration())
    assert torch.equal(y, z)
    assert torch.equal(gates[:, :2], torch.zeros(3, 2))
    there = torch.tensor([True, False, True])
    _, gates = experts(z, SpanFeatures({"clip": resampled(tiny_config)}, {"clip": there}), Exploration())
    assert torch.equal(gates[:, 0] > 0, there)


def test_exploration_reaches_every_allowed_expert_but_not_zero(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_t2i, [0, 3])
    z = span(tiny_config, 400)
    exploration = Exploration(1.0, zero=False, draws=draws(tiny_config, 400))
    _, gates = experts(z, SpanFeatures({"noise": resampled(tiny_config, 400)}), exploration)
    used = (gates > 0).float().mean(0)
    assert used[2] == 1.0 and used[1] == 0.0
    assert 0.3 < used[0] < 0.7


def test_without_exploration_two_selected_copies_never_learn(tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, sequence_rho=0.0)
    z = span(config).requires_grad_()
    features = SpanFeatures({"clip": resampled(config), "face": resampled(config)})
    for probability, moves in ((0.0, False), (1.0, True)):
        experts = experts_for(config, config.sequence_mmu, [2, 3])
        exploration = Exploration(probability, draws=draws(config, len(z)))
        y, _ = experts(z, features, exploration)
        y.square().sum().backward()
        gradients = [p.grad for p in experts.rho.values() if p.grad is not None]
        assert any(bool(g.abs().sum() > 0) for g in gradients) is moves


def test_experts_run_on_the_rows_that_chose_them_alone_and_give_the_same(tiny_config: ModelConfig) -> None:
    experts = experts_for(tiny_config, tiny_config.sequence_mmu, [2, 3])
    features = SpanFeatures({"clip": resampled(tiny_config), "face": resampled(tiny_config)})
    there = {"clip": torch.tensor([True, False, True]), "face": torch.tensor([False, False, True])}
    features = replace(features, available=there)
    with torch.no_grad():
        experts.router.bias.copy_(torch.tensor([3.0, 4.0, 1.0, 2.0]))
    seen: list[int] = []
    experts.projections["clip"].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    every, gates = experts(span(tiny_config), features, Exploration())
    with torch.no_grad():
        chosen, _ = experts(span(tiny_config), features, Exploration())
    assert seen == [3, 2] and [int((row > 0).sum()) for row in gates[:, :2]] == [1, 0, 2]
    torch.testing.assert_close(chosen, every, rtol=0, atol=1e-6)
