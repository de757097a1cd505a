"""The joint objective: L = mmu_weight L_MMU + L_D3Diff + lambda_t2i L_balance,T2I + lambda_mmu L_balance,MMU.

Paper, section 3. Every term is an average over all rows of a step: over its pictures, answers and tokens on all
processes. A part's loss is its share times the number of parts, so the mean over parts is the loss of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.config import GROUPS, Group
from unif2ace_core.diffusion.d3diff import D3DiffConfig, d3diff_loss
from unif2ace_core.model.sequence_moe import Exploration
from unif2ace_core.model.token_moe import Routing, RoutingLoad
from unif2ace_core.model.transformer import Features, Output, UniF2ace
from unif2ace_core.tokens.sequence import IGNORE
from unif2ace_core.train.mixture import MixedBatch
from unif2ace_core.train.processes import sum_over_processes, world_size
from unif2ace_core.train.soft_targets import SoftTargets


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms."""

    alpha: float = 0.01  # of the score term
    mode: str = "normalized"  # of D3Diff
    terms: str = "both"  # of D3Diff: both, mask or score
    mmu_weight: float = 1.0  # of the answers' nats
    balance_t2i: float = 0.01  # lambda of the generation group
    balance_mmu: float = 0.01  # lambda of the understanding group


def run_model(model: UniF2ace, batch: MixedBatch, exploration: Exploration | None = None) -> Output:
    """The forward pass of a mixed batch; pictures and answers apart, which saves most of the pads, where it says so."""
    if batch.lengths is None:
        return run_rows(model, batch, slice(None), batch.sequences.ids.shape[1], exploration)
    drawn = len(batch.targets)
    places = zip((slice(drawn), slice(drawn, None)), batch.lengths, strict=True)
    return joined([run_rows(model, batch, rows, length, exploration) for rows, length in places])


def run_rows(
    model: UniF2ace, batch: MixedBatch, rows: slice, length: int, exploration: Exploration | None = None
) -> Output:
    """The forward pass of some rows, of which no more than `length` tokens are no pads."""
    s, place = batch.sequences, (rows, slice(length))
    given = {name: value if value is None else value[rows] for name, value in vars(batch.features).items()}
    if exploration is not None and exploration.draws is not None:
        exploration = replace(exploration, draws=exploration.draws[rows])
    mask = s.mask[rows, :, :length, :length]
    inputs = s.ids[place], s.positions[place], mask, s.group[place], s.span[rows]
    return model(*inputs, Features(**given), exploration=exploration)


def joined(parts: Sequence[Output]) -> Output:
    """Outputs of parts of a batch as one of the whole, padded to the longest."""
    length = max(part.hidden.shape[1] for part in parts)
    hidden = torch.cat([F.pad(part.hidden, (0, 0, 0, length - part.hidden.shape[1])) for part in parts])
    routings = [
        {name: Routing(*map(torch.cat, zip(*found, strict=True))) for name, found in by_group(layers).items()}
        for layers in zip(*(part.routings for part in parts), strict=True)
    ]
    gates = zip(*(part.gates for part in parts), strict=True)
    return Output(
        hidden, routings, [{name: torch.cat(found) for name, found in by_group(layers).items()} for layers in gates]
    )


Value = TypeVar("Value")


def by_group(layers: Iterable[Mapping[str, Value]]) -> dict[str, list[Value]]:
    """What the parts have of each group."""
    found: dict[str, list[Value]] = {}
    for layer in layers:
        for name, value in layer.items():
            found.setdefault(name, []).append(value)
    return found


def no_loss(output: Output, logits: Tensor) -> Tensor:
    """0 that reaches every weight a loss would.

    Where weights are divided, processes must call the same modules in the same order and have the same gradients,
    whatever tasks their rows hold: so a head is called on no position rather than not at all.
    """
    return (output.hidden.sum() + logits.sum()) * 0


def generation_terms(
    model: UniF2ace, output: Output, batch: MixedBatch, config: ObjectiveConfig
) -> tuple[Tensor, dict[str, float]]:
    """L_D3Diff in nats per position over the T2I rows, and its parts."""
    rows = len(batch.targets)
    image, position = batch.masked.mask.nonzero(as_tuple=True)
    hidden = output.hidden[image, batch.sequences.span[image] + position]
    logits = model.code_logits(hidden).float()
    d3diff = D3DiffConfig(alpha=config.alpha, mode=config.mode, terms=config.terms)  # type: ignore[arg-type]
    log_total = None
    if config.mode == "unnormalized":
        log_total = torch.logaddexp(logits.logsumexp(-1), model.text_logits(hidden).float().logsumexp(-1))
    if not rows:  # of this part, but its share of the logged mean is 0 where other parts have some
        return no_loss(output, logits), {"d3diff": 0.0} if float(batch.denominators[0]) else {}
    terms = d3diff_loss(
        logits,
        batch.targets[image, position],
        image,
        batch.masked.weight,
        model.config.positions,
        d3diff,
        log_total=log_total,
        mask_probability=batch.masked.mask_probability,
    )
    per_code = float(terms.image_ce.sum() / max(1, len(image)))
    loss = terms.loss * (rows / batch.denominators[0])
    return loss, {"d3diff": float(loss.detach()), "code_ce": per_code}


