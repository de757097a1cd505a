"""UniF2ace's transformer: text causal, image span bidirectional, both MoE levels in every second block.

    h = LN(x)
    z = x + Attention(h) + TokenMoE(h, group)              dense blocks: + FFN(h)
    y = z outside the image span, SequenceMoE(z[span]) inside it

The parallel block is Phi-1.5's as used by Show-o, which keeps equality with Show-o's checkpoints possible: the token
MoE takes the FFN's place and reads the same normalised input. The model knows tensors and masks, not tasks: `group`
says which experts may serve a token, `mask` who sees whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, Group, ModelConfig
from unif2ace_core.model.attention import Attention, rotary_angles
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.resampler import Resampler
from unif2ace_core.model.sequence_moe import (
    FEATURES,
    ZERO_BIAS,
    Exploration,
    SequenceExperts,
    SequenceMoE,
    SpanFeatures,
)
from unif2ace_core.model.token_moe import FeedForward, RoutedExperts, TokenMoE


@dataclass
class Features:
    """Frozen experts' outputs F(X) for the rows of a batch; None or False rows are masked out of routing."""

    clip: Tensor | None = None  # (B, T, clip_width)
    face: Tensor | None = None  # (B, 1, face_width)
    noise: Tensor | None = None  # (B, noise_tokens, noise_width), standard normal, one draw per image
    clip_available: Tensor | None = None  # (B,) bool
    face_available: Tensor | None = None  # (B,) bool


@dataclass
class Output:
    """What a forward pass yields."""

    hidden: Tensor  # (B, L, D), after the final norm
    balance: dict[str, Tensor]  # per group the balance loss, mean over MoE layers
    gates: list[dict[str, Tensor]] = field(default_factory=list)  # per MoE layer and group (R, 4)


