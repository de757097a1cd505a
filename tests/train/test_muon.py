"""Muon turns matrices and leaves everything else to AdamW.

pytest tests/train/test_muon.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import train_toys as toys

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.train.loop import build_optimizer, train
from unif2ace_core.train.muon import Muon, is_turned, orthogonalised
from unif2ace_core.train.options import TrainConfig
from unif2ace_core.weights.store import load_tensors

QUICK = TrainConfig(steps=4, warmup=1, threads=1, optimizer="muon", batch_size=4, save_every=2, eval_every=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 40), (40, 64), (3, 48, 48)])
def test_singular_values_come_near_one_in_a_matrix_and_in_each_of_a_stack(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = orthogonalised(matrix, dtype)
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.6 and values.max() < 1.3 and turned.dtype == matrix.dtype
    near = 1e-3 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(orthogonalised(1000 * matrix, dtype), turned, rtol=near, atol=near)


def test_maps_are_turned_and_tables_routers_and_biases_are_not() -> None:
    turned = {"blocks.0.attention.qkv.weight": (768, 256), "blocks.1.mlp.groups.mmu.fc1_weight": (4, 192, 256)}
    left = {
        "embedding.weight": (1000, 256),
        "head.weight": (1000, 256),
        "resamplers.clip.queries": (64, 64),
        "blocks.1.mlp.groups.mmu.router": (4, 256),
        "blocks.1.mlp.groups.mmu.fc1_bias": (64, 192),
        "mlp.groups.t2i.router": (64, 256),
        "token_embedding.weight": (1000, 128),
        "norm.bias": (256,),
        "tower.stem.weight": (32, 32, 64, 64),
    }
    assert all(is_turned(name, torch.empty(shape)) for name, shape in turned.items())
    assert not any(is_turned(name, torch.empty(shape)) for name, shape in left.items())


def test_a_matrix_moves_as_far_as_the_learning_rate_says_and_a_bias_as_under_adamw() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 64)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = build_optimizer(module, TrainConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.0))
    module(torch.randn(8, 64)).square().sum().backward()
    optimizer.step()
    moved = {name: (p.detach() - before[name]).square().mean().sqrt().item() for name, p in module.named_parameters()}
    assert moved["bias"] == pytest.approx(0.01, rel=1e-3)
    assert 0.0005 < moved["weight"] < 0.0025  # 0.2 lr, less where the gradient has fewer ranks than the matrix
    assert isinstance(optimizer, Muon)


def test_a_matrix_without_a_gradient_stays_where_it_is() -> None:
    module = torch.nn.Linear(64, 64)
    optimizer = build_optimizer(module, TrainConfig(optimizer="muon", weight_decay=0.0))
    module(torch.randn(8, 64)).square().sum().backward()
    optimizer.step()
    before = module.weight.detach().clone()
    for _ in range(3):
        module.weight.grad = torch.zeros_like(module.weight)
        optimizer.step()
    assert torch.equal(module.weight, before)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tiny_config: ModelConfig, tmp_path: Path) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(toys.tiny_task(tiny_config), QUICK, whole)
    train(toys.tiny_task(tiny_config), QUICK, halved)
    for path in sorted((halved / "checkpoints").glob("*"))[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    train(toys.tiny_task(tiny_config), QUICK, halved, resume=True)
    first, again = (load_tensors(folder / "export" / "model.safetensors") for folder in (whole, halved))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_optimizer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="adamw, adamw8bit, muon"):
        TrainConfig(optimizer="lion")
