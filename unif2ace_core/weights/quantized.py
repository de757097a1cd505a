"""Quantized models on disk: int8 by rows (LLM.int8) and nf4 by blocks (QLoRA), the numbers of bitsandbytes.

    NAME            int8 (..., rows, columns), or nf4 uint8 (..., rows, columns / 2), two codes a byte
    NAME.absmax     int8: fp16 (..., rows); nf4: fp32 per block of 64 values in memory order
    the rest        fp16: norms, biases, routers, queries

    int8  W = code * absmax / 127          nf4  W = table[code] * absmax of the block

Stacked experts (n, h, D) are quantized row by row like n matrices. With nf4 the embedding and the head stay
int8: they are read by row, and codes and words are chosen there; so do matrices whose rows are no whole
blocks, which bitsandbytes 0.50 reads back wrongly on the CPU. In fp16 they would make the embedded model 0.67x (nf4:
0.52x) in place of 0.51x (0.36x), and its answers agree no more with fp16's: 99.8% of 500 against 100%, 99.2% against
99.2%. config.json gets `"quantization": {"bits": 8, ...}`.

The numbers are computed here, equal to bitsandbytes' bit for bit, without importing it: that takes seconds.
How they are computed with is in `quantized_layers.py`.
"""

from __future__ import annotations

import json
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
BITS = {scheme: bits for bits, scheme in SCHEMES.items()}
ABSMAX = ".absmax"
BLOCK = 64  # values per nf4 block
TINY = 1e-38  # in place of the absmax of nothing but zeros
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
    values = weight.detach().half().float()
    absmax = values.abs().amax(-1)
    codes = (values * (127.0 / absmax.clamp_min(TINY)).unsqueeze(-1)).round().to(torch.int8)
    return codes, absmax.half()


def dequantize_int8(codes: Tensor, absmax: Tensor) -> Tensor:
    """int8 (..., rows, columns) and absmax (..., rows) -> fp32 (..., rows, columns)."""
    return codes.float() * (absmax.float() / 127).unsqueeze(-1)


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Block-wise nf4: (..., columns), columns even -> uint8 (..., columns / 2), absmax (blocks,)."""
    table = torch.tensor(NF4, device=weight.device)
    values = weight.detach().float().flatten()
    blocks = nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    absmax = blocks.abs().amax(1)
    scaled = (blocks * (1.0 / absmax.clamp_min(TINY)).unsqueeze(1)).clamp(-1, 1).flatten()[: len(values)]
    codes = torch.zeros_like(scaled, dtype=torch.uint8)
    for middle in (table[:-1] + table[1:]) / 2:  # what torch.bucketize does, but faster
        codes += scaled > middle
    return ((codes[::2] << 4) | codes[1::2]).view(*weight.shape[:-1], weight.shape[-1] // 2), absmax


def dequantize_nf4(packed: Tensor, absmax: Tensor) -> Tensor:
    """uint8 (..., columns / 2) and absmax (blocks,) -> fp32 (..., columns)."""
    table = torch.tensor(NF4, device=packed.device)
    pairs = torch.stack([table.repeat_interleave(16), table.repeat(16)], 1)  # both values of every byte
    values = pairs[packed.flatten().int()].flatten()
    missing = -len(values) % BLOCK
    blocks = nn.functional.pad(values, (0, missing)).view(-1, BLOCK) * absmax.unsqueeze(1)
    return blocks.flatten()[: len(values)].view(*packed.shape[:-1], 2 * packed.shape[-1])


def dequantize(codes: Tensor, absmax: Tensor) -> Tensor:
    """Either form -> fp32."""
    return (dequantize_int8 if codes.dtype == torch.int8 else dequantize_nf4)(codes, absmax)


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
    return {
        name: dequantize(tensor, tensors[name + ABSMAX]) if name + ABSMAX in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(ABSMAX)
    }


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


def quantized_tensors(directory: Path, entry: Any) -> dict[str, Tensor]:
    """The tensors of a quantized model folder in the file's form; `entry` is the `quantization` of its config.

    Raises:
        UserError: the file is unreadable, not what its config says, or has scales of other sizes than its numbers.
    """
    quantization_bits(entry)
    path = directory / TRANSFORMER
    tensors = load_tensors(path)
    scaled = [name.removesuffix(ABSMAX) for name in tensors if name.endswith(ABSMAX)]
    if not scaled:
        raise UserError(f"{path} holds no quantized tensors; restore it from 'unif2ace quantize'")
    integers = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    for name in {*scaled, *integers}:
        if name not in tensors or name + ABSMAX not in tensors or not fit(tensors[name], tensors[name + ABSMAX]):
            raise UserError(f"{path} is damaged ({name} and its scales do not fit); quantize the model again")
    return tensors


def fit(codes: Tensor, absmax: Tensor) -> bool:
    """Whether scales are those of stored numbers, by type and size."""
    shapes = {torch.int8: codes.shape[:-1], torch.uint8: torch.Size([-(-2 * codes.numel() // BLOCK)])}
    return shapes.get(codes.dtype) == absmax.shape


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