class Block(nn.Module):
    """One parallel block, with both MoE levels or dense."""

    def __init__(self, config: ModelConfig, moe: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.mlp: nn.Module = TokenMoE(config) if moe else FeedForward(config.width, config.ffn)
        self.sequence = SequenceMoE(config) if moe else None


class UniF2ace(nn.Module):
    """The joint model; heads are `code_logits` and `text_logits` on chosen positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config, config.is_moe(i)) for i in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.vocabulary)
        widths = {"clip": config.clip_width, "face": config.face_width, "noise": config.noise_width}
        self.resamplers = nn.ModuleDict(
            {
                name: Resampler(config.positions, config.resampler, widths[name])
                for name in FEATURES
                if name in config.sequence_t2i + config.sequence_mmu
            }
        )
        if config.code_bits:
            self.embedding_bits = nn.Parameter(torch.zeros(config.code_bits, config.width))
            self.head_bits = nn.Parameter(torch.zeros(config.code_bits, config.width))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> UniF2ace:
        """Fresh weights: N(0, 0.02), residual outputs scaled down by depth, Zero experts unlikely. Returns itself."""
        residual = 0.02 / (2 * self.config.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if name.startswith("resamplers") and name.endswith("queries"):
                parameter.normal_(0, 1.0, generator=generator)  # distinct queries from the start
            elif name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim >= 2:
                small = name.endswith(("out.weight", "fc2.weight", "fc2_weight"))
                parameter.normal_(0, residual if small else 0.02, generator=generator)
        for experts in self.modules():
            if isinstance(experts, SequenceExperts):
                experts.router.bias.copy_(torch.tensor([ZERO_BIAS * (name == "zero") for name in experts.names]))
        return self

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (B, L) -> (B, L, D)."""
        x = self.embedding(ids)
        if self.config.code_bits:
            codes = ids - self.config.code_offset
            is_code = (codes >= 0) & (codes < self.config.codes)
            x = x + (self.bit_signs(codes) * is_code.unsqueeze(-1)) @ self.embedding_bits
        return x

    def bit_signs(self, codes: Tensor) -> Tensor:
        """Codes (...) -> their LFQ bits (..., bits) as -1.0 and +1.0, most significant first."""
        shifts = torch.arange(self.config.code_bits - 1, -1, -1, device=codes.device)
        return ((codes.unsqueeze(-1) >> shifts) & 1).float() * 2 - 1

    def resample(self, features: Features, rows: Mapping[str, Tensor]) -> dict[str, SpanFeatures]:
        """S(F(X)) before the layers' projections, once per image, for each group's rows and the experts it has."""
        found: dict[str, SpanFeatures] = {}
        t2i, mmu = Group.T2I.name.lower(), Group.MMU.name.lower()
        for group, names in ((t2i, ("noise",)), (mmu, ("clip", "face"))):
            given = {name: getattr(features, name) for name in names if name in self.resamplers}
            sources = {name: value for name, value in given.items() if value is not None}
            members = rows[group]
            resampled = {name: self.resamplers[name](value[members]) for name, value in sources.items()}
            marks = {name: getattr(features, f"{name}_available", None) for name in sources}
            available = {name: mark[members] for name, mark in marks.items() if mark is not None}
            found[group] = SpanFeatures(resampled, available)
        return found

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        group: Tensor,
        span: Tensor | None = None,
        features: Features | None = None,
        cache: KeyValueCache | None = None,
        exploration: Exploration | None = None,
    ) -> Output:
        """Run the blocks.

        Args:
            ids: (B, L) token ids.
            positions: (B, L) rotary positions.
            mask: (B, 1, L, Lk) bool, True where a row sees a column; None: all visible.
            group: (B, L) task group per token, -1 on pads.
            span: (B,) index of the first image code in this input, -1 for rows without one; None: no row has one.
            features: expert features; needed where `span` is given.
            cache: keys and values of earlier positions; they count in Lk.
            exploration: how the sequence router explores; None: not at all.
        """
        x, angles = self.embed(ids), rotary_angles(positions, self.config.rotary)
        rows, index = self.spans(group, span)
        resampled = self.resample(features or Features(), rows) if rows else {}
        balance: dict[str, list[Tensor]] = {kind.name.lower(): [] for kind in GROUPS}
        gates = []
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            h = block.norm(x)
            attended = block.attention(h, angles, mask, None if cache is None else cache.layers[number])
            if block.sequence is None:
                x = x + attended + block.mlp(h)
                continue
            routed, losses = block.mlp(h, group)
            x = x + attended + routed
            for name, loss in losses.items():
                balance[name].append(loss)
            if rows:
                x, chosen = block.sequence(x, index, rows, resampled, exploration or Exploration())
                gates.append(chosen)
        means = {name: torch.stack(found).mean() for name, found in balance.items() if found}
        return Output(self.norm(x), means, gates)

    def spans(self, group: Tensor, span: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Rows of each group that hold an image span, and the (B, N) positions of the codes."""
        if span is None:
            return {}, group
        index = span.clamp_min(0).unsqueeze(1) + torch.arange(self.config.positions, device=span.device)
        kinds = group.gather(1, span.clamp_min(0).unsqueeze(1)).squeeze(1)
        kinds = torch.where(span >= 0, kinds, -1)
        return {kind.name.lower(): (kinds == kind).nonzero().squeeze(1) for kind in GROUPS}, index

    def code_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits over the codebook rows only (..., K)."""
        start, stop = self.config.code_offset, self.config.code_offset + self.config.codes
        logits = F.linear(hidden, self.head.weight[start:stop], self.head.bias[start:stop])
        if self.config.code_bits:
            table = self.bit_signs(torch.arange(self.config.codes, device=hidden.device))
            logits = logits + F.linear(F.linear(hidden, self.head_bits), table.to(hidden.dtype))
        return logits

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits over the text rows only (..., text_vocabulary)."""
        stop = self.config.text_vocabulary
        return F.linear(hidden, self.head.weight[:stop], self.head.bias[:stop])

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The state of the same function without per-bit embeddings (`code_bits` 0)."""
        state = {name: value.clone() for name, value in self.state_dict().items()}
        if self.config.code_bits:
            start, stop = self.config.code_offset, self.config.code_offset + self.config.codes
            table = self.bit_signs(torch.arange(self.config.codes, device=state["embedding.weight"].device))
            state["embedding.weight"][start:stop] += table @ state.pop("embedding_bits")
            state["head.weight"][start:stop] += table @ state.pop("head_bits")
        return state


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters in total, in routed experts, and active for a token of one group.

    Active are the trunk with the shared experts, and of each token MoE one group's router and its top-k experts;
    the sequence MoE and the resamplers serve images, not tokens, and are not counted (reference: active per token).
    """
    total = sum(p.numel() for p in model.parameters())
    groups = [m for m in model.modules() if isinstance(m, RoutedExperts)]
    per_image = [m for m in model.modules() if isinstance(m, (SequenceMoE, Resampler))]
    routers = sum(m.router.numel() for m in groups)
    routed = sum(p.numel() for m in groups for p in m.parameters()) - routers
    chosen = sum(m.top_k * (sum(p.numel() for p in m.parameters()) - m.router.numel()) // len(m.router) for m in groups)
    trunk = total - routed - routers - sum(p.numel() for m in per_image for p in m.parameters())
    return {"total": total, "routed": routed, "active": trunk + (chosen + routers) // len(GROUPS)}
