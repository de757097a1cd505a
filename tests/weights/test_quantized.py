"""Quantized models: rounding within bounds, bitsandbytes' own numbers bit for bit, the size promised, whole folders."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.weights import quantized
from unif2ace_core.weights.quantized import (
    BLOCK,
    dequantize_int8,
    dequantize_nf4,
    dequantize_state,
    quantization_bits,
    quantize_int8,
    quantize_model,
    quantize_nf4,
    quantize_state,
    quantized_tensors,
)
from unif2ace_core.weights.store import load_tensors, save_tensors

SMALL = ModelConfig(
    width=64, layers=2, heads=2, ffn=128, rotary=16, text_vocabulary=300, codes=512, expert_hidden=32,
    resampler=32, clip_width=32, face_width=32, noise_width=16,
)  # fmt: skip


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


def small_model() -> UniF2ace:
    return UniF2ace(SMALL).initialise(torch.Generator().manual_seed(0)).eval().requires_grad_(False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model folder in fp16."""
    folder = tmp_path / "source"
    state = {name: value.half() for name, value in small_model().state_dict().items()}
    save_tensors(folder / "model.safetensors", state)
    (folder / "config.json").write_text(json.dumps({"format": "unif2ace-1", "model": asdict(SMALL)}))
    save_tensors(folder / "codec.safetensors", {"x": torch.zeros(3)})
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("shape", [(32, 64), (4, 24, 48)])
def test_int8_error_is_at_most_half_a_step_of_its_row(shape: tuple[int, ...]) -> None:
    weight = weights(*shape)
    codes, absmax = quantize_int8(weight)
    assert codes.dtype == torch.int8 and codes.shape == weight.shape and absmax.shape == weight.shape[:-1]
    error = (dequantize_int8(codes, absmax) - weight.float()).abs()
    assert bool((error <= absmax.float().unsqueeze(-1) / 254 * 1.001).all())


def test_int8_of_a_row_of_zeros_is_zero() -> None:
    codes, absmax = quantize_int8(torch.zeros(2, 8))
    assert torch.equal(dequantize_int8(codes, absmax), torch.zeros(2, 8))


@pytest.mark.parametrize("shape", [(16, 33), (3, 8, 64)])
def test_int8_numbers_are_those_of_bitsandbytes(shape: tuple[int, ...]) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    weight = weights(*shape)
    theirs, scales, _ = functional.int8_vectorwise_quant(weight.float().flatten(0, -2))
    codes, absmax = quantize_int8(weight)
    assert torch.equal(codes.flatten(0, -2), theirs) and torch.equal(absmax.flatten(), scales.half())
    back = functional.int8_vectorwise_dequant(theirs, scales)
    assert torch.allclose(dequantize_int8(codes, absmax).flatten(0, -2), back, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(16, 64), (2, 8, 192)])
def test_nf4_numbers_are_those_of_bitsandbytes(shape: tuple[int, ...]) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    weight = weights(*shape)
    weight.view(-1, BLOCK)[1] = 0  # a block of zeros
    weight.view(-1, BLOCK)[0, :4] = torch.tensor([-1.0, 0.5, 0.25, 1.0]) * 8  # exact values of the table, and ties
    theirs, state = functional.quantize_4bit(
        weight.float(), blocksize=BLOCK, quant_type="nf4", compress_statistics=False
    )
    packed, absmax = quantize_nf4(weight)
    assert torch.equal(packed.flatten(), theirs.flatten()) and torch.equal(absmax, state.absmax)
    assert torch.equal(dequantize_nf4(packed, absmax), functional.dequantize_4bit(theirs, state).view(shape))


def test_nf4_keeps_its_error_where_rows_are_no_whole_blocks() -> None:
    weight = weights(3, 5, 6)
    packed, absmax = quantize_nf4(weight)
    assert packed.shape == (3, 5, 3) and len(absmax) == 2
    assert float((dequantize_nf4(packed, absmax) - weight.float()).abs().mean()) < 0.1


