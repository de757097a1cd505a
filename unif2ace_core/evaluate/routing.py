"""Suite `routing`: which experts fire in which layer.

    captions over half-masked codes -> transformer -> routing of the generation group
    questions over photos           ->             -> routing of the understanding group

Of the token level the share of choices that each expert got (even would be 1 / n), of the sequence level the mean
gate of each (they sum to 1); `distinct` counts the expert pairs or triples that images chose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.config import GROUPS, Group, ModelConfig
from unif2ace_core.evaluate.metrics import rounded
from unif2ace_core.model.token_moe import Routing
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import Row, collate, mmu_row, t2i_row

COUNT = 128  # photos where nothing else is said
MASKED = 0.5  # share of the codes that generation does not see
Routed = tuple[list[dict[str, Routing]], list[dict[str, Tensor]]]  # of `Output`: routings and gates by MoE layer


def half_masked(codes: Tensor, mask_id: int, generator: torch.Generator) -> Tensor:
    """Codes (B, N) with about half of them replaced by the mask."""
    return torch.where(torch.rand(codes.shape, generator=generator) < MASKED, mask_id, codes)


@dataclass
class Asked:
    """Photos in a batch: codes (B, N), captions and questions in BPE ids, features."""

    codes: Tensor
    prompts: Sequence[Sequence[int]]
    questions: Sequence[Sequence[int]]
    features: Features


@torch.no_grad()
def routed(model: UniF2ace, batches: Iterable[Asked], end: int, generator: torch.Generator) -> dict[str, Any]:
    """The suite's metrics for photos in batches."""
    config, device = model.config, model.norm.weight.device
    count, outputs = 0, {group: list[Routed]() for group in GROUPS}
    for batch in batches:
        count += len(batch.codes)
        noise = torch.randn(len(batch.codes), config.noise_tokens, config.noise_width, generator=generator)
        seen = half_masked(batch.codes, config.codes, generator).tolist()
        drawn = [t2i_row(prompt, codes, end, config) for prompt, codes in zip(batch.prompts, seen, strict=True)]
        pairs = zip(batch.codes.tolist(), batch.questions, strict=True)
        asked = [mmu_row(codes, [(question, None)], end, config) for codes, question in pairs]
        outputs[Group.T2I].append(run(model, drawn, Features(noise=noise.to(device))))
        outputs[Group.MMU].append(run(model, asked, batch.features))
    layers = [layer for layer in range(config.layers) if config.is_moe(layer)]
    table = {
        f"{group.name.lower()} layer {layer}": layer_row(found, number, group, config)
        for group, found in outputs.items()
        for number, layer in enumerate(layers)
    }
    return {"n": count, "by_layer": table}


def run(model: UniF2ace, rows: Sequence[Row], features: Features) -> Routed:
    """A forward pass over rows of one task."""
    batch = collate(rows, model.config).to(model.norm.weight.device)
    output = model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, features)
    return output.routings, output.gates


def layer_row(
    outputs: Sequence[Routed], number: int, group: Group, config: ModelConfig
) -> dict[str, float | int | None]:
    """Shares of the token experts and mean gates of the sequence experts of one MoE layer."""
    name = group.name.lower()
    load = torch.stack([routings[number][name].load().chosen for routings, _ in outputs]).sum(0).float().cpu()
    gates = torch.cat([each[number][name] for _, each in outputs]).float().cpu()
    experts = config.sequence_t2i if group is Group.T2I else config.sequence_mmu
    shares = {f"token {index}": rounded(share) for index, share in enumerate((load / load.sum()).tolist())}
    means = {label: rounded(value) for label, value in zip(labels(experts), gates.mean(0).tolist())}
    return {**shares, **means, "distinct": len({tuple(row) for row in (gates > 0).tolist()})}


def labels(experts: Sequence[str]) -> list[str]:
    """Names of sequence experts, numbered where there are several of a kind."""
    several = {name for name in experts if experts.count(name) > 1}
    seen: Mapping[str, list[int]] = {name: [i for i, each in enumerate(experts) if each == name] for name in several}
    return [f"{n} {seen[n].index(i) + 1}" if n in several else n for i, n in enumerate(experts)]
