"""The joint objective: L = mmu_weight L_MMU + L_D3Diff + lambda (L_balance,T2I + L_balance,MMU) (paper, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.diffusion.d3diff import D3DiffConfig, d3diff_loss
from unif2ace_core.model.sequence_moe import Exploration
from unif2ace_core.model.transformer import Output, UniF2ace
from unif2ace_core.tokens.sequence import IGNORE
from unif2ace_core.train.mixture import MixedBatch


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms."""

    alpha: float = 0.01  # of the score term
    mode: str = "normalized"  # of D3Diff
    terms: str = "both"  # of D3Diff: both, mask or score
    mmu_weight: float = 1.0  # of the answers' nats
    balance_weight: float = 0.01  # lambda, for both groups


def run_model(model: UniF2ace, batch: MixedBatch, exploration: Exploration | None = None) -> Output:
    """The forward pass of a mixed batch."""
    s = batch.sequences
    return model(s.ids, s.positions, s.mask, s.group, s.span, batch.features, exploration=exploration)


def generation_terms(
    model: UniF2ace, output: Output, batch: MixedBatch, config: ObjectiveConfig
) -> tuple[Tensor, dict[str, float]]:
    """L_D3Diff in nats per position over the T2I rows, and its parts."""
    rows = len(batch.targets)
    if not rows:
        return output.hidden.sum() * 0, {}
    image, position = batch.masked.mask.nonzero(as_tuple=True)
    hidden = output.hidden[image, batch.sequences.span[image] + position]
    logits = model.code_logits(hidden).float()
    d3diff = D3DiffConfig(alpha=config.alpha, mode=config.mode, terms=config.terms)  # type: ignore[arg-type]
    log_total = None
    if config.mode == "unnormalized":
        log_total = torch.logaddexp(logits.logsumexp(-1), model.text_logits(hidden).float().logsumexp(-1))
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
    return terms.loss, {"d3diff": float(terms.loss.detach()), "code_ce": per_code}


def understanding_terms(model: UniF2ace, output: Output, batch: MixedBatch) -> tuple[Tensor, dict[str, float]]:
    """L_MMU in nats per answer (sum over its tokens, mean over answers), and the share of answers wholly right."""
    labels = batch.sequences.labels
    row, column = (labels != IGNORE).nonzero(as_tuple=True)
    if not len(row):
        return output.hidden.sum() * 0, {}
    targets = labels[row, column]
    logits = model.text_logits(output.hidden[row, column]).float()
    answer = row * 1024 + batch.sequences.turns[row, column]
    _, answer = answer.unique(return_inverse=True)
    answers = int(answer.max()) + 1
    loss = F.cross_entropy(logits, targets, reduction="sum") / answers
    wrong = torch.zeros(answers, device=row.device).index_add(0, answer, (logits.argmax(-1) != targets).float())
    return loss, {"answer_nats": float(loss.detach()), "answers_right": float((wrong == 0).float().mean())}


def joint_loss(
    model: UniF2ace, batch: MixedBatch, config: ObjectiveConfig, exploration: Exploration | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The whole objective and what to log."""
    output = run_model(model, batch, exploration)
    d3diff, generation = generation_terms(model, output, batch, config)
    answers, understanding = understanding_terms(model, output, batch)
    balance = sum(output.balance.values(), start=d3diff.new_zeros(()))
    metrics = {f"balance_{name}": float(value.detach()) for name, value in output.balance.items()}
    total = d3diff + config.mmu_weight * answers + config.balance_weight * balance
    return total, generation | understanding | metrics | gate_metrics(model, output)


def gate_metrics(model: UniF2ace, output: Output) -> dict[str, float]:
    """Mean sequence gate of each named expert over images and layers."""
    names = {"t2i": model.config.sequence_t2i, "mmu": model.config.sequence_mmu}
    found: dict[str, float] = {}
    for group, experts in names.items():
        gates = [layer[group].detach().mean(0) for layer in output.gates if group in layer]
        if gates:
            mean = torch.stack(gates).mean(0)
            for name in dict.fromkeys(experts):
                share = sum(float(mean[i]) for i, other in enumerate(experts) if other == name)
                found[f"gate_{group}_{name}"] = share
    return found
