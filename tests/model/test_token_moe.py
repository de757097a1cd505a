"""Properties of the grouped token-level MoE; golden numbers of the reference, section 2.4."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.token_moe import ROWS_ALIKE, Routing, TokenGroups, TokenMoE, places, top_k_gates

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


@pytest.mark.parametrize("tokens", [0, 1, 17])
def test_every_way_to_serve_tokens_gives_the_same(tiny_config: ModelConfig, tokens: int) -> None:
    experts = random_moe(tiny_config).groups["mmu"]
    h = torch.randn(tokens, tiny_config.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gates, chosen, _ = top_k_gates(h @ experts.router.t(), experts.top_k)
        expected = experts.sliced(h, gates, chosen)
        torch.testing.assert_close(experts(h)[0], expected, rtol=0, atol=1e-6)
        if tokens == 1:
            served, routing = experts.single(h)
            torch.testing.assert_close(served, expected, rtol=0, atol=1e-6)
            assert torch.equal(routing.chosen, chosen)
        if tokens and hasattr(torch.nn.functional, "grouped_mm"):
            torch.testing.assert_close(experts.grouped(h, gates, chosen), expected, rtol=0, atol=1e-6)


def test_blocks_of_tokens_are_multiples_and_keep_their_order() -> None:
    place, blocks = places(torch.tensor([3, 0, 4, 1]), 8, 4)
    assert (place.tolist(), blocks) == ([0, 1, 2, 4, 5, 6, 7, 8], [4, 0, 4, 4])
    place, blocks = places(torch.tensor([3, 0, 4, 1]), 8, 1)
    assert (place.tolist(), blocks) == (list(range(8)), [3, 0, 4, 1])


@pytest.mark.parametrize("tokens", [0, 1, 150])
def test_products_of_few_lengths_give_the_same_outputs_and_gradients(tiny_config: ModelConfig, tokens: int) -> None:
    experts = random_moe(tiny_config).groups["mmu"]
    h = torch.randn(tokens, tiny_config.width, generator=torch.Generator().manual_seed(0))
    lengths: list[int] = []
    serve = experts.expert
    experts.expert = lambda index, h: lengths.append(len(h)) or serve(index, h)  # type: ignore[method-assign]
    found = []
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, _ = experts(h)
        found.append((y.float(), *torch.autograd.grad(y.float().square().sum(), list(experts.parameters()))))
    half = len(lengths) // 2
    assert sum(lengths[:half]) == tokens * experts.top_k and not any(n % ROWS_ALIKE for n in lengths[half:])
    for exact, near in zip(*found, strict=True):
        torch.testing.assert_close(
            near, exact, rtol=0, atol=0.05 * max(1.0, float(exact.detach().abs().max() if len(h) else 0))
        )


def test_one_group_for_all_tokens_equals_that_group_for_each(tiny_config: ModelConfig) -> None:
    for config in (tiny_config, replace(tiny_config, shared_per_group=True)):
        moe = random_moe(config).eval()
        h = torch.randn(2, 5, config.width, generator=torch.Generator().manual_seed(0))
        for kind in Group:
            each, _ = moe(h, TokenGroups.of(torch.full((2, 5), int(kind))))
            whole, routings = moe(h, TokenGroups.of(kind))
            torch.testing.assert_close(whole, each, rtol=0, atol=1e-6)
            assert list(routings) == ([] if kind is Group.TEXT else [kind.name.lower()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_routing_on_cuda_never_waits_for_the_device(tiny_config: ModelConfig) -> None:
    moe = random_moe(tiny_config).eval().to("cuda", torch.bfloat16)
    h = torch.randn(2, 64, tiny_config.width, device="cuda", dtype=torch.bfloat16)
    groups = TokenGroups.of(Group.T2I)
    with torch.no_grad():
        expected, _ = moe(h, groups)  # warm
        torch.cuda.set_sync_debug_mode("error")
        try:
            found, _ = moe(h, groups)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, expected)


def test_without_tokens_every_expert_has_a_gradient(tiny_config: ModelConfig) -> None:
    experts = random_moe(tiny_config).groups["t2i"]
    seen: list[int] = []
    serve = experts.expert
    experts.expert = lambda index, h: seen.append(index) or serve(index, h)  # type: ignore[method-assign]
    y, _ = experts(torch.zeros(0, tiny_config.width))
    y.sum().backward()
    assert seen == list(range(tiny_config.experts)) and experts.fc1_weight.grad is not None
    assert experts.fc2_bias.grad is not None and not experts.fc2_bias.grad.any()
