"""Grouped sequence-level MoE over the image span: one routing decision per image (paper, section 3.3).

    z (N, D) -> mean of LN(z) -> router -> top-2 gates a
    y = z + sum_e a_e (E_e(z) - z)                         delta form: two copies are the identity bit for bit

    generation     copy  zero  noise  copy        E(z) = z | 0 | w z + (1 - w) S(noise)
    understanding  clip  face  copy   copy        E(z) = w z + (1 - w) S(F(X))

With rho = 1 - w the deltas are 0 (copy), -z (zero) and rho (S(F) - z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from unif2ace_core.config import GROUPS, Group, ModelConfig

FEATURES = ("clip", "face", "noise")  # experts with a resampler
ZERO_BIAS = -2.0  # start of Zero's router bias: it removes the residual stream of the span


SLOT, HAPPENS, EXPERTS = 0, 1, 2  # columns of an exploration's draws; the last ones belong to the experts


@dataclass
class Exploration:
    """Replaces one selected expert by a drawn one, without which two copies would stay selected for ever.

    The numbers are drawn beforehand, so that a layer may be computed twice (activation checkpointing) and a row is
    the same on any process.
    """

    probability: float = 0.0  # per image
    zero: bool = False  # whether Zero may be drawn
    draws: Tensor | None = None  # (B, MoE layers, EXPERTS + 4) uniform in [0, 1); needed for a probability above 0


def exploration_draws(config: ModelConfig, rows: int, generator: torch.Generator) -> Tensor:
    """`Exploration.draws` of a batch: (rows, MoE layers, columns)."""
    columns = EXPERTS + max(len(config.sequence_t2i), len(config.sequence_mmu))
    layers = sum(config.is_moe(layer) for layer in range(config.layers))
    return torch.rand(rows, layers, columns, generator=generator)


@dataclass
class SpanFeatures:
    """Resampled features (R, N, d_r) of the R rows of a group, by expert; absent ones are masked out of routing.

    `available[name]` (R,) bool says for which rows an expert exists; a missing key means for all.
    """

    resampled: Mapping[str, Tensor]
    available: Mapping[str, Tensor] = field(default_factory=dict)

    def first(self, rows: int) -> SpanFeatures:
        """Those of the first rows."""
        parts = ({name: value[:rows] for name, value in each.items()} for each in (self.resampled, self.available))
        return SpanFeatures(*parts)


class SequenceExperts(nn.Module):
    """The experts of one group in one layer."""

    def __init__(self, names: tuple[str, ...], config: ModelConfig) -> None:
        super().__init__()
        self.names, self.top_k = names, config.sequence_top_k
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.router = nn.Linear(config.width, len(names))
        used = [name for name in FEATURES if name in names]
        self.projections = nn.ModuleDict({name: nn.Linear(config.resampler, config.width) for name in used})
        self.rho = nn.ParameterDict({name: nn.Parameter(torch.tensor(config.sequence_rho)) for name in used})

    def route(self, z: Tensor, features: SpanFeatures, exploration: Exploration) -> Tensor:
        """Gates (R, 4): softmax over the selected experts, exactly 0 elsewhere."""
        logits = self.router(self.norm(z).mean(1))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        for index, name in enumerate(self.names):
            if name in FEATURES:
                missing = name not in features.resampled
                there = torch.zeros(len(z), dtype=torch.bool) if missing else features.available.get(name)
                if there is not None:
                    logits[:, index] = logits[:, index].masked_fill(~there.to(logits.device), -torch.inf)
        chosen = logits.topk(self.top_k, -1).indices
        if exploration.probability and exploration.draws is not None:
            chosen = self.explore(chosen, logits, exploration.probability, exploration.zero, exploration.draws)
        selected = torch.full_like(logits, -torch.inf).scatter(1, chosen, logits.gather(1, chosen))
        return selected.softmax(-1)

    def explore(self, chosen: Tensor, logits: Tensor, probability: float, zero: bool, draws: Tensor) -> Tensor:
        """With the given probability put a uniformly drawn other expert into one of the selected slots.

        Shapes: chosen (R, k), logits (R, 4), draws (R, EXPERTS + 4) -> (R, k).
        """
        allowed = torch.ones(logits.shape, device=logits.device).scatter(1, chosen, 0.0)
        allowed = allowed * logits.isfinite()
        if not zero:
            allowed[:, [name == "zero" for name in self.names]] = 0
        drawn = (draws[:, EXPERTS : EXPERTS + len(self.names)] + 1e-6).mul(allowed).argmax(1)
        slot = (draws[:, SLOT] * chosen.shape[1]).long()
        happens = (draws[:, HAPPENS] < probability) & (allowed.sum(1) > 0)
        row = torch.arange(len(chosen), device=chosen.device)
        replaced = torch.where(happens, drawn, chosen[row, slot])
        return chosen.index_put((row, slot), replaced)

    def forward(self, z: Tensor, features: SpanFeatures, exploration: Exploration) -> tuple[Tensor, Tensor]:
        """z (R, N, D) of the rows of this group -> y (R, N, D), gates (R, 4).

        The draws of `exploration` are this layer's and these rows': (R, columns).
        """
        gates = self.route(z, features, exploration)
        y = z
        for index, name in enumerate(self.names):
            gate = gates[:, index, None, None].to(z.dtype)
            if name == "zero":
                y = y - gate * z
            elif name in features.resampled:
                y = self.blend(name, y, z, gate, features.resampled[name])
        return y, gates

    def blend(self, name: str, y: Tensor, z: Tensor, gate: Tensor, resampled: Tensor) -> Tensor:
        """y plus an expert's gated delta; gate (R, 1, 1), features (R, N, d_r).

        Where gradients are wanted every row is computed, so that processes of a sharded run agree on what has one, and
        on a device that would have to tell the host who chose; else only the rows that chose the expert.
        """
        rho = self.rho[name].to(z.dtype)
        if torch.is_grad_enabled() or z.device.type != "cpu":
            # where, not a product with 0: features of absent rows may be anything
            return y + torch.where(gate > 0, gate * rho * (self.projections[name](resampled) - z), 0.0)
        rows = gate.flatten().nonzero().squeeze(1)
        if not len(rows):
            return y
        return y.index_add(0, rows, gate[rows] * rho * (self.projections[name](resampled[rows]) - z[rows]))


class SequenceMoE(nn.Module):
    """Both groups' sequence experts of one layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        names = {Group.T2I: config.sequence_t2i, Group.MMU: config.sequence_mmu}
        self.groups = nn.ModuleDict({group.name.lower(): SequenceExperts(names[group], config) for group in GROUPS})

    def forward(
        self,
        x: Tensor,
        index: Tensor,
        rows: Mapping[str, Tensor],
        features: Mapping[str, SpanFeatures],
        exploration: Exploration,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Apply each group's experts to the spans of its rows; in training both groups always run, if need be on none.

        Args:
            x: (B, L, D).
            index: (B, N) positions of the image codes in each row.
            rows: per group the rows (R,) that belong to it.
            features: per group the resampled features of those rows.
            exploration: with the draws (B, columns) of this layer.

        Returns:
            x with the spans replaced, and the gates (R, 4) per group.
        """
        gates = {}
        for group, members in rows.items():
            if not len(members) and not self.training:
                continue
            place = (members.unsqueeze(1), index[members])
            draws = None if exploration.draws is None else exploration.draws[members]
            y, gates[group] = self.groups[group](x[place], features[group], replace(exploration, draws=draws))
            x = x.index_put(place, y.to(x.dtype))
        return x, gates
