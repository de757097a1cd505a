"""Quantized products on the CPU against fp32 and the alternatives, for layers of the embedded and the 1.8b model.

    pytest tests/benchmarks/test_quantized.py

`plain` is fp32 over the same numbers. What each way is, and which layers use which: weights/quantized_layers.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.weights.quantized import dequantize, quantize_int8, quantize_nf4
from unif2ace_core.weights.quantized_layers import Int8Linear, Int8Product, bitsandbytes_layer, has_product

ROWS = (1, 16, 132, 512)
SIZES = {"mini_ffn": (1024, 256), "big_expert": (512, 2048), "big_attention": (2048, 2048), "big_ffn": (8192, 2048)}
Way = Callable[[Tensor], Tensor]


class Layer:
    """One random matrix (out, in) in all forms."""

    def __init__(self, rows: int, columns: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.numbers = quantize_int8(0.02 * torch.randn(rows, columns, generator=generator))
        self.weight, self.bias = dequantize(*self.numbers), torch.randn(rows, generator=generator)

    def product(self) -> Way:
        if not has_product():
            pytest.skip("this torch has no int8 product on this processor")
        return Int8Product(*self.numbers, self.bias)

    def slices(self) -> Way:
        return Int8Linear(*self.numbers, self.bias)

    def bitsandbytes_int8(self) -> Way:
        return bitsandbytes_layer(*self.numbers, self.bias)

    def bitsandbytes_nf4(self) -> Way:
        return bitsandbytes_layer(*quantize_nf4(self.weight), self.bias)

    def int_mm(self) -> Way:
        """torch._int_mm over inputs rounded by rows."""
        codes, scale = self.numbers[0].T, self.numbers[1].float() / 127

        def call(x: Tensor) -> Tensor:
            step = x.abs().amax(1, keepdim=True) / 127
            return torch._int_mm((x / step).round().to(torch.int8), codes) * (step * scale) + self.bias

        return call

    def int8pack_mm(self) -> Way:
        """The product that torch.compile takes for int8 weights, in bf16, in which it is fastest."""
        codes, scale = self.numbers[0], (self.numbers[1].float() / 127).bfloat16()
        return lambda x: torch.ops.aten._weight_int8pack_mm(x.bfloat16(), codes, scale).float() + self.bias


@pytest.fixture(scope="module", params=SIZES)
def layer(request: pytest.FixtureRequest) -> Layer:
    return Layer(*SIZES[request.param])


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("way", ["product", "slices", "bitsandbytes_int8", "bitsandbytes_nf4", "int_mm", "int8pack_mm"])
def test_layer(layer: Layer, way: str, rows: int, compare: Callable[..., float | None], named: bool) -> None:
    ours = way in ("product", "slices")
    if not ours and not named:
        pytest.skip("not our code; measured by 'pytest tests/benchmarks/test_quantized.py'")
    if way.startswith("bitsandbytes"):
        pytest.importorskip("bitsandbytes")
    if way == "int_mm" and rows > 16:
        pytest.skip("takes seconds")
    fast, x = (
        getattr(layer, way)(),
        torch.randn(rows, layer.weight.shape[1], generator=torch.Generator().manual_seed(1)),
    )

    def plain() -> Tensor:
        return F.linear(x, layer.weight, layer.bias)

    with torch.inference_mode():
        if ours:
            error = (fast(x) - plain()).norm() / (plain() - layer.bias).norm()
            assert float(error) < {"product": 0.03, "slices": 1e-5}[way]
        repeats = max(1, 2**24 // (rows * layer.weight.numel()))  # a round takes some milliseconds
        compare(lambda: [fast(x) for _ in range(repeats)], lambda: [plain() for _ in range(repeats)], rounds=5)


@pytest.fixture
def named(request: pytest.FixtureRequest) -> bool:
    """Whether this file was named on the command line."""
    return any("test_quantized" in str(argument) for argument in request.config.args)
