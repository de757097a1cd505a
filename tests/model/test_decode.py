"""One token at a time over packed weights gives what the model's own pass gives, and the model stays what it was.

pytest tests/model/test_decode.py
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.attention import rotary_angles, rotate
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.decode import TokenDecoder, rotation
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.weights.quantized import quantize_state
from unif2ace_core.weights.quantized_layers import Layers, cpu_layer, quantized_transformer
from unif2ace_core.weights.store import load_tensors, save_tensors

KINDS = {
    "tied": {},
    "shared_per_group": {"shared_per_group": True},
    "dense": {"moe_every": 99},
    "bits": {"code_bits": 6},
}
LENGTH = 7


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tiny_config: ModelConfig) -> UniF2ace:
    config = replace(tiny_config, **KINDS[request.param])
    model, generator = UniF2ace(config).eval().requires_grad_(False), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(0.1, 0.3, generator=generator)
    return model


@torch.no_grad()
def test_tokens_one_by_one_equal_the_whole_sequence(model: UniF2ace, tiny_config: ModelConfig) -> None:
    ids = torch.randint(tiny_config.text_vocabulary, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    causal = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    whole = model(ids, torch.arange(LENGTH).unsqueeze(0), causal, Group.MMU).hidden[0]
    decoder, cache = TokenDecoder.of(model), KeyValueCache(tiny_config.layers)
    assert decoder is not None
    found = [decoder.step(token, place, cache) for place, token in enumerate(ids[0].split(1))]
    torch.testing.assert_close(torch.cat(found), whole, rtol=1e-5, atol=1e-5)
    assert len(cache) == LENGTH


@torch.no_grad()
def test_a_packed_model_is_the_same_model_and_holds_nothing_twice(model: UniF2ace, tmp_path: Path) -> None:
    before, held = copy.deepcopy(model.state_dict()), sum(p.untyped_storage().nbytes() for p in model.parameters())
    decoder = TokenDecoder.of(model)
    assert decoder is not None
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    assert sum(storages.values()) == held
    assert {block.w_in.untyped_storage().data_ptr() for block in decoder.blocks} <= set(storages)
    save_tensors(tmp_path / "packed.safetensors", model.state_dict())
    for name, value in load_tensors(tmp_path / "packed.safetensors").items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_a_model_packed_in_inference_mode_is_of_use_outside_it(tiny_model: UniF2ace) -> None:
    ids = torch.zeros(1, 3, dtype=torch.long)
    tiny_model.requires_grad_(False)
    with torch.inference_mode():
        assert TokenDecoder.of(tiny_model) is not None
    assert not tiny_model(ids, torch.arange(3).unsqueeze(0), None, Group.MMU).hidden.is_inference()


@pytest.mark.parametrize("rotary", [0, 4, 16])
@pytest.mark.parametrize("position", [0, 1, 300])
def test_one_product_turns_like_the_rotary_embedding(position: int, rotary: int, tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, rotary=rotary)
    rows = torch.randn(3, config.width // config.heads, generator=torch.Generator().manual_seed(2))
    turned = rotate(rows.view(1, 3, 1, -1), *rotary_angles(torch.tensor([[position]]), rotary))
    torch.testing.assert_close(rows @ rotation(position, config), turned.view_as(rows))


def test_models_in_training_or_other_precisions_are_not_packed(tiny_config: ModelConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    model = UniF2ace(tiny_config).initialise(generator)
    assert TokenDecoder.of(model) is None
    assert TokenDecoder.of(copy.deepcopy(model).requires_grad_(False).bfloat16()) is None
    tensors = quantize_state(model.state_dict(), 8)
    quantized = quantized_transformer(tiny_config, tensors, Layers(lambda shape: True, cpu_layer), Path("made up"))
    assert TokenDecoder.of(quantized) is None
