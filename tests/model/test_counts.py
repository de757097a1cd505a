"""Parameter counts of the presets, piece by piece, on the meta device: no memory is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from unif2ace_core.config import PRESETS, ModelConfig
from unif2ace_core.model.resampler import Resampler
from unif2ace_core.model.sequence_moe import SequenceExperts
from unif2ace_core.model.token_moe import RoutedExperts, TokenMoE
from unif2ace_core.model.transformer import UniF2ace, count_parameters

# The reference's example of a mini; the embedded model's sizes were chosen by measurement.
MINI = ModelConfig(text_vocabulary=3072, codes=1024, expert_hidden=256, clip_width=128, face_width=64)
CONFIGS = {"mini": MINI, "base": PRESETS["base"], "1.8b": PRESETS["1.8b"]}
GOLDEN = {
    "mini": {
        "trunk": 8_423_435,
        "routed experts": 4_210_688,
        "token routers": 8_192,
        "sequence norms and routers": 12_320,
        "expert outputs and rho": 199_692,
        "resamplers": 53_696,
        "total": 12_908_023,
        "active": 9_480_203,
    },
    "base": {
        "trunk": 422_130_818,
        "routed experts": 100_909_056,
        "token routers": 196_608,
        "sequence norms and routers": 147_552,
        "expert outputs and rho": 7_114_788,
        "resamplers": 875_648,
        "total": 531_374_470,
        "active": 447_456_386,
    },
    "1.8b": {
        "trunk": 1_448_176_770,
        "routed experts": 403_144_704,
        "token routers": 393_216,
        "sequence norms and routers": 295_008,
        "expert outputs and rho": 18_948_132,
        "resamplers": 1_215_616,
        "total": 1_872_173_446,
        "active": 1_549_159_554,
    },
}


def on_meta(config: ModelConfig) -> UniF2ace:
    with torch.device("meta"):
        return UniF2ace(config)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def pieces(model: UniF2ace) -> dict[str, int]:
    """Counts by the rows of the published table, from the modules themselves."""
    routed = [m for m in model.modules() if isinstance(m, RoutedExperts)]
    sequence = [m for m in model.modules() if isinstance(m, SequenceExperts)]
    routers = sum(m.router.numel() for m in routed)
    found = {
        "routed experts": size(*routed) - routers,
        "token routers": routers,
        "sequence norms and routers": size(*(part for m in sequence for part in (m.norm, m.router))),
        "expert outputs and rho": size(*(part for m in sequence for part in (m.projections, m.rho))),
        "resamplers": size(*(m for m in model.modules() if isinstance(m, Resampler))),
        "total": size(model),
    }
    found["trunk"] = 2 * found["total"] - sum(found.values())
    return found | {"active": count_parameters(model)["active"]}


@pytest.mark.parametrize("name", CONFIGS)
def test_presets_have_the_published_parameter_counts(name: str) -> None:
    model = on_meta(CONFIGS[name])
    assert pieces(model) == GOLDEN[name]
    counted = count_parameters(model)
    assert (counted["total"], counted["routed"]) == (GOLDEN[name]["total"], GOLDEN[name]["routed experts"])


@pytest.mark.parametrize(
    ("width", "layers", "heads", "total", "active"),
    [(320, 8, 5, 19_396_855, 14_142_475), (384, 12, 6, 39_188_237, 28_003_851)],
)
def test_wider_minis_have_the_published_counts(width: int, layers: int, heads: int, total: int, active: int) -> None:
    config = replace(MINI, width=width, layers=layers, heads=heads, ffn=4 * width, expert_hidden=width)
    assert {"total": total, "active": active}.items() <= count_parameters(on_meta(config)).items()


def test_show_os_trunk_is_the_dense_model() -> None:
    """24 x 50,354,432 in blocks, and embedding, norm and head: 1,448,176,770."""
    model = on_meta(
        replace(PRESETS["1.8b"], moe_every=25, sequence_t2i=("copy", "zero"), sequence_mmu=("copy", "zero"))
    )
    assert size(model) == 1_448_176_770
    assert {size(block) for block in model.blocks} == {50_354_432}
    assert (size(model.embedding), size(model.norm), size(model.head)) == (119_803_904, 4_096, 119_862_402)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_block_and_an_expert_follow_the_formulas(name: str) -> None:
    config = CONFIGS[name]
    model, d, f, h = on_meta(config), config.width, config.ffn, config.expert_hidden
    block = 4 * (d * d + d) + 2 * d * f + f + d + 2 * d + 4 * (d // config.heads)
    assert size(model.blocks[0]) == block
    expert = 2 * d * h + h + d
    assert expert == {"mini": 131_584, "base": 525_568, "1.8b": 2_099_712}[name]
    routed = next(m for m in model.modules() if isinstance(m, RoutedExperts))
    assert size(routed) - routed.router.numel() == config.experts * expert
    assert [number for number, b in enumerate(model.blocks) if b.sequence is not None] == list(
        range(1, config.layers, 2)
    )


def test_tensors_of_an_moe_layer_have_the_published_shapes() -> None:
    model = on_meta(PRESETS["1.8b"])
    block = model.blocks[1]
    assert isinstance(block.mlp, TokenMoE)
    found = {name: tuple(p.shape) for name, p in block.mlp.groups["mmu"].named_parameters()}
    assert found == {
        "router": (8, 2048),
        "fc1_weight": (8, 512, 2048),
        "fc1_bias": (8, 512),
        "fc2_weight": (8, 2048, 512),
        "fc2_bias": (8, 2048),
    }
    assert tuple(block.mlp.shared.fc1.weight.shape) == (8192, 2048)
    t2i, mmu = (block.sequence.groups[group] for group in ("t2i", "mmu"))
    assert (list(t2i.rho), list(mmu.rho)) == (["noise"], ["clip", "face"])
    assert tuple(mmu.router.weight.shape) == (4, 2048) and tuple(mmu.router.bias.shape) == (4,)
    assert tuple(mmu.projections["clip"].weight.shape) == (2048, 256) and mmu.rho["clip"].shape == ()
    clip = {name: tuple(p.shape) for name, p in model.resamplers["clip"].named_parameters()}
    assert clip == {
        "queries": (256, 256),
        "norm.weight": (1024,),
        "norm.bias": (1024,),
        "q.weight": (256, 256),
        "k.weight": (256, 1024),
        "v.weight": (256, 1024),
    }


@pytest.mark.parametrize(
    ("experts", "hidden", "expected"),
    [(8, 512, 1_851_321_474), (4, 1024, 1_851_124_866), (8, 1024, 2_254_072_962)],
)
def test_other_readings_of_1_8b_with_one_shared_expert(experts: int, hidden: int, expected: int) -> None:
    config = replace(PRESETS["1.8b"], experts=experts, expert_hidden=hidden)
    found = pieces(on_meta(config))
    assert found["trunk"] + found["routed experts"] == expected


@pytest.mark.parametrize(
    ("every", "hidden", "expected"), [(4, 512, 1_851_137_154), (2, 512, 2_254_097_538), (2, 1024, 2_656_849_026)]
)
def test_other_readings_of_1_8b_with_a_shared_expert_for_each_group(every: int, hidden: int, expected: int) -> None:
    config = replace(PRESETS["1.8b"], moe_every=every, expert_hidden=hidden, shared_per_group=True)
    found = pieces(on_meta(config))
    assert found["trunk"] + found["routed experts"] == expected
