"""Grouped token-level MoE (paper, section 3.3; reference formulas in the docstrings).

    h ---+--> shared expert ----------------------------------------+--> y
         |    group T2I: router -> top-k of its n routed experts -->+
         +--> group MMU: router -> top-k of its n routed experts -->+

The tensor `group` alone decides which routed experts may serve a token; group 0 has the shared expert only. Routing is
dropless: a token's output depends on that token alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, ModelConfig


def top_k_gates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Router logits (T, n) -> gates (T, k) renormalised over the selection, indices (T, k), probabilities (T, n).

    At least fp32; of equal probabilities the lowest index wins, on every device (which `topk` does not promise).
    """
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    gates, chosen = ordered[:, :k], order[:, :k]
    return gates / gates.sum(-1, keepdim=True), chosen, probabilities


def balance_loss(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """sum_i f_i P_i with f_i = n / (k T) * tokens that chose i (no gradient) and P_i the mean probability.

    Shapes: probabilities (T, n), chosen (T, k). 1 for uniform probabilities, n / k for collapsed routing, 0 if empty.
    """
    if not len(probabilities):
        return probabilities.sum()
    n = probabilities.shape[1]
    load = torch.bincount(chosen.flatten(), minlength=n).to(probabilities) * (n / chosen.numel())
    return (load * probabilities.mean(0)).sum()


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

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (T, D) of this group -> weighted sum of their experts (T, D), balance loss ()."""
        gates, chosen, probabilities = top_k_gates(F.linear(h, self.router), self.top_k)
        order = chosen.flatten().argsort(stable=True)  # (token, slot) pairs sorted by expert
        counts = torch.bincount(chosen.flatten(), minlength=len(self.router)).tolist()
        rows = order // self.top_k
        slices = h[rows].split(counts)
        outputs = torch.cat([self.expert(i, part) for i, part in enumerate(slices) if len(part)])
        weighted = outputs * gates.flatten()[order].unsqueeze(1).to(outputs.dtype)
        return torch.zeros_like(weighted[: len(h)]).index_add(0, rows, weighted), balance_loss(probabilities, chosen)


class TokenMoE(nn.Module):
    """Shared expert for every token plus the routed experts of the token's group."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shared = FeedForward(config.width, config.ffn)
        self.groups = nn.ModuleDict(
            {
                group.name.lower(): RoutedExperts(config.width, config.expert_hidden, config.experts, config.top_k)
                for group in GROUPS
            }
        )

    def forward(self, h: Tensor, group: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """h (B, L, D), group (B, L) with -1 on pads -> output (B, L, D), balance loss per group present."""
        flat, groups = h.flatten(0, 1), group.flatten()
        y, losses = self.shared(flat), {}
        for kind in GROUPS:
            rows = (groups == kind).nonzero().squeeze(1)
            if len(rows):
                routed, losses[kind.name.lower()] = self.groups[kind.name.lower()](flat[rows])
                y = y.index_add(0, rows, routed.to(y.dtype))
        return y.view_as(h), losses
