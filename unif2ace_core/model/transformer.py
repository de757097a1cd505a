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
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, Group, ModelConfig
from unif2ace_core.model.attention import Attention, rotary_angles
from unif2ace_core.model.cache import KeyValueCache, LayerCache
from unif2ace_core.model.resampler import Resampler
from unif2ace_core.model.sequence_moe import (
    FEATURES,
    ZERO_BIAS,
    Exploration,
    SequenceExperts,
    SequenceMoE,
    SpanFeatures,
)
from unif2ace_core.model.token_moe import FeedForward, RoutedExperts, Routing, TokenGroups, TokenMoE

FEATURES_OF = {Group.T2I.name.lower(): ("noise",), Group.MMU.name.lower(): ("clip", "face")}


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
    routings: list[dict[str, Routing]]  # per MoE layer: how the tokens of each group were routed
    gates: list[dict[str, Tensor]] = field(default_factory=list)  # per MoE layer and group (R, 4)


@dataclass
class Surroundings:
    """What all blocks of a forward pass share; shapes as in `UniF2ace.forward`."""

    angles: tuple[Tensor, Tensor]  # of the rotary embedding
    mask: Tensor | None
    groups: TokenGroups
    index: Tensor  # (B, N) positions of the image codes
    rows: Mapping[str, Tensor]  # per group the rows that hold an image span; empty: no row has one
    features: Mapping[str, SpanFeatures]  # per group, of those rows
    exploration: Exploration


