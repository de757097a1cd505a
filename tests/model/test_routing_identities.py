"""Identities of both MoE levels in float64: golden numbers to 1e-8, grouped evaluation against plain loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.sequence_moe import Exploration, SequenceExperts, SpanFeatures
from unif2ace_core.model.token_moe import Routing, TokenGroups, TokenMoE, top_k_gates

GOLDEN = torch.tensor([[2.0, 1, 0, -1], [0, 3, 1, 0.5], [1, 1.5, -2, 0.25]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_moe(config: ModelConfig) -> TokenMoE:
    moe = TokenMoE(config).double()
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(3), dtype=torch.float64) * 0.3)
    return moe


def test_balance_loss_gates_and_loads_equal_the_golden_values() -> None:
    gates, chosen, probabilities = top_k_gates(GOLDEN, 2)
    assert float(Routing(probabilities, chosen).load().balance()) == pytest.approx(1.521049583, abs=1e-8)
    load = torch.bincount(chosen.flatten(), minlength=4).double() * (4 / chosen.numel())
    assert load.tolist() == pytest.approx([4 / 3, 2, 2 / 3, 0], abs=1e-8)
    mean = (0.3328578145, 0.5153258328, 0.06988124748, 0.08193510526)
    assert probabilities.mean(0).tolist() == pytest.approx(mean, abs=1e-8)
    first = (0.6439142599, 0.2368828181, 0.08714431874, 0.03205860328)
    assert probabilities[0].tolist() == pytest.approx(first, abs=1e-8)
    assert gates[0].tolist() == pytest.approx((0.7310585786, 0.2689414214), abs=1e-8)


def test_balance_loss_is_one_for_uniform_probabilities_whatever_is_selected() -> None:
    uniform = torch.full((12, 4), 0.25, dtype=torch.float64)
    for seed in range(4):
        chosen = torch.rand(12, 4, generator=generator(seed)).topk(2, -1).indices
        assert float(Routing(uniform, chosen).load().balance()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(4, 2), (8, 4), (8, 1)])
def test_balance_loss_is_n_over_k_for_collapsed_routing(n: int, k: int) -> None:
    probabilities = torch.zeros(10, n, dtype=torch.float64)
    probabilities[:, :k] = 1 / k
    load = Routing(probabilities, torch.arange(k).expand(10, k)).load()
    assert float(load.balance()) == pytest.approx(n / k, abs=1e-12)


def test_balance_loss_can_fall_below_one() -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.49, 0.51], [0.49, 0.51]], dtype=torch.float64)
    chosen = torch.tensor([[0], [1], [1]])
    assert float(Routing(probabilities, chosen).load().balance()) == pytest.approx(0.8933333333, abs=1e-8)


def test_balance_loss_has_no_gradient_through_the_loads() -> None:
    """The gradient is that of sum_i f_i P_i with f a constant."""
    leaf = GOLDEN.clone().requires_grad_()
    _, chosen, probabilities = top_k_gates(leaf, 2)
    (found,) = torch.autograd.grad(Routing(probabilities, chosen).load().balance(), leaf)
    other = GOLDEN.clone().requires_grad_()
    load = torch.tensor([4 / 3, 2, 2 / 3, 0], dtype=torch.float64)
    (expected,) = torch.autograd.grad((load * other.softmax(-1).mean(0)).sum(), other)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_lowest_index_wins_a_tie() -> None:
    _, chosen, _ = top_k_gates(torch.tensor([[0.0] * 8, [1, 2, 2, 2, 1, 2, 2, 2]]), 4)
    assert chosen.tolist() == [[0, 1, 2, 3], [1, 2, 3, 5]]


def test_half_precision_logits_are_routed_in_single_precision() -> None:
    gates, _, probabilities = top_k_gates(GOLDEN.bfloat16(), 2)
    assert gates.dtype == probabilities.dtype == torch.float32


def token_by_token(moe: TokenMoE, h: Tensor, group: int) -> Tensor:
    """The formula for one token: FFN_shared(h) + sum_e a_e (W2 gelu(W1 h + b1) + b2)."""
    y = moe.shared(h)
    if group not in (Group.T2I, Group.MMU):
        return y
    experts = moe.groups[Group(group).name.lower()]
    p = F.linear(h, experts.router).softmax(-1)
    best = sorted(range(len(p)), key=lambda e: (-float(p[e].detach()), e))[: experts.top_k]
    for e in best:
        hidden = F.gelu(experts.fc1_weight[e] @ h + experts.fc1_bias[e], approximate="tanh")
        y = y + p[e] / p[best].sum() * (experts.fc2_weight[e] @ hidden + experts.fc2_bias[e])
    return y


def test_grouped_experts_equal_the_formula_token_by_token(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config)
    h = torch.randn(2, 9, tiny_config.width, generator=generator(1), dtype=torch.float64)
    group = torch.randint(-1, 3, (2, 9), generator=generator(2))
    y, _ = moe(h, TokenGroups.of(group))
    for b in range(2):
        for place in range(9):
            expected = token_by_token(moe, h[b, place], int(group[b, place]))
            torch.testing.assert_close(y[b, place], expected, rtol=0, atol=1e-12)


def test_balance_is_per_group_and_ignores_pads(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config)
    h = torch.randn(1, 10, tiny_config.width, generator=generator(1), dtype=torch.float64)
    group = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0, -1, -1]])
    _, routings = moe(h, TokenGroups.of(group))
    for name, rows in (("t2i", slice(0, 3)), ("mmu", slice(3, 7))):
        _, chosen, p = top_k_gates(F.linear(h[0, rows], moe.groups[name].router), tiny_config.top_k)
        assert routings[name].load().balance().item() == pytest.approx(
            Routing(p, chosen).load().balance().item(), abs=1e-12
        )
    _, only = moe(h, TokenGroups.of(group.clamp_max(1)))
    assert [name for name, routing in only.items() if len(routing.chosen)] == [
        "t2i"
    ]  # an absent group contributes nothing


NAMES = {"t2i": ("copy", "zero", "noise", "copy"), "mmu": ("clip", "face", "copy", "copy")}


@pytest.mark.parametrize("group", NAMES)
def test_sequence_experts_equal_the_plain_weighted_sum(tiny_config: ModelConfig, group: str) -> None:
    """sum_e a_e E_e(z) with the formulas of the table, for every pair of selected experts."""
    names = NAMES[group]
    experts = SequenceExperts(names, tiny_config).double()
    rows = 6
    z = torch.randn(rows, tiny_config.positions, tiny_config.width, generator=generator(1), dtype=torch.float64)
    shape = (rows, tiny_config.positions, tiny_config.resampler)
    s = {name: torch.randn(shape, generator=generator(i), dtype=torch.float64) for i, name in enumerate(experts.rho)}
    for one in range(4):
        for two in range(one):
            with torch.no_grad():
                experts.router.bias.fill_(-5)
                experts.router.bias[[one, two]] = 5.0
            y, gates = experts(z, SpanFeatures(s), Exploration())
            logits = experts.router(experts.norm(z).mean(1))
            a = logits[:, [one, two]].softmax(-1)
            expected = sum(
                a[:, slot, None, None] * one_expert(experts, names[e], z, s) for slot, e in enumerate((one, two))
            )
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(gates[:, [one, two]], a, rtol=0, atol=1e-12)


def one_expert(experts: SequenceExperts, name: str, z: Tensor, s: dict[str, Tensor]) -> Tensor:
    """E(z): z, 0, or w z + (1 - w) S(F)."""
    if name in ("copy", "zero"):
        return z if name == "copy" else torch.zeros_like(z)
    w = 1 - experts.rho[name]
    return w * z + (1 - w) * experts.projections[name](s[name])
