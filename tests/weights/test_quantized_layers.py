"""Quantized layers: equal to their dequantized numbers up to a stated rounding, row by row, expert by expert."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.weights import quantized_layers
from unif2ace_core.weights.quantized import ABSMAX, dequantize, quantize_int8, quantize_nf4, quantize_state
from unif2ace_core.weights.quantized_layers import (
    CPU_LAYERS,
    CUDA_LAYERS,
    SMALLEST,
    Int8Embedding,
    Int8Linear,
    Int8Product,
    Layers,
    QuantizedExperts,
    cpu_layer,
    has_product,
    is_large,
    layers_of,
    quantized_transformer,
)
from unif2ace_core.weights.resolve import load_transformer
from unif2ace_core.weights.store import save_tensors

SMALL = ModelConfig(
    width=64, layers=2, heads=2, ffn=128, rotary=16, text_vocabulary=300, codes=512, expert_hidden=64,
    resampler=64, clip_width=64, face_width=64, noise_width=64,
)  # fmt: skip
ORIGIN = Path("model.safetensors")
EVERYWHERE = Layers(lambda shape: True, cpu_layer)
needs_product = pytest.mark.skipif(not has_product(), reason="this torch has no int8 product on this processor")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def stored(bits: int, config: ModelConfig = SMALL) -> dict[str, Tensor]:
    """A random model in the file's form."""
    state = UniF2ace(config).initialise(generator()).state_dict()
    return quantize_state(state, bits)


def build(bits: int, layers: Layers | None, config: ModelConfig = SMALL) -> UniF2ace:
    return quantized_transformer(config, stored(bits, config), layers, ORIGIN)


def hidden(model: UniF2ace, rows: int = 2, seed: int = 1) -> Tensor:
    """Final states of picture rows under a prompt."""
    config, length = model.config, 5 + model.config.positions
    ids = torch.randint(0, config.vocabulary, (rows, length), generator=generator(seed))
    positions, group = torch.arange(length).expand(rows, -1), torch.full((rows, length), int(Group.T2I))
    noise = normal(rows, config.noise_tokens, config.noise_width, seed=seed)
    with torch.inference_mode():
        return model(ids, positions, None, group, torch.full((rows,), 4), Features(noise=noise)).hidden


def distance(one: Tensor, other: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    return float((one - other).norm() / other.norm())


# --- One layer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 64), (2, 5, 64), (64,), (0, 64)])
@pytest.mark.parametrize("kind", [Int8Linear, pytest.param(Int8Product, marks=needs_product)])
def test_shapes_are_those_of_a_linear_layer(kind: Callable[..., nn.Module], shape: tuple[int, ...]) -> None:
    y = kind(*quantize_int8(normal(24, 64)), None)(normal(*shape))
    assert y.shape == (*shape[:-1], 24) and y.dtype == torch.float32


def test_slices_give_the_dequantized_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quantized_layers.SLICE, "cpu", 64 * 7)  # 40 rows: five slices of 7 and one of 5
    codes, absmax = quantize_int8(normal(40, 64))
    layer, x, bias = Int8Linear(codes, absmax, normal(40, seed=3)), normal(9, 64, seed=1), normal(40, seed=3)
    weight = dequantize(codes, absmax)
    assert torch.allclose(layer(x), nn.functional.linear(x, weight, bias), atol=1e-4)
    part = nn.functional.linear(x, weight[5:31], bias[5:31])
    assert torch.allclose(layer(x, slice(5, 31)), part, atol=1e-4)


@needs_product
@pytest.mark.parametrize("shift", [0.0, 3.0], ids=["centred", "shifted"])
def test_product_differs_by_the_rounding_of_its_input(shift: float) -> None:
    """An input is off by at most half of 1/127 of its row's span; so is a product by that times sum |w|."""
    codes, absmax = quantize_int8(normal(48, 256))
    x, bias, weight = normal(17, 256, seed=1) + shift, normal(48, seed=2), dequantize(codes, absmax)
    y, expected = Int8Product(codes, absmax, bias)(x), nn.functional.linear(x, weight, bias)
    span = x.amax(1) - x.amin(1)
    bound = span.unsqueeze(1) / 254 * weight.abs().sum(1)
    assert bool(((y - expected).abs() <= bound * 1.001 + 1e-4).all())
    assert distance(y - bias, expected - bias) <= 0.02