class Block(nn.Module):
    """One parallel block, with both MoE levels or dense."""

    def __init__(self, config: ModelConfig, moe: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.mlp: nn.Module = TokenMoE(config) if moe else FeedForward(config.width, config.ffn)
        self.sequence = SequenceMoE(config) if moe else None

    def forward(
        self, x: Tensor, around: Surroundings, draws: Tensor | None, cache: LayerCache | None
    ) -> tuple[Tensor, dict[str, Routing], dict[str, Tensor]]:
        """x (B, L, D), the layer's exploration draws (B, columns) and cache -> x, routing, sequence gates by group."""
        h = self.norm(x)
        attended = self.attention(h, around.angles, around.mask, cache)
        if self.sequence is None:
            return x + attended + self.mlp(h), {}, {}
        routed, routings = self.mlp(h, around.groups)
        x, gates = x + attended + routed, {}
        if around.rows:
            exploration = replace(around.exploration, draws=draws)
            x, gates = self.sequence(x, around.index, around.rows, around.features, exploration)
        return x, routings, gates


class Head(nn.Linear):
    """The output layer on chosen rows of the vocabulary; engines that divide weights gather them around its forward."""

    def forward(self, hidden: Tensor, rows: slice = slice(None)) -> Tensor:
        """Hidden states (..., D) -> logits (..., rows)."""
        return F.linear(hidden, self.weight[rows], self.bias[rows])


class UniF2ace(nn.Module):
    """The joint model; heads are `code_logits` and `text_logits` on chosen positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False  # trade a second forward pass for the memory of activations in training
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config, config.is_moe(i)) for i in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = Head(config.width, config.vocabulary)
        widths = {"clip": config.clip_width, "face": config.face_width, "noise": config.noise_width}
        self.resamplers = nn.ModuleDict(
            {
                name: Resampler(config.positions, config.resampler, widths[name])
                for name in FEATURES
                if name in config.sequence_t2i + config.sequence_mmu
            }
        )
        if config.code_bits:
            self.embedding_bits = nn.Linear(config.code_bits, config.width, bias=False)
            self.head_bits = nn.Linear(config.width, config.code_bits, bias=False)

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
            x = x + self.embedding_bits(self.bit_signs(codes) * is_code.unsqueeze(-1))
        return x

    def bit_signs(self, codes: Tensor) -> Tensor:
        """Codes (...) -> their LFQ bits (..., bits) as -1.0 and +1.0, most significant first."""
        shifts = torch.arange(self.config.code_bits - 1, -1, -1, device=codes.device)
        return ((codes.unsqueeze(-1) >> shifts) & 1).float() * 2 - 1

    def resample(self, features: Features, rows: Mapping[str, Tensor]) -> dict[str, SpanFeatures]:
        """S(F(X)) before the layers' projections, once per image, for each group's rows and the experts it has."""
        found: dict[str, SpanFeatures] = {}
        for group, names in FEATURES_OF.items():
            if group not in rows:
                continue
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
        group: Tensor | Group,
        span: Tensor | None = None,
        features: Features | Mapping[str, SpanFeatures] | None = None,
        cache: KeyValueCache | None = None,
        exploration: Exploration | None = None,
    ) -> Output:
        """Run the blocks.

        Args:
            ids: (B, L) token ids.
            positions: (B, L) rotary positions.
            mask: (B, 1, L, Lk) bool, True where a row sees a column; None: all visible.
            group: (B, L) task group per token, -1 on pads; or one for all tokens, which saves looking for them.
            span: (B,) index of the first image code in this input, -1 for rows without one; None: no row has one.
            features: expert features, needed where `span` is given; or what `resample` made of them.
            cache: keys and values of earlier positions; they count in Lk.
            exploration: how the sequence router explores; None: not at all.
        """
        rows, index = self.spans(group, span)
        if rows and (features is None or isinstance(features, Features)):
            features = self.resample(features or Features(), rows)
        resampled = cast("Mapping[str, SpanFeatures]", features) if rows else {}
        angles = rotary_angles(positions, self.config.rotary)
        groups = TokenGroups.of(group)
        around = Surroundings(angles, mask, groups, index, rows, resampled, exploration or Exploration())
        x, routings, output_gates, draws = self.embed(ids), [], [], iter(self.layer_draws(around.exploration))
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            moe = block.sequence is not None
            layer = (x, around, next(draws) if moe else None, None if cache is None else cache.layers[number])
            x, routing, gates = self.run(block, layer)
            if moe:
                routings.append(routing)
            if gates:
                output_gates.append(gates)
        return Output(self.norm(x), routings, output_gates)

    def layer_draws(self, exploration: Exploration) -> list[Tensor | None]:
        """The exploration draws of each MoE layer."""
        layers = sum(map(self.config.is_moe, range(self.config.layers)))
        return [None] * layers if exploration.draws is None else list(exploration.draws.unbind(1))

    def run(self, block: Block, layer: tuple[Any, ...]) -> tuple[Tensor, dict[str, Routing], dict[str, Tensor]]:
        """One block; with `checkpointing` its activations are computed again in the backward pass, not kept."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return block(*layer)
        from torch.utils.checkpoint import checkpoint

        return checkpoint(block, *layer, use_reentrant=False)

    def spans(self, group: Tensor | Group, span: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Rows of each group that hold an image span, and the (B, N) positions of the codes."""
        if span is None:
            return {}, torch.empty(0)
        index = span.clamp_min(0).unsqueeze(1) + torch.arange(self.config.positions, device=span.device)
        if isinstance(group, Group):  # then every row has a span
            return {group.name.lower(): torch.arange(len(span), device=span.device)}, index
        kinds = group.gather(1, span.clamp_min(0).unsqueeze(1)).squeeze(1)
        kinds = torch.where(span >= 0, kinds, -1)
        return {kind.name.lower(): (kinds == kind).nonzero().squeeze(1) for kind in GROUPS}, index

    def code_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits over the codebook rows only (..., K)."""
        logits = self.head(hidden, slice(self.config.code_offset, self.config.code_offset + self.config.codes))
        if self.config.code_bits:
            table = self.bit_signs(torch.arange(self.config.codes, device=hidden.device))
            logits = logits + F.linear(self.head_bits(hidden), table.to(hidden.dtype))
        return logits

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits over the text rows only (..., text_vocabulary)."""
        return self.head(hidden, slice(self.config.text_vocabulary))

    @torch.no_grad()
    def folded(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The state of the same function without per-bit embeddings (`code_bits` 0); of `weights` if given."""
        state = {name: value.clone() for name, value in (weights or self.state_dict()).items()}
        if self.config.code_bits:
            start, stop = self.config.code_offset, self.config.code_offset + self.config.codes
            table = self.bit_signs(torch.arange(self.config.codes, device=state["embedding.weight"].device))
            state["embedding.weight"][start:stop] += table @ state.pop("embedding_bits.weight").T
            state["head.weight"][start:stop] += table @ state.pop("head_bits.weight")
        return state


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters in total, in routed experts, and active for a token of one group.

    Active are the trunk with one shared expert, and of each token MoE one group's router and its top-k experts;
    the sequence MoE and the resamplers serve images, not tokens, and are not counted (reference: active per token).
    """
    total = sum(p.numel() for p in model.parameters())
    groups = [m for m in model.modules() if isinstance(m, RoutedExperts)]
    per_image = [m for m in model.modules() if isinstance(m, (SequenceMoE, Resampler))]
    routers = sum(m.router.numel() for m in groups)
    routed = sum(p.numel() for m in groups for p in m.parameters()) - routers
    chosen = sum(m.top_k * (sum(p.numel() for p in m.parameters()) - m.router.numel()) // len(m.router) for m in groups)
    copies = [m.shared_mmu for m in model.modules() if isinstance(m, TokenMoE) and m.shared_mmu is not None]
    apart = sum(p.numel() for m in [*per_image, *copies] for p in m.parameters())
    trunk = total - routed - routers - apart
    return {"total": total, "routed": routed, "active": trunk + (chosen + routers) // len(GROUPS)}
