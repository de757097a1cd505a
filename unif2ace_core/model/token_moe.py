"""Grouped token-level MoE (paper, section 3.3; reference formulas in the docstrings).

    h ---+--> shared expert ----------------------------------------+--> y
         |    group T2I: router -> top-k of its n routed experts -->+
         +--> group MMU: router -> top-k of its n routed experts -->+

The tensor `group` alone decides which routed experts may serve a token; group 0 has the shared expert only. Routing is
dropless: a token's output depends on that token alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, Group, ModelConfig

ROWS_ALIKE = 64  # multiple of the rows of an expert's products where each new number of rows is compiled


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


class Routing(NamedTuple):
    """Where one group's tokens of a layer went."""

    probabilities: Tensor  # (T, n), the router's
    chosen: Tensor  # (T, k)

    def load(self) -> RoutingLoad:
        """Counts and sums over the tokens."""
        tokens, experts = self.probabilities.shape
        counts = (self.chosen.unsqueeze(-1) == torch.arange(experts, device=self.chosen.device)).sum((0, 1))
        whole = torch.tensor(tokens, device=self.chosen.device)
        return RoutingLoad(counts.to(self.probabilities), self.probabilities.sum(0), whole)


@dataclass(frozen=True)
class TokenGroups:
    """Which tokens of a batch belong to each group. Made once for all layers: to find them waits for the device."""

    rows: Mapping[str, Tensor | None]  # group -> its tokens (T,) in the flattened batch; None: all tokens are its

    @classmethod
    def of(cls, group: Tensor | Group) -> TokenGroups:
        """From a group for each token (B, L), -1 on pads, or one for all of them."""
        if isinstance(group, Group):
            return cls({group.name.lower(): None} if group in GROUPS else {})
        flat = group.flatten()
        return cls({kind.name.lower(): (flat == kind).nonzero().squeeze(1) for kind in GROUPS})


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

    def forward(self, h: Tensor) -> tuple[Tensor, Routing]:
        """Tokens (T, D) of this group -> weighted sum of their experts (T, D), and how they were routed."""
        if len(h) == 1 and h.device.type == "cpu" and not torch.is_grad_enabled():
            return self.single(h)
        gates, chosen, probabilities = top_k_gates(F.linear(h, self.router), self.top_k)
        serve = self.grouped if has_grouped_product(h) else self.sliced
        return serve(h, gates, chosen), Routing(probabilities, chosen)

    def sliced(self, h: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """One expert after the other on its own tokens, which lie together once (token, slot) pairs are sorted."""
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        rows, counts = order // self.top_k, torch.bincount(flat, minlength=len(self.router))
        place, blocks = places(counts, len(rows), ROWS_ALIKE if compiles_products(h) else 1)
        own = h.index_select(0, rows)
        parts = own if sum(blocks) == len(rows) else h.new_zeros(sum(blocks), h.shape[1]).index_copy(0, place, own)
        # experts run on no tokens too: processes of a sharded run must agree on which weights have gradients
        served = torch.cat([self.expert(index, part) for index, part in enumerate(parts.split(blocks))])
        place = torch.empty_like(order).scatter_(0, order, place)
        served = served.index_select(0, place).view(len(h), self.top_k, h.shape[1])
        return torch.bmm(gates.unsqueeze(1).to(served.dtype), served).squeeze(1)  # in the product's precision, not h's

    def single(self, h: Tensor) -> tuple[Tensor, Routing]:
        """`forward` for one token where the host need not wait for the device: nothing is sorted, nothing gathered."""
        probabilities = F.linear(h, self.router).float().softmax(-1)
        shares = probabilities[0].tolist()
        chosen = sorted(range(len(shares)), key=lambda index: -shares[index])[: self.top_k]
        whole, y = sum(shares[index] for index in chosen), torch.zeros_like(h)
        for index in chosen:
            y.add_(self.expert(index, h), alpha=shares[index] / whole)
        return y, Routing(probabilities, torch.tensor([chosen]))

    def grouped(self, h: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """`sliced` as two grouped matrix products, in which the host never waits for the device."""
        flat, experts = chosen.flatten(), torch.arange(len(self.router), device=h.device)
        order = flat.argsort(stable=True)
        rows, owner = order // self.top_k, flat[order]
        ends = (flat.unsqueeze(1) == experts).sum(0).cumsum(0, dtype=torch.int32)
        hidden = F.grouped_mm(h[rows], self.fc1_weight.to(h.dtype).transpose(1, 2), offs=ends)
        hidden = F.gelu(hidden + self.fc1_bias[owner].to(h.dtype), approximate="tanh")
        served = F.grouped_mm(hidden, self.fc2_weight.to(h.dtype).transpose(1, 2), offs=ends)
        served = (served + self.fc2_bias[owner].to(h.dtype)) * gates.flatten()[order].unsqueeze(1).to(h.dtype)
        return torch.zeros_like(h).index_add(0, rows, served)


def compiles_products(h: Tensor) -> bool:
    """Whether the processor gets a kernel compiled for each new number of rows: oneDNN in bf16, under autocast.

    One takes about 2 ms, which is longer than an expert's product.
    """
    return h.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def places(counts: Tensor, tokens: int, multiple: int) -> tuple[Tensor, list[int]]:
    """Where sorted tokens go if those of each expert (n,) begin a block of a multiple of rows: (T,), sizes (n,)."""
    whole = torch.arange(tokens, device=counts.device)
    if multiple == 1:
        return whole, counts.tolist()
    blocks = -(-counts // multiple) * multiple
    shift = (blocks - counts).cumsum(0) - (blocks - counts)
    return whole + shift.repeat_interleave(counts, output_size=tokens), blocks.tolist()


def has_grouped_product(h: Tensor) -> bool:
    """Whether tokens lie where one launch serves all experts: CUDA, in the only precision that has the kernel."""
    return h.is_cuda and h.dtype == torch.bfloat16 and hasattr(F, "grouped_mm")


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

    def forward(self, h: Tensor, groups: TokenGroups) -> tuple[Tensor, dict[str, Routing]]:
        """h (B, L, D) and the groups of its tokens -> output (B, L, D), routing per group present.

        In training both groups always run, if need be on no tokens.
        """
        flat = h.flatten(0, 1)
        y, routings = self.serve_shared(flat, groups), {}
        for name, rows in groups.rows.items():
            if rows is None:
                routed, routings[name] = self.groups[name](flat)
                y = y + routed
            elif len(rows) or self.training:
                routed, routings[name] = self.groups[name](flat[rows])
                y = y.index_add(0, rows, routed.to(y.dtype))
        return y.view_as(h), routings

    def serve_shared(self, flat: Tensor, groups: TokenGroups) -> Tensor:
        """The shared part of tokens (T, D)."""
        own = groups.rows.get(Group.MMU.name.lower(), flat.new_empty(0, dtype=torch.long))
        if self.shared_mmu is None or (own is not None and not len(own) and not self.training):
            return self.shared(flat)
        if own is None:
            return self.shared_mmu(flat)
        other = torch.ones(len(flat), dtype=torch.bool, device=flat.device).index_fill(0, own, False).nonzero()[:, 0]
        parts = torch.cat([self.shared_mmu(flat[own]), self.shared(flat[other])])
        return parts[torch.cat([own, other]).argsort()]