@needs_product
def test_product_of_the_largest_numbers_does_not_overflow() -> None:
    """Without VNNI sums of two products have 16 bits; inputs of 127 steps keep them below."""
    codes, absmax = torch.full((8, 128), 127, dtype=torch.int8), torch.ones(8)
    x = torch.ones(2, 128)
    x[:, 0] = 0
    assert torch.allclose(Int8Product(codes, absmax, None)(x), torch.full((2, 8), 127.0), rtol=1e-5)


@needs_product
def test_rows_of_a_product_do_not_depend_on_each_other() -> None:
    layer = Int8Product(*quantize_int8(normal(32, 128)), normal(32))
    x = torch.cat(
        [normal(3, 128, seed=1), 1e3 * normal(1, 128, seed=2), torch.zeros(1, 128), torch.full((1, 128), 2.0)]
    )
    together = layer(x)
    assert all(torch.equal(layer(x[i : i + 1])[0], together[i]) for i in range(len(x)))
    assert torch.allclose(together[4], layer.bias) and bool(together.isfinite().all())


@needs_product
def test_damaged_inputs_stay_visible() -> None:
    x = normal(2, 64)
    x[1, 3] = torch.nan
    y = Int8Product(*quantize_int8(normal(8, 64)), None)(x)
    assert bool(y[0].isfinite().all()) and bool(y[1].isnan().all())


def test_embedding_reads_dequantized_rows() -> None:
    codes, absmax = quantize_int8(normal(20, 16))
    ids = torch.tensor([[3, 19], [0, 3]])
    assert torch.equal(Int8Embedding(codes, absmax)(ids), dequantize(codes, absmax)[ids])


@needs_product
def test_four_bits_become_eight_on_the_cpu() -> None:
    weight, x = normal(32, 128), normal(4, 128, seed=1)
    packed, absmax = quantize_nf4(weight)
    layer = cpu_layer(packed, absmax, None)
    assert isinstance(layer, Int8Product)
    assert distance(layer(x), x @ dequantize(packed, absmax).T) <= 0.03


# --- A model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 4])
def test_small_matrices_are_brought_back_to_fp32(bits: int) -> None:
    assert not is_large(torch.Size([SMALLEST, SMALLEST - 1])) and is_large(torch.Size([9, SMALLEST, SMALLEST]))
    model, plain = build(bits, CPU_LAYERS), UniF2ace(SMALL).eval()
    tensors = stored(bits)
    plain.load_state_dict({n: dequantize(t, tensors[n + ABSMAX]) if n + ABSMAX in tensors else t
                           for n, t in tensors.items() if not n.endswith(ABSMAX)})  # fmt: skip
    assert all(parameter.dtype == torch.float32 and not parameter.is_meta for parameter in model.parameters())
    assert torch.equal(hidden(model), hidden(plain))


