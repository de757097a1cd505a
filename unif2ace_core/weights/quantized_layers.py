"""Quantized models in memory: what the numbers of `quantized.py` are computed with.

    CPU   matrices of at least 512 x 512   int8; a product in int8, the head and the embedding row by row
          smaller ones                     fp32, brought back at load
    CUDA  linear layers and experts        bitsandbytes' Linear8bitLt and Linear4bit over the same numbers
          head and embedding               int8 from 512 x 512 on, brought back where they are read
    else                                   fp32

Int8 product: the values of a row x are written in 127 steps between its least and its greatest,

    x = low + span * q / 127,  q in 0..127          W x + b = span / 127 * scale * (C q) + low * scale * sum(C) + b

with C the int8 numbers of W. A row's result depends on that row alone. 127 steps, not 255: without VNNI instructions
pairs of products are summed in 16 bits, which larger numbers overflow. Where words and codes are chosen, the head, x is
not rounded: slices of C are brought to fp32 in the cache and multiplied there. nf4 is written as int8 first.

Times of fp32 over those of the alternatives for 1 / 16 / 132 / 512 rows of x, above 1 faster than fp32; one thread of a
busy AVX2 machine, torch 2.14, by `pytest tests/benchmarks/test_quantized.py`:

    matrix (out x in)      1024 x 256             512 x 2048             8192 x 2048
    int8 product (this)    0.4  1.0  1.1  1.1     0.8  1.6  1.1  1.0     2.3  6.4  2.7  2.1
    slices to fp32 (head)  0.3  0.6  0.8  0.7     0.4  0.7  0.9  0.9     0.9  2.0  1.1  1.2
    bitsandbytes int8      0.1  0.3  0.5  0.3     0.1  0.4  0.6  0.6     0.1  0.3  0.6  0.7
    bitsandbytes nf4       0.1  0.6  0.7  1.1     0.1  0.4  0.8  0.9     0.1  0.4  0.6  0.9
    torch._int_mm          0.2  0.1  -    -       0.2  0.1  -    -       0.4  0.1  -    -
    _weight_int8pack_mm    1.2  0.9  0.6  0.5     1.0  0.9  0.4  0.6     1.4  1.7  0.5  0.5     (in bf16)

At the embedded model's sizes (1024 x 256) nothing is worth a rounding: at most a tenth is gained, and an answer, token
by token, takes twice as long. It stays fp32 there. Made to use it for every matrix, the embedded model answers 99.6% of
500 questions like fp16 with the int8 product, 100% with the same numbers in fp32 (nf4: 99.0% and 99.2%).

On CUDA nothing was measured yet; bitsandbytes' layers were checked against the dequantized model on the CPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.model.token_moe import RoutedExperts
from unif2ace_core.model.transformer import Head, UniF2ace
from unif2ace_core.weights.parts import unfilled
from unif2ace_core.weights.quantized import ABSMAX, BLOCK, NF4, dequantize, dequantize_nf4, quantize_int8
from unif2ace_core.weights.store import check_shapes

SMALLEST = 512  # rows and columns from which a matrix stays int8; see the table above
LEVELS = 127  # steps of an int8 product's input
PRODUCT_ENGINES = ("x86", "fbgemm")  # of torch, which have the int8 product
SLICE = {"cpu": 2**19, "cuda": 2**25}  # values brought to fp32 at once: 2 MiB lie in a core's cache


class Int8Rows(nn.Module):
    """A matrix in int8 with a scale for each row."""

    codes: Tensor
    scale: Tensor

    def __init__(self, codes: Tensor, absmax: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes.contiguous(), persistent=False)
        self.register_buffer("scale", absmax.float() / 127, persistent=False)


class Int8Embedding(Int8Rows):
    """Rows by their number."""

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (...) -> fp32 (..., columns)."""
        return self.codes[ids].float() * self.scale[ids].unsqueeze(-1)


