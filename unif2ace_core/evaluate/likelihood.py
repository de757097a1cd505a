"""Suite `likelihood`: the bound L1_inf on -log p(codes | caption) of held-out photos (reference.md 3.2).

    N / k CE_S with k uniform and stratified, S of k masked positions: unbiased, nats per image

It is a bound on the codes of the model's own codec: models with different codecs can't be compared by it. The
same without a caption tells what the captions are worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.diffusion.bounds import BoundEstimate, estimate_bound
from unif2ace_core.diffusion.samplers import Posterior
from unif2ace_core.evaluate.metrics import rounded
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import collate, t2i_row

COUNT = 256  # photos where nothing else is said
STRATA = 8  # mask counts per photo


def caption_posterior(
    model: UniF2ace, prompts: Sequence[Sequence[int]], end: int, generator: torch.Generator
) -> Posterior:
    """The model as x (B, N) -> logits (B, N, K) under B prompts given as BPE ids; K in x is the mask.

    The noise expert's features are drawn once per image from `generator` (CPU).
    """
    config, device = model.config, model.norm.weight.device
    blank = [config.codes] * config.positions
    batch = collate([t2i_row(prompt, blank, end, config) for prompt in prompts], config).to(device)
    noise = torch.randn(len(prompts), config.noise_tokens, config.noise_width, generator=generator)
    features = Features(noise=noise.to(device))
    place = batch.span.unsqueeze(1) + torch.arange(config.positions, device=device)

    def posterior(x: Tensor) -> Tensor:
        filled = batch.ids.scatter(1, place, x.to(device) + config.code_offset)
        hidden = model(filled, batch.positions, batch.mask, batch.group, batch.span, features).hidden
        return model.code_logits(hidden.gather(1, place.unsqueeze(2).expand(-1, -1, hidden.shape[2])))

    return posterior


@torch.no_grad()
def bound(
    model: UniF2ace,
    codes: Tensor,
    prompts: Sequence[Sequence[int]],
    end: int,
    generator: torch.Generator,
    batch_size: int = 32,
    strata: int = STRATA,
    on_progress: Callable[[int, int], None] | None = None,
) -> BoundEstimate:
    """The bound of codes (B, N) under B prompts in BPE ids; an empty prompt is the unconditional one."""
    parts = []
    for start in range(0, len(codes), batch_size):
        stop = min(start + batch_size, len(codes))
        posterior = caption_posterior(model, prompts[start:stop], end, generator)
        parts.append(estimate_bound(posterior, codes[start:stop], generator, mask_id=model.config.codes, strata=strata))
        if on_progress:
            on_progress(stop, len(codes))
    return BoundEstimate.merged(parts)


def summary(estimate: BoundEstimate, positions: int, codes: int) -> dict[str, Any]:
    """Nats and bits per image and per code, with the standard error over images and a uniform code's cost."""
    nats = estimate.nats
    return {
        "nats_per_image": rounded(nats, 3),
        "standard_error": rounded(estimate.standard_error, 3),
        "nats_per_code": rounded(nats / positions),
        "bits_per_code": rounded(nats / positions / math.log(2)),
        "bits_per_image": rounded(nats / math.log(2), 3),
        "uniform_nats_per_code": rounded(math.log(codes)),
        "n": len(estimate.draws),
        "strata": estimate.draws.shape[1],
    }
