"""The plain algorithms that the fast ones are measured against, written as published scripts of the family have them.

Generation: the whole sequence, text padded to a fixed number of slots, through the model at every step, both guidance
halves, every vocabulary row at every position. Understanding: the whole sequence again for every token of an answer,
one question at a time. Mixture: every expert over all of its tokens one after the other. Reference for what is done
there: showlab/Show-o, inference_t2i.py and inference_mmu.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.decode import TokenDecoder
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import collate, mmu_row, t2i_prefix


@dataclass
class PaddedGeneration:
    """Guided logits of a step, everything computed anew; text stands to the right of `slots` - len(text) pads."""

    model: UniF2ace
    prompt: Sequence[int]
    end: int
    slots: int  # text positions of every row
    noise: Tensor  # (1, noise_tokens, noise_width)
    guidance: float

    def row(self, prompt: Sequence[int], codes: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (1, L) of a padded row with codes (N,), and which positions are no pads (1, L)."""
        config = self.model.config
        text = t2i_prefix(prompt, self.end, config)
        pads = self.slots - len(text)
        span = [config.special("soi"), *(codes + config.code_offset).tolist(), config.special("eoi")]
        ids = [config.special("pad")] * pads + text + span
        return torch.tensor([ids]), torch.arange(len(ids)).unsqueeze(0) >= pads

    def logits(self, codes: Tensor) -> Tensor:
        """Codes (N,), masks as K -> guided logits (M, K) at the masks."""
        config = self.model.config
        rows = [self.row(prompt, codes) for prompt in (self.prompt, [])]
        ids, valid = (torch.cat(parts) for parts in zip(*rows))
        length = ids.shape[1]
        span = torch.arange(length) >= self.slots
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        mask = (causal | (span.unsqueeze(1) & span)) & valid.unsqueeze(1)
        mask |= torch.eye(length, dtype=torch.bool)
        positions = torch.arange(length).expand(2, -1)
        group = torch.full_like(ids, int(Group.T2I))
        start = torch.full((2,), self.slots + 1)
        features = Features(noise=torch.cat([self.noise, self.noise]))
        hidden = self.model(ids, positions, mask.unsqueeze(1), group, start, features).hidden
        conditional, unconditional = self.model.head(hidden)[:, self.slots + 1 : -1].unbind(0)
        guided = (1 + self.guidance) * conditional - self.guidance * unconditional
        return guided[codes == config.codes, config.code_offset : config.code_offset + config.codes]


def uncached_answer(
    model: UniF2ace, codes: Tensor, question: Sequence[int], end: int, features: Features, tokens: int
) -> list[int]:
    """So many greedy tokens about codes (N,), the whole sequence anew for each; an [end] does not stop it."""
    config, said = model.config, list[int]()
    for _ in range(tokens):
        row = mmu_row(codes.tolist(), [(question, said[: config.text_length] or None)], end, config)
        if said:  # without the [end] that a finished answer has
            for values in (row.ids, row.positions, row.turns, row.bidirectional, row.labels):
                values.pop()
        batch = collate([row], config)
        hidden = model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, features).hidden
        logits = model.head(hidden)[0, -1, : config.text_vocabulary]
        said.append(int(logits.argmax()))
    return said


def looped_experts(weights: Sequence[Tensor], h: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
    """Every expert in turn over the tokens that chose it: h (T, D), gates and chosen (T, k) -> (T, D)."""
    fc1, bias1, fc2, bias2 = weights
    y = torch.zeros_like(h)
    for expert in range(len(fc1)):
        for token, slot in (chosen == expert).nonzero().tolist():
            hidden = torch.nn.functional.gelu(fc1[expert] @ h[token] + bias1[expert], approximate="tanh")
            y[token] += gates[token, slot] * (fc2[expert] @ hidden + bias2[expert])
    return y


def reduced(base: ModelConfig, width: int) -> ModelConfig:
    """The same depth, vocabulary and sequence, narrower."""
    return replace(
        base, width=width, heads=width // 64, ffn=4 * width, expert_hidden=width // 4, resampler=64, clip_width=256,
        face_width=128, noise_width=32, noise_tokens=16,
    )  # fmt: skip


def standing_alone(model: UniF2ace, end: int) -> Any:
    """What the tasks need of a loaded model, around a transformer without an encoder or a tokenizer."""
    return SimpleNamespace(
        transformer=model,
        config=model.config,
        tokenizer=SimpleNamespace(end=end),
        device=torch.device("cpu"),
        name="bare",
        decoder=TokenDecoder.of(model),
    )
