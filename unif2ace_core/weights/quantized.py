"""Quantized models: bitsandbytes int8 (LLM.int8's row-wise absmax) and nf4 (QLoRA) in safetensors.

    NAME            int8 (..., rows, columns), or nf4 uint8 (..., rows, columns / 2), two codes a byte
    NAME.absmax     int8: fp16 (..., rows); nf4: fp32 per block of 64 values in memory order
    the rest        fp16: norms, biases, routers, queries

    int8  W = code * absmax / 127          nf4  W = table[code] * absmax of the block

Stacked experts (n, h, D) are quantized row by row like n matrices. With nf4 the embedding and the head stay
int8: they are read by row, and codes and words are chosen there; so do matrices whose rows are no whole
blocks, which bitsandbytes 0.50 reads back wrongly on the CPU. config.json gets
`"quantization": {"bits": 8, ...}`.

On CUDA the linear layers become bitsandbytes modules over the same numbers. On the CPU the weights are
brought back to fp32 at load: that is as fast as an unquantized model for any number of rows and needs no
bitsandbytes, whose import alone takes seconds. Measured on one thread with AVX-512, 256 -> 1024 channels,
its int8 kernel took 0.5x the time of fp32 for 112 rows and 1.6x for 896, nf4 1.0x and 1.1x; without AVX-512
it has no int8 kernel.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import load_tensors, save_tensors, write_text_atomic

TRANSFORMER = "model.safetensors"
CONFIG = "config.json"
SCHEMES = {8: "int8", 4: "nf4"}
ABSMAX = ".absmax"
BLOCK = 64  # values per nf4 block
ROW_READ = ("embedding.weight", "head.weight")  # int8 whatever the bits
# Quantiles of a normal distribution (QLoRA, appendix E), as bitsandbytes has them.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
)  # fmt: skip


@dataclass(frozen=True)
class QuantizeReport:
    """Bytes before and after."""

    bits: int
    before_bytes: int  # the whole model folder
    after_bytes: int
    transformer_before: int  # model.safetensors, fp16
    transformer_after: int


# --- The numbers ---------------------------------------------------------------------------------------


def is_quantized_name(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of the transformer is quantized: matrices, but not routers, norms or queries."""
    return name.endswith("weight") and tensor.ndim >= 2 and tensor.is_floating_point() and "router" not in name


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Row-wise absmax: (..., rows, columns) -> int8 of that shape, absmax (..., rows) fp16."""
    functional = _bitsandbytes().functional
    half = weight.detach().half()
    codes, absmax, _ = functional.int8_vectorwise_quant(half.float().flatten(0, -2))
    return codes.view(half.shape), absmax.view(half.shape[:-1]).half()


def dequantize_int8(codes: Tensor, absmax: Tensor) -> Tensor:
    """int8 (..., rows, columns) and absmax (..., rows) -> fp32 (..., rows, columns)."""
    return codes.float() * (absmax.float() / 127).unsqueeze(-1)


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Block-wise nf4: (..., columns), columns even -> uint8 (..., columns / 2), absmax (blocks,)."""
    functional = _bitsandbytes().functional
    packed, state = functional.quantize_4bit(
        weight.detach().float().contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=False
    )
    return packed.view(*weight.shape[:-1], weight.shape[-1] // 2), state.absmax


def dequantize_nf4(packed: Tensor, absmax: Tensor) -> Tensor:
    """uint8 (..., columns / 2) and absmax (blocks,) -> fp32 (..., columns)."""
    table = torch.tensor(NF4, device=packed.device)
    values = table[torch.stack([packed >> 4, packed & 15], -1).flatten().int()]
    missing = -len(values) % BLOCK
    blocks = nn.functional.pad(values, (0, missing)).view(-1, BLOCK) * absmax.unsqueeze(1)
    return blocks.flatten()[: len(values)].view(*packed.shape[:-1], 2 * packed.shape[-1])


def quantize_state(state: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """The tensors of a transformer in the file's form."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not is_quantized_name(name, tensor):
            found[name] = tensor.half() if tensor.is_floating_point() else tensor
        elif bits == 4 and name not in ROW_READ and tensor.shape[-1] % BLOCK == 0:
            found[name], found[name + ABSMAX] = quantize_nf4(tensor)
        else:
            found[name], found[name + ABSMAX] = quantize_int8(tensor)
    return found


def dequantize_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `quantize_state` up to rounding: quantized tensors in fp32, the others as they are."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(ABSMAX):
            continue
        absmax = tensors.get(name + ABSMAX)
        if absmax is None:
            found[name] = tensor
        else:
            found[name] = (dequantize_int8 if tensor.dtype == torch.int8 else dequantize_nf4)(tensor, absmax)
    return found


def _bitsandbytes() -> Any:
    """The library, imported only when asked for: it takes seconds."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels that nothing here uses
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("quantization needs bitsandbytes; run 'pip install bitsandbytes'") from error
    return bitsandbytes


# --- Reading -------------------------------------------------------------------------------------------


def quantization_bits(entry: Any) -> int:
    """Bits of a config.json's `quantization` entry.

    Raises:
        UserError: a scheme that this version doesn't know.
    """
    bits = entry.get("bits") if isinstance(entry, dict) else None
    if bits not in SCHEMES or entry.get("scheme") != SCHEMES[bits]:
        raise UserError(f"quantization {entry!r} of the model is unknown; known are {SCHEMES}, was it a newer version?")
    return int(bits)


def dequantized_state(directory: Path, entry: Any) -> dict[str, Tensor]:
    """The transformer of a quantized model folder as a plain state dict.

    `entry` is the `quantization` of its config.

    Raises:
        UserError: the file is unreadable or not what its config says.
    """
    quantization_bits(entry)
    tensors = load_tensors(directory / TRANSFORMER)
    if not any(name.endswith(ABSMAX) for name in tensors):
        raise UserError(f"{directory / TRANSFORMER} holds no quantized tensors; restore it from 'unif2ace quantize'")
    try:
        return dequantize_state(tensors)
    except RuntimeError as error:  # sizes that do not fit each other
        raise UserError(f"{directory / TRANSFORMER} is damaged ({error}); quantize the model again") from error


def use_bitsandbytes(model: nn.Module, directory: Path, device: torch.device | str) -> nn.Module:
    """Put bitsandbytes layers over the file's numbers in place of a model's linear layers; returns the model.

    `model` must hold `dequantized_state`; its head and its experts are read in slices and stay as they are.
    """
    library, tensors = _bitsandbytes(), load_tensors(directory / TRANSFORMER)
    for path, module in list(model.named_modules()):
        name = f"{path}.weight"
        if type(module) is nn.Linear and name + ABSMAX in tensors and name not in ROW_READ:
            build = _linear8 if tensors[name].dtype == torch.int8 else _linear4
            parent, _, child = path.rpartition(".")
            layer = build(library, module, tensors[name], tensors[name + ABSMAX])
            setattr(model.get_submodule(parent), child, layer)
    return model.to(device)


def _linear8(library: Any, linear: nn.Linear, codes: Tensor, absmax: Tensor) -> nn.Module:
    """Linear8bitLt over stored codes."""
    layer = library.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        has_fp16_weights=False,
        device="meta",
    )
    scale = absmax.float()
    layer.weight = library.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scale)
    layer.bias = linear.bias
    return layer.requires_grad_(False).eval()