def test_routers_norms_and_biases_are_not_rounded() -> None:
    state = small_model().state_dict()
    found = quantize_state(state, 8)
    kept = {name for name in state if name + ".absmax" not in found}
    assert any("router" in name for name in kept) and any("norm" in name for name in kept)
    assert not any(name.endswith(("qkv.weight", "fc1_weight", "head.weight")) for name in kept)
    assert all(torch.equal(found[name], state[name].half()) for name in kept)


def test_four_bits_keep_embedding_and_head_in_eight() -> None:
    found = quantize_state(small_model().state_dict(), 4)
    assert found["embedding.weight"].dtype == found["head.weight"].dtype == torch.int8
    assert found["blocks.0.attention.qkv.weight"].dtype == torch.uint8


@pytest.mark.parametrize(("bits", "most"), [(8, 0.6), (4, 0.45)])
def test_file_shrinks_as_promised(bits: int, most: float) -> None:
    config = replace(SMALL, width=256, heads=4, ffn=1024, layers=2, codes=2048, expert_hidden=192)
    state = UniF2ace(config).initialise(torch.Generator().manual_seed(0)).state_dict()
    before = sum(2 * value.numel() for value in state.values())
    after = sum(value.numel() * value.element_size() for value in quantize_state(state, bits).values())
    assert after <= most * before


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.35)])
def test_quantized_folder_loads_close_to_its_source(source: Path, tmp_path: Path, bits: int, most: float) -> None:
    output = tmp_path / "small"
    report = quantize_model(str(source), bits, output)
    config = json.loads((output / "config.json").read_text())
    assert quantization_bits(config["quantization"]) == bits and config["format"] == "unif2ace-1"
    state = dequantize_state(quantized_tensors(output, config["quantization"]))
    original = load_tensors(source / "model.safetensors")
    assert state.keys() == original.keys()
    for name, value in original.items():
        scale = float(value.float().abs().max())
        assert float((state[name].float() - value.float()).abs().max()) <= most * max(scale, 1e-6)
    model = UniF2ace(SMALL)
    model.load_state_dict(state)
    assert (output / "codec.safetensors").read_bytes() == (source / "codec.safetensors").read_bytes()
    assert report.transformer_after < report.transformer_before and report.after_bytes < report.before_bytes


def test_quantizing_twice_is_refused(source: Path, tmp_path: Path) -> None:
    quantize_model(str(source), 8, tmp_path / "small")
    with pytest.raises(UserError, match="already"):
        quantize_model(str(tmp_path / "small"), 4, tmp_path / "smaller")


def test_output_in_the_way_is_kept_unless_forced(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "small"
    quantize_model(str(source), 8, output)
    size = (output / "model.safetensors").stat().st_size
    with pytest.raises(UserError, match="not empty"):
        quantize_model(str(source), 4, output)
    assert (output / "model.safetensors").stat().st_size == size
    quantize_model(str(source), 4, output, force=True)
    assert (output / "model.safetensors").stat().st_size < size


def test_force_never_replaces_a_folder_that_is_no_model(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "photos"
    output.mkdir()
    (output / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="other things"):
        quantize_model(str(source), 8, output, force=True)
    assert (output / "a.txt").read_text() == "mine"


@pytest.mark.parametrize(("bits", "words"), [(3, "choose one of 8, 4")])
def test_other_bits_are_refused(source: Path, tmp_path: Path, bits: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        quantize_model(str(source), bits, tmp_path / "small")


def test_failure_leaves_nothing_behind(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(quantized, "save_tensors", full)
    with pytest.raises(UserError, match="no space left"):
        quantize_model(str(source), 8, tmp_path / "small")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_unknown_scheme_is_named() -> None:
    with pytest.raises(UserError, match="unknown"):
        quantization_bits({"bits": 2, "scheme": "int2"})


def test_damaged_file_is_named(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "small"
    quantize_model(str(source), 8, output)
    tensors = load_tensors(output / "model.safetensors")
    tensors["head.weight"] = tensors["head.weight"][:, :-1, None]
    save_tensors(output / "model.safetensors", tensors)
    with pytest.raises(UserError, match="damaged"):
        quantized_tensors(output, {"bits": 8, "scheme": "int8"})