def understanding_terms(model: UniF2ace, output: Output, batch: MixedBatch) -> tuple[Tensor, dict[str, float]]:
    """L_MMU in nats per answer (sum over its tokens, mean over answers), and the share of answers wholly right.

    Nats are those of soft targets where the batch has some, and then never 0.
    """
    labels = batch.sequences.labels
    row, column = (labels != IGNORE).nonzero(as_tuple=True)
    targets = labels[row, column]
    logits = model.text_logits(output.hidden[row, column]).float()
    if not len(row):
        return no_loss(output, logits), {"answer_nats": 0.0} if float(batch.denominators[1]) else {}
    answer = row * 1024 + batch.sequences.turns[row, column]
    _, answer = answer.unique(return_inverse=True)
    answers = int(answer.max()) + 1
    nats = F.cross_entropy(logits, targets, reduction="sum")
    if batch.doubted is not None:
        nats = nats + doubted_nats(logits, targets, labels, batch.doubted)
    loss = nats / batch.denominators[1]
    wrong = torch.zeros(answers, device=row.device).index_add(0, answer, (logits.argmax(-1) != targets).float())
    return loss, {"answer_nats": float(loss.detach()), "answers_right": float((wrong == 0).float().mean())}


def doubted_nats(logits: Tensor, targets: Tensor, labels: Tensor, doubted: SoftTargets) -> Tensor:
    """What soft targets add to the summed cross-entropy of `targets` (A,), to which logits (A, V) belong.

    A share s of a target goes to another token: (1 - s) CE(target) + s CE(other) = CE(target) + s (z_target - z_other).
    """
    place = labels.new_full(labels.shape, -1)
    place[labels != IGNORE] = torch.arange(len(targets), device=labels.device)
    found = place[doubted.row, doubted.column]
    return (doubted.share * (logits[found, targets[found]] - logits[found, doubted.other])).sum()


def balance_terms(output: Output) -> dict[str, Tensor]:
    """L_balance of each group that has tokens on any process, mean over MoE layers.

    Loads and probabilities are summed over processes before they are multiplied; the gradient of a process is that of
    its own tokens, which the mean over processes turns into the gradient of the sum.
    """
    found: dict[str, Tensor] = {}
    for name in (kind.name.lower() for kind in GROUPS):
        layers = [layer[name].load() for layer in output.routings if name in layer]
        if not layers:
            continue
        own = torch.stack([load.probability for load in layers])  # (layers, n)
        counts = [torch.cat([load.chosen, load.tokens.to(load.chosen)[None]]) for load in layers]
        totals = sum_over_processes(torch.cat([own, torch.stack(counts)], 1))
        n, processes = own.shape[1], world_size()
        probability = processes * own + (totals[:, :n] - processes * own).detach()
        whole = RoutingLoad(totals[:, n:-1], probability, totals[:, -1])
        if float(whole.tokens.sum()):
            found[name] = whole.balance().mean()
    return found


def joint_loss(
    model: UniF2ace, batch: MixedBatch, config: ObjectiveConfig, exploration: Exploration | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The whole objective and what to log."""
    output = run_model(model, batch, exploration)
    d3diff, generation = generation_terms(model, output, batch, config)
    answers, understanding = understanding_terms(model, output, batch)
    balance = balance_terms(output)
    metrics = {f"balance_{name}": float(value.detach()) for name, value in balance.items()}
    weights = {Group.T2I.name.lower(): config.balance_t2i, Group.MMU.name.lower(): config.balance_mmu}
    total = d3diff + config.mmu_weight * answers
    total = total + sum((weights[name] * value for name, value in balance.items()), start=total.new_zeros(()))
    return total, generation | understanding | metrics | gate_metrics(model, output)


def gate_metrics(model: UniF2ace, output: Output) -> dict[str, float]:
    """Mean sequence gate of each named expert over images and layers."""
    names = {"t2i": model.config.sequence_t2i, "mmu": model.config.sequence_mmu}
    found: dict[str, float] = {}
    for group, experts in names.items():
        gates = [layer[group].detach().mean(0) for layer in output.gates if len(layer.get(group, ()))]
        if gates:
            mean = torch.stack(gates).mean(0)
            for name in dict.fromkeys(experts):
                share = sum(float(mean[i]) for i, other in enumerate(experts) if other == name)
                found[f"gate_{group}_{name}"] = share
    return found