@pytest.mark.parametrize(("bits", "most"), [(8, 0.05), (4, 0.05)])
def test_a_model_of_quantized_layers_computes_the_dequantized_one(
    bits: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative distance of the final states; the head and the embedding are exact."""
    plain = build(bits, None)
    monkeypatch.setattr(quantized_layers, "SMALLEST", 1)
    model = build(bits, EVERYWHERE)
    kinds = {type(module) for module in model.modules()}
    assert {QuantizedExperts, Int8Embedding, Int8Linear} <= kinds
    assert not any(isinstance(module, (nn.Linear, nn.Embedding)) for name, module in model.named_modules()
                   if "router" not in name)  # fmt: skip
    one, other = hidden(model), hidden(plain)
    assert distance(one, other) <= most
    for heads in ("code_logits", "text_logits"):
        assert torch.allclose(getattr(model, heads)(other), getattr(plain, heads)(other), atol=1e-4)


def test_experts_are_quantized_one_by_one() -> None:
    model, plain = build(8, EVERYWHERE), build(8, None)
    many, few = (m.blocks[1].mlp.groups["mmu"] for m in (model, plain))
    assert isinstance(many, QuantizedExperts) and len(many.fc1) == len(many.fc2) == SMALL.experts
    assert torch.equal(many.router, few.router)
    h = normal(6, SMALL.width, seed=2)
    with torch.inference_mode():
        for index in range(SMALL.experts):
            assert distance(many.expert(index, h), few.expert(index, h)) <= 0.03


def test_large_matrices_are_not_kept_in_fp32() -> None:
    config = replace(SMALL, width=512, heads=8, ffn=1024, expert_hidden=512, codes=512, text_vocabulary=600)
    model = build(8, CPU_LAYERS, config)
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        large = value.ndim >= 2 and is_large(value.shape)
        assert value.dtype == (torch.int8 if large else torch.float32), name
    kind = Int8Product if has_product() else Int8Linear
    assert all(isinstance(block.attention.qkv, kind) for block in model.blocks)
    assert distance(hidden(model, 1), hidden(build(8, None, config), 1)) <= 0.05


def test_tensors_of_other_sizes_are_named() -> None:
    tensors = stored(8)
    tensors["norm.weight"] = tensors["norm.weight"][:-1]
    with pytest.raises(UserError, match=r"norm\.weight"):
        quantized_transformer(SMALL, tensors, None, ORIGIN)


# --- Loading -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights of a model in fp16."""
    state = {name: value.half() for name, value in UniF2ace(SMALL).initialise(generator()).state_dict().items()}
    save_tensors(tmp_path / "model.safetensors", state)
    (tmp_path / "config.json").write_text(json.dumps({"format": "unif2ace-1", "model": asdict(SMALL)}))
    return tmp_path


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_while_loading_equals_quantized_on_disk(folder: Path, tmp_path: Path, bits: int) -> None:
    from unif2ace_core.weights.quantized import SCHEMES, quantize_model

    quantize_model(str(folder), bits, tmp_path / "small")
    entry, cpu = json.loads((tmp_path / "small" / "config.json").read_text()), torch.device("cpu")
    on_disk = load_transformer(tmp_path / "small", entry, SMALL, cpu)
    in_memory = load_transformer(folder, {}, SMALL, cpu, SCHEMES[bits])
    assert torch.equal(hidden(on_disk), hidden(in_memory))


def test_quantizing_a_quantized_model_is_refused_in_words(folder: Path) -> None:
    values = {"quantization": {"bits": 8, "scheme": "int8"}}
    for scheme in ("int8", "nf4"):
        with pytest.raises(UserError, match=r"quantized already.*without --quantize"):
            load_transformer(folder, values, SMALL, torch.device("cpu"), scheme)
    with pytest.raises(UserError, match="choose one of int8, nf4"):
        load_transformer(folder, {}, SMALL, torch.device("cpu"), "int3")


# --- bitsandbytes --------------------------------------------------------------------------------------


def test_devices_have_their_layers() -> None:
    assert layers_of(torch.device("cpu")) is CPU_LAYERS and layers_of(torch.device("cuda")) is CUDA_LAYERS
    assert layers_of(torch.device("mps")) is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("bits", "most"), [(8, 0.03), (4, 0.03)])
def test_bitsandbytes_layers_compute_the_dequantized_model(bits: int, most: float, device: str) -> None:
    pytest.importorskip("bitsandbytes")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model, plain = build(bits, CUDA_LAYERS).to(device), build(bits, None).to(device)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert sum(type(module) is not nn.Linear for module in linear) > 2 * 2 * SMALL.experts  # experts and others
    assert any(isinstance(module, QuantizedExperts) for module in model.modules())
    ids = torch.randint(0, SMALL.vocabulary, (2, 12), generator=generator(1)).to(device)
    positions, group = torch.arange(12, device=device).expand(2, -1), torch.full_like(ids, int(Group.MMU))
    with torch.inference_mode():
        one, other = (each(ids, positions, None, group).hidden for each in (model, plain))
    assert distance(one, other) <= most
