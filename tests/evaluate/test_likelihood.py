"""Suite `likelihood`: the model as a posterior, and the bound of a model that knows nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.evaluate.likelihood import bound, caption_posterior, summary
from unif2ace_core.model.transformer import UniF2ace


def codes_of(config: ModelConfig, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(config.codes, (rows, config.positions), generator=generator)


def test_a_model_with_a_blank_head_costs_log_k_per_code(tiny_model: UniF2ace) -> None:
    with torch.no_grad():
        tiny_model.head.weight.zero_()
        tiny_model.head.bias.zero_()
    config = tiny_model.config
    estimate = bound(
        tiny_model,
        codes_of(config, 5),
        [[1, 2]] * 5,
        0,
        torch.Generator().manual_seed(0),
        batch_size=2,
        strata=4,
    )
    found = summary(estimate, config.positions, config.codes)
    assert found["nats_per_code"] == pytest.approx(math.log(config.codes), abs=1e-3)
    assert found["bits_per_image"] == pytest.approx(config.positions * math.log2(config.codes), abs=1e-2)
    assert found["standard_error"] == pytest.approx(0, abs=1e-3) and found["n"] == 5


@torch.no_grad()
def test_posterior_reads_the_codes_and_the_caption(tiny_model: UniF2ace) -> None:
    config = tiny_model.config
    x = codes_of(config, 3)
    posterior = caption_posterior(tiny_model, [[1, 2, 3], [4], []], 0, torch.Generator().manual_seed(0))
    logits = posterior(x)
    assert logits.shape == (3, config.positions, config.codes)
    masked = posterior(x.index_fill(1, torch.tensor([0]), config.codes))
    assert not torch.allclose(masked, logits)
    other = caption_posterior(tiny_model, [[9, 9, 9], [4], []], 0, torch.Generator().manual_seed(0))(x)
    assert not torch.allclose(other[0], logits[0], atol=1e-6)
    assert torch.allclose(other[1:], logits[1:], atol=1e-5)


@torch.no_grad()
def test_posterior_of_a_row_does_not_depend_on_longer_neighbours(tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, sequence_t2i=("copy", "zero", "copy", "copy"))  # no noise to be drawn
    model = UniF2ace(config).initialise(torch.Generator().manual_seed(0)).eval()
    x = codes_of(config, 2)
    together = caption_posterior(model, [[5], [1, 2, 3, 4]], 0, torch.Generator())(x)
    alone = caption_posterior(model, [[5]], 0, torch.Generator())(x[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5)