class Int8Linear(Int8Rows):
    """W x + b with W int8; slices of W are brought to fp32 one after the other. Also the head, on chosen rows."""

    bias: Tensor

    def __init__(self, codes: Tensor, absmax: Tensor, bias: Tensor | None) -> None:
        super().__init__(codes, absmax)
        self.register_buffer("bias", float_bias(codes, bias), persistent=False)

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """x (..., columns) -> (..., rows)."""
        codes, flat = self.codes[rows], x.reshape(-1, x.shape[-1])
        y = flat.new_empty(len(flat), len(codes))
        step = max(1, SLICE.get(x.device.type, SLICE["cpu"]) // codes.shape[1])
        for start in range(0, len(codes), step):
            y[:, start : start + step] = flat @ codes[start : start + step].to(flat.dtype).T
        return y.mul_(self.scale[rows]).add_(self.bias[rows]).view(*x.shape[:-1], len(codes))


class Int8Product(nn.Module):
    """W x + b as a product of int8 numbers; formula in the module's docstring. CPU only."""

    def __init__(self, codes: Tensor, absmax: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = absmax.float() / 127
        zeros = torch.zeros(len(codes), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to give these tensors up; see has_product
            whole = torch._make_per_channel_quantized_tensor(codes.contiguous(), scale.double(), zeros, 0)
        self.rows = len(codes)
        self.packed = torch.ops.quantized.linear_prepack(whole, None)  # a copy in the order that the kernel reads
        self.sums = scale * codes.sum(1, dtype=torch.long)
        self.bias = float_bias(codes, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., columns) -> (..., rows)."""
        flat = x.reshape(-1, x.shape[-1])
        if not len(flat):
            return x.new_empty(*x.shape[:-1], self.rows)
        low, high = flat.aminmax(dim=-1, keepdim=True)
        span = (high - low).clamp_min_(torch.finfo(flat.dtype).tiny)
        # every row spans 0..1 now, so that the kernel takes the same steps whatever rows there are
        y = torch.ops.quantized.linear_dynamic((flat - low).div_(span), self.packed, True)
        return y.mul_(span).addcmul_(low, self.sums).add_(self.bias).view(*x.shape[:-1], self.rows)


class QuantizedExperts(RoutedExperts):
    """Routed experts with a layer for each matrix of each expert."""

    def __init__(self, experts: RoutedExperts, fc1: list[nn.Module], fc2: list[nn.Module]) -> None:
        nn.Module.__init__(self)
        self.top_k, self.router = experts.top_k, experts.router
        self.fc1, self.fc2 = nn.ModuleList(fc1), nn.ModuleList(fc2)

    def expert(self, index: int, h: Tensor) -> Tensor:
        """One expert on its tokens: (T, D) -> (T, D)."""
        return self.fc2[index](F.gelu(self.fc1[index](h), approximate="tanh"))

    def grouped(self, h: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """There is no grouped product of quantized matrices."""
        return self.sliced(h, gates, chosen)


def float_bias(codes: Tensor, bias: Tensor | None) -> Tensor:
    """The bias in fp32, zeros without one."""
    return torch.zeros(len(codes)) if bias is None else bias.to(torch.float32, copy=True)


# --- Which layer for which matrix ----------------------------------------------------------------------


@dataclass(frozen=True)
class Layers:
    """What a device computes quantized matrices with."""

    takes: Callable[[torch.Size], bool]  # shape (..., rows, columns) of what is no embedding and no head
    make: Callable[[Tensor, Tensor, Tensor | None], nn.Module]  # codes, absmax and bias of one matrix


def is_large(shape: torch.Size) -> bool:
    """Whether a matrix is worth being int8 in memory."""
    return min(shape[-2:]) >= SMALLEST


def cpu_layer(codes: Tensor, absmax: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer for the CPU."""
    if codes.dtype != torch.int8:
        codes, absmax = quantize_int8(dequantize_nf4(codes, absmax))
    return (Int8Product if has_product() else Int8Linear)(codes, absmax, bias)


def has_product() -> bool:
    """Whether this torch has the int8 product: on x86, and while it makes the tensors that the kernel packs."""
    return torch.backends.quantized.engine in PRODUCT_ENGINES and hasattr(torch, "_make_per_channel_quantized_tensor")


def bitsandbytes_layer(codes: Tensor, absmax: Tensor, bias: Tensor | None) -> nn.Module:
    """Linear8bitLt or Linear4bit over stored numbers."""
    library, given = bitsandbytes(), {} if bias is None else {"bias": nn.Parameter(float_bias(codes, bias), False)}
    if codes.dtype == torch.int8:
        rows, columns = codes.shape
        with unfilled():
            layer = library.nn.Linear8bitLt(columns, rows, bias is not None, has_fp16_weights=False)
        scale = absmax.float()
        layer.weight = library.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scale)
    else:
        rows, columns = codes.shape[0], 2 * codes.shape[1]
        with unfilled():
            layer = library.nn.Linear4bit(columns, rows, bias is not None, quant_type="nf4")
        state = library.functional.QuantState(
            absmax=absmax, shape=torch.Size([rows, columns]), code=torch.tensor(NF4), blocksize=BLOCK,
            quant_type="nf4", dtype=torch.float32,
        )  # fmt: skip
        layer.weight = library.nn.Params4bit(
            codes.reshape(-1, 1), requires_grad=False, quant_state=state, blocksize=BLOCK,
            compress_statistics=False, quant_type="nf4", bnb_quantized=True, module=layer,
        )  # fmt: skip
        layer.quant_state = state
    for name, value in given.items():
        setattr(layer, name, value)
    return layer.requires_grad_(False).eval()


def bitsandbytes() -> Any:
    """The library, imported only when asked for: it takes seconds."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels that nothing here uses
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("a quantized model on CUDA needs bitsandbytes; run 'pip install bitsandbytes'") from error
    return bitsandbytes


CPU_LAYERS = Layers(is_large, cpu_layer)
CUDA_LAYERS = Layers(lambda shape: True, bitsandbytes_layer)


def layers_of(device: torch.device) -> Layers | None:
    """What a device has; None: it computes in fp32 alone."""
    return {"cpu": CPU_LAYERS, "cuda": CUDA_LAYERS}.get(device.type)


# --- A whole model -------------------------------------------------------------------------------------


def quantized_transformer(
    config: ModelConfig, tensors: dict[str, Tensor], layers: Layers | None, origin: Path
) -> UniF2ace:
    """A transformer over tensors in the file's form, which are taken out of `tensors` one by one; on the CPU.

    Raises:
        UserError: tensors that do not fit the config.
    """
    with unfilled():
        model = UniF2ace(config)
    check_shapes(model, {name: plain_shape(name, tensors) for name in tensors if not name.endswith(ABSMAX)}, origin)
    if layers is not None:
        for path, layer in replacements(model, tensors, layers):
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
    rest = {name: taken(name, tensors) for name in sorted(tensors) if not name.endswith(ABSMAX)}
    model.load_state_dict(rest, strict=False, assign=True)
    return model.eval().requires_grad_(False)


def plain_shape(name: str, tensors: dict[str, Tensor]) -> torch.Size:
    """A stored tensor's shape when it is brought back."""
    shape = tensors[name].shape
    packed = tensors[name].dtype == torch.uint8 and name + ABSMAX in tensors
    return torch.Size([*shape[:-1], 2 * shape[-1]]) if packed else shape


def taken(name: str, tensors: dict[str, Tensor]) -> Tensor:
    """A tensor in fp32, of its own memory; it leaves `tensors`."""
    value, absmax = tensors.pop(name), tensors.pop(name + ABSMAX, None)
    return value.to(torch.float32, copy=True) if absmax is None else dequantize(value, absmax)


def replacements(model: UniF2ace, tensors: dict[str, Tensor], layers: Layers) -> Iterator[tuple[str, nn.Module]]:
    """Quantized layers and the paths that they belong to."""
    for path, module in list(model.named_modules()):
        name = f"{path}.weight"
        if isinstance(module, RoutedExperts):
            stacks = [f"{path}.{stack}_weight" for stack in ("fc1", "fc2")]
            if all(stack + ABSMAX in tensors and layers.takes(plain_shape(stack, tensors)) for stack in stacks):
                yield path, QuantizedExperts(module, *(each_expert(stack, tensors, layers) for stack in stacks))
        elif name + ABSMAX not in tensors:
            continue
        elif type(module) is nn.Linear and layers.takes(module.weight.shape):
            bias = tensors.pop(f"{path}.bias", None)
            yield path, layers.make(tensors.pop(name), tensors.pop(name + ABSMAX), bias)
        elif isinstance(module, (Head, nn.Embedding)) and is_large(module.weight.shape):
            given = (tensors.pop(name), tensors.pop(name + ABSMAX))
            is_head = isinstance(module, Head)
            yield path, Int8Linear(*given, tensors.pop(f"{path}.bias")) if is_head else Int8Embedding(*given)


def each_expert(stack: str, tensors: dict[str, Tensor], layers: Layers) -> list[nn.Module]:
    """A layer for each expert of a stack (n, rows, columns)."""
    codes, absmax = tensors.pop(stack), tensors.pop(stack + ABSMAX)
    biases = tensors.pop(f"{stack.removesuffix('weight')}bias")
    scales = absmax.view(len(codes), -1)  # of nf4 too: an expert is a whole number of blocks
    return [layers.make(*matrix) for matrix in zip(codes, scales, biases, strict=True)]