def _linear4(library: Any, linear: nn.Linear, packed: Tensor, absmax: Tensor) -> nn.Module:
    """Linear4bit over stored nf4 codes."""
    layer = library.nn.Linear4bit(
        linear.in_features, linear.out_features, linear.bias is not None, quant_type="nf4", device="meta"
    )
    state = library.functional.QuantState(
        absmax=absmax, shape=linear.weight.shape, code=torch.tensor(NF4), blocksize=BLOCK, quant_type="nf4",
        dtype=linear.weight.dtype,
    )  # fmt: skip
    layer.weight = library.nn.Params4bit(
        packed.reshape(-1, 1), requires_grad=False, quant_state=state, blocksize=BLOCK,
        compress_statistics=False, quant_type="nf4", bnb_quantized=True, module=layer,
    )  # fmt: skip
    layer.quant_state = state
    layer.bias = linear.bias
    return layer.requires_grad_(False).eval()


# --- Writing -------------------------------------------------------------------------------------------


def quantize_model(source: str, bits: int, output: Path, force: bool = False) -> QuantizeReport:
    """Write a quantized copy of a model to the folder `output`, all of it or nothing.

    Args:
        source: "mini", a model folder, or a hub id.
        bits: 8 or 4.
        output: new folder; one with something in it is replaced only with `force`.

    Raises:
        UserError: unknown bits, a source that is quantized already, or an output that is in the way.
    """
    if bits not in SCHEMES:
        raise UserError(f"{bits} bits are not offered; choose one of {', '.join(map(str, SCHEMES))}")
    from unif2ace_core.weights.resolve import model_directory

    directory, output = model_directory(source), Path(output)
    config = read_json(directory / CONFIG)
    if "quantization" in config:
        raise UserError(f"{source} is quantized already ({config['quantization']}); give the original model")
    check_output(output, directory, force)
    tensors = quantize_state(load_tensors(directory / TRANSFORMER), bits)
    with new_folder(output) as folder:
        for file in sorted(directory.iterdir()):
            if file.is_file() and file.name not in (TRANSFORMER, CONFIG) and not file.name.startswith("."):
                shutil.copyfile(file, folder / file.name)
        save_tensors(folder / TRANSFORMER, tensors, {"quantization": SCHEMES[bits]})
        entry = {
            "bits": bits,
            "scheme": SCHEMES[bits],
            "block": BLOCK if bits == 4 else None,
            "tool": "bitsandbytes",
        }
        write_text_atomic(folder / CONFIG, json.dumps({**config, "quantization": entry}, indent=1) + "\n")
    return QuantizeReport(
        bits,
        folder_bytes(directory),
        folder_bytes(output),
        *((d / TRANSFORMER).stat().st_size for d in (directory, output)),
    )


def check_output(output: Path, source: Path, force: bool) -> None:
    """Refuse an output that is in the way; only a model folder is ever replaced."""
    if output.resolve() == source.resolve():
        raise UserError(f"{output} is the model itself; choose another output folder")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; choose a folder")
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UserError(f"{output} is not empty; add --force or choose another folder")
    if output.is_dir() and any(output.iterdir()) and not (output / CONFIG).is_file():
        raise UserError(f"{output} holds other things than a model; choose another folder")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `output` and move it there on success; on failure nothing is left."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another folder") from error
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes it private
        if output.is_dir():
            old = folder.with_name(folder.name + ".old")
            output.rename(old)
            folder.rename(output)
            shutil.rmtree(old)
        else:
            folder.rename(output)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another folder") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(directory: Path) -> int:
    """Size of the weight, tokenizer and config files of a model folder."""
    kinds = (".safetensors", ".json")
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file() and file.suffix in kinds)
