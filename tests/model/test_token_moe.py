"""Properties of the grouped token-level MoE; golden numbers of the reference, section 2.4."""

from __future__ import annotations

import pytest
import torch

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.token_moe import Routing, TokenGroups, TokenMoE, top_k_gates

GOLDEN = torch.tensor([[2.0, 1, 0, -1], [0, 3, 1, 0.5], [1, 1.5, -2, 0.25]])


def random_moe(config: ModelConfig) -> TokenMoE:
    moe = TokenMoE(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return moe


def test_balance_loss_equals_the_golden_value() -> None:
    _, chosen, probabilities = top_k_gates(GOLDEN, 2)
    assert float(Routing(probabilities, chosen).load().balance()) == pytest.approx(1.521049583, abs=1e-6)
    load = torch.bincount(chosen.flatten(), minlength=4) * (4 / chosen.numel())
    assert torch.allclose(load, torch.tensor([4 / 3, 2, 2 / 3, 0]))
    golden = torch.tensor([0.3328578145, 0.5153258328, 0.06988124748, 0.08193510526])
    assert torch.allclose(probabilities.mean(0), golden, atol=1e-7)


def test_gates_equal_the_golden_values_and_sum_to_one() -> None:
    gates, chosen, probabilities = top_k_gates(GOLDEN, 2)
    assert torch.allclose(gates.sum(1), torch.ones(3))
    assert torch.allclose(gates[0], torch.tensor([0.7310585786, 0.2689414214]), atol=1e-7)
    golden = torch.tensor([0.6439142599, 0.2368828181, 0.08714431874, 0.03205860328])
    assert torch.allclose(probabilities[0], golden, atol=1e-7)
    assert chosen[0].tolist() == [0, 1]


def test_uniform_routing_balances_at_one_and_collapsed_at_n_over_k() -> None:
    uniform = torch.full((12, 4), 0.25)
    assert float(Routing(uniform, torch.tensor([[0, 1]] * 12)).load().balance()) == pytest.approx(1.0)
    collapsed = torch.tensor([[0.5, 0.5, 0, 0]] * 12)
    assert float(Routing(collapsed, torch.tensor([[0, 1]] * 12)).load().balance()) == pytest.approx(2.0)


def test_no_token_means_no_balance_loss() -> None:
    assert float(Routing(torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.long)).load().balance()) == 0.0


def test_tokens_depend_only_on_their_groups_experts(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config)
    h = torch.randn(2, 6, tiny_config.width, generator=torch.Generator().manual_seed(0))
    group = torch.tensor([[1, 1, 2, 2, 0, -1], [2, 1, 0, 1, 2, 2]])
    before, _ = moe(h, TokenGroups.of(group))
    with torch.no_grad():
        for parameter in moe.groups["mmu"].parameters():
            parameter.add_(1.0)
    after, _ = moe(h, TokenGroups.of(group))
    changed = (before != after).any(-1)
    assert torch.equal(changed, group == int(Group.MMU))


def test_text_only_tokens_and_pads_get_the_shared_expert_alone(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config)
    h = torch.randn(1, 2, tiny_config.width, generator=torch.Generator().manual_seed(0))
    y, routings = moe(h, TokenGroups.of(torch.tensor([[0, -1]])))
    assert torch.equal(y, moe.shared(h))
    loads = [routing.load() for routing in routings.values()]
    assert all(load.tokens == 0 and load.balance() == 0 for load in loads)


def test_sorted_experts_equal_the_plain_weighted_sum(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config).double()
    experts = moe.groups["t2i"]
    h = torch.randn(17, tiny_config.width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, _ = experts(h)
    gates, chosen, _ = top_k_gates(h @ experts.router.t(), experts.top_k)
    plain = torch.stack(
        [
            sum(gate * experts.expert(int(e), h[t : t + 1])[0] for gate, e in zip(gates[t], chosen[t], strict=True))
            for t in range(len(h))
        ]
    )
    assert torch.allclose(y, plain, atol=1e-6)  # gates are fp32 by design


def test_a_token_is_served_alike_in_any_batch(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config)
    h = torch.randn(1, 9, tiny_config.width, generator=torch.Generator().manual_seed(0))
    group = torch.full((1, 9), int(Group.T2I))
    together, _ = moe(h, TokenGroups.of(group))
    alone, _ = moe(h[:, 4:5], TokenGroups.of(group[:, 4:5]))
    assert torch.allclose(together[:, 4:5], alone, atol=1e-5)
