"""Suite `routing`: shares and gates add up, and say which expert it was.

pytest tests/evaluate/test_routing.py
"""

from __future__ import annotations

import pytest
import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.evaluate.routing import Asked, labels, routed
from unif2ace_core.model.transformer import Features, UniF2ace

PHOTOS = 5


def measured(model: UniF2ace) -> dict:
    config, generator = model.config, torch.Generator().manual_seed(0)
    codes = torch.randint(config.codes, (PHOTOS, config.positions), generator=generator)
    features = Features(
        clip=torch.randn(PHOTOS, 3, config.clip_width, generator=generator),
        face=torch.randn(PHOTOS, 1, config.face_width, generator=generator),
    )
    whole = Asked(codes, [[1, 2]] * PHOTOS, [[3]] * PHOTOS, features)
    return routed(model, [whole, whole], 0, generator)


@pytest.fixture
def model(tiny_config: ModelConfig) -> UniF2ace:
    return UniF2ace(tiny_config).initialise(torch.Generator().manual_seed(0)).eval().requires_grad_(False)


def test_shares_and_gates_of_every_layer_add_up_to_one(model: UniF2ace) -> None:
    found = measured(model)
    assert found["n"] == 2 * PHOTOS
    layers = [layer for layer in range(model.config.layers) if model.config.is_moe(layer)]
    assert list(found["by_layer"]) == [f"{group} layer {layer}" for group in ("t2i", "mmu") for layer in layers]
    for row in found["by_layer"].values():
        shares = [value for name, value in row.items() if name.startswith("token")]
        gates = [value for name, value in row.items() if not name.startswith(("token", "distinct"))]
        assert sum(shares) == pytest.approx(1, abs=1e-3) and sum(gates) == pytest.approx(1, abs=1e-3)
        assert 1 <= row["distinct"] <= 2 * PHOTOS


def test_a_router_that_knows_one_pair_only_is_seen_to(model: UniF2ace) -> None:
    names = model.config.sequence_mmu
    for block in model.blocks:
        if block.sequence is not None:
            router = block.sequence.groups["mmu"].router
            router.weight.zero_()
            router.bias.copy_(torch.tensor([10.0 if name in ("clip", "face") else 0.0 for name in names]))
    for layer, row in measured(model)["by_layer"].items():
        if layer.startswith("mmu"):
            assert row["clip"] == row["face"] == 0.5 and row["distinct"] == 1


def test_experts_of_one_kind_are_numbered() -> None:
    assert labels(("copy", "zero", "noise", "copy")) == ["copy 1", "zero", "noise", "copy 2"]
