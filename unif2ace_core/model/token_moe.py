"""Grouped token-level MoE (paper, section 3.3; reference formulas in the docstrings).

    h ---+--> shared expert ----------------------------------------+--> y
         |    group T2I: router -> top-k of its n routed experts -->+
         +--> group MMU: router -> top-k of its n routed experts -->+

The tensor `group` alone decides which routed experts may serve a token; group 0 has the shared expert only. Routing is
dropless: a token's output depends on that token alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, Group, ModelConfig


def top_k_gates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Router logits (T, n) -> gates (T, k) renormalised over the selection, indices (T, k), probabilities (T, n).

    At least fp32; of equal probabilities the lowest index wins, on every device (which `topk` does not promise).
    """
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    gates, chosen = ordered[:, :k], order[:, :k]
    return gates / gates.sum(-1, keepdim=True), chosen, probabilities


class RoutingLoad(NamedTuple):
    """What one group's tokens of a layer did: enough for the balance loss, and sums over layers or processes."""

    chosen: Tensor  # (..., n) tokens that chose each expert, without gradient
    probability: Tensor  # (..., n) router probabilities summed over the tokens
    tokens: Tensor  # (...) T

    def balance(self) -> Tensor:
        """(...) sum_i f_i P_i with f_i = n / (k T) * chosen_i and P_i the mean probability.

        1 for uniform probabilities, n / k for collapsed routing, 0 without tokens.
        """
        load = self.chosen.shape[-1] * self.chosen / self.chosen.sum(-1, keepdim=True).clamp_min(1)
        return (load * self.probability).sum(-1) / self.tokens.clamp_min(1)


def routing_load(probabilities: Tensor, chosen: Tensor) -> RoutingLoad:
    """Shapes: probabilities (T, n), chosen (T, k)."""
    counts = torch.bincount(chosen.flatten(), minlength=probabilities.shape[1])
    return RoutingLoad(
        counts.to(probabilities), probabilities.sum(0), torch.tensor(len(probabilities), device=probabilities.device)
    )


class FeedForward(nn.Module):
    """W2 gelu(W1 h + b1) + b2 with tanh-GELU: the dense block's FFN and the shared expert."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(h), approximate="tanh"))


class RoutedExperts(nn.Module):
    """The n routed experts of one group with their router; weights are stacked for grouped products."""

    def __init__(self, width: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.router = nn.Parameter(torch.empty(experts, width))
        self.fc1_weight = nn.Parameter(torch.empty(experts, hidden, width))
        self.fc1_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.fc2_weight = nn.Parameter(torch.empty(experts, width, hidden))
        self.fc2_bias = nn.Parameter(torch.zeros(experts, width))

    def expert(self, index: int, h: Tensor) -> Tensor:
        """One expert on its tokens: (T, D) -> (T, D)."""
        hidden = F.gelu(F.linear(h, self.fc1_weight[index], self.fc1_bias[index]), approximate="tanh")
        return F.linear(hidden, self.fc2_weight[index], self.fc2_bias[index])

    def forward(self, h: Tensor) -> tuple[Tensor, RoutingLoad]:
        """Tokens (T, D) of this group -> weighted sum of their experts (T, D), and how they were routed."""
        gates, chosen, probabilities = top_k_gates(F.linear(h, self.router), self.top_k)
        load = routing_load(probabilities, chosen)
        order = chosen.flatten().argsort(stable=True)  # (token, slot) pairs sorted by expert
        rows = order // self.top_k
        slices = h[rows].split(load.chosen.int().tolist())
        # without tokens the experts run on none: processes of a sharded run must agree on which weights have gradients
        outputs = torch.cat([self.expert(i, part) for i, part in enumerate(slices) if len(part) or not len(h)])
        weighted = outputs * gates.flatten()[order].unsqueeze(1).to(outputs.dtype)
        return torch.zeros_like(weighted[: len(h)]).index_add(0, rows, weighted), load


class TokenMoE(nn.Module):
    """Shared expert for every token plus the routed experts of the token's group.

    With `shared_per_group` each group has a shared expert of its own, and group 0 (text only) uses generation's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shared = FeedForward(config.width, config.ffn)
        self.shared_mmu = FeedForward(config.width, config.ffn) if config.shared_per_group else None
        self.groups = nn.ModuleDict(
            {
                group.name.lower(): RoutedExperts(config.width, config.expert_hidden, config.experts, config.top_k)
                for group in GROUPS
            }
        )

    def forward(self, h: Tensor, group: Tensor) -> tuple[Tensor, dict[str, RoutingLoad]]:
        """h (B, L, D), group (B, L) with -1 on pads -> output (B, L, D), load per group present.

        In training both groups always run, if need be on no tokens.
        """
        flat, groups = h.flatten(0, 1), group.flatten()
        y, loads = self.serve_shared(flat, groups), {}
        for kind in GROUPS:
            rows = (groups == kind).nonzero().squeeze(1)
            if len(rows) or self.training:
                routed, loads[kind.name.lower()] = self.groups[kind.name.lower()](flat[rows])
                y = y.index_add(0, rows, routed.to(y.dtype))
        return y.view_as(h), loads

    def serve_shared(self, flat: Tensor, groups: Tensor) -> Tensor:
        """The shared part of tokens (T, D) of groups (T,)."""
        if self.shared_mmu is None:
            return self.shared(flat)
        of_mmu = groups == Group.MMU
        own, other = of_mmu.nonzero().squeeze(1), (~of_mmu).nonzero().squeeze(1)
        parts = torch.cat([self.shared_mmu(flat[own]), self.shared(flat[other])])
        return parts[torch.cat([own, other]).argsort()]
