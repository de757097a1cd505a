"""Tensors one at a time: readers of other programs' checkpoints, and a writer of safetensors.

A checkpoint is a file (.safetensors; .bin, .ckpt, .pt, .pth of torch), an index.json beside its shards, or the folder
of one. A file's memory map is let go after one tensor, or after some that are small together, so that neither the
source nor the result is ever held as a whole. Torch files are read with `weights_only`: what could run code is refused.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import FORMAT, refuse_lfs_pointer, replacing

Shape = tuple[int, ...]
DTYPES = {"fp16": torch.float16, "fp32": torch.float32, "bf16": torch.bfloat16}
SAFETENSORS_NAMES = {torch.float16: "F16", torch.float32: "F32", torch.bfloat16: "BF16"}
TORCH_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
INDEX = ".index.json"
MAPPED = 2**28  # bytes read from one map of a torch file, which stay in memory as long as it; a map takes 50 ms to make
# What a folder may call its weights, the best form first.
FILE_NAMES = tuple(
    f"{stem}{suffix}"
    for suffix in (".safetensors", f".safetensors{INDEX}", ".bin", f".bin{INDEX}")
    for stem in ("pytorch_model", "model", "diffusion_pytorch_model")
)


class Checkpoint:
    """Names, shapes and files of a checkpoint; `read` gives one tensor."""

    def __init__(self, origin: Path, files: Sequence[Path]) -> None:
        self.origin, self.files = origin, list(files)
        self.shapes: dict[str, Shape] = {}
        self.places: dict[str, Path] = {}
        self.map: dict[str, Tensor] = {}  # of the torch file read last
        self.unread = 0  # bytes until it is let go
        for file in self.files:
            check_file(file)
            shapes = read_shapes(file)
            self.shapes |= shapes
            self.places |= dict.fromkeys(shapes, file)
        if not self.shapes:
            raise UserError(f"{origin} holds no tensors; give the file with the model's weights")

    def read(self, name: str) -> Tensor:
        """The tensor of that name, on the CPU.

        Raises:
            UserError: it cannot be read.
        """
        file = self.places[name]
        if is_torch(file):
            return self.read_torch(file, name)
        try:
            with safe_open(file, framework="pt") as opened:
                return opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise unreadable(file, error) from error

    def read_torch(self, file: Path, name: str) -> Tensor:
        """A tensor from the map of a torch file, made anew for another shard and every `MAPPED` bytes."""
        if name not in self.map or self.unread < 0:
            self.map = {}  # the old one goes first
            self.map, self.unread = load_torch(file), MAPPED
        self.unread -= self.map[name].nbytes
        return self.map[name]


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file, an index with shards, or a folder.

    Raises:
        UserError: nothing there, several candidates, or a file that is damaged, foreign or unsafe.
    """
    path = find_weights(path) if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path} does not exist; give a checkpoint file or the folder that holds it")
    return Checkpoint(path, shards(path) if path.name.endswith(INDEX) else [path])


def find_weights(folder: Path) -> Path:
    """The weights in a folder: a usual name, else the only file of a known kind.

    Raises:
        UserError: none, or several.
    """
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    kinds = (".safetensors", *TORCH_SUFFIXES)
    found = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in kinds)
    if len(found) != 1:
        what = f"several checkpoints ({found[0].name}, {found[1].name})" if found else "no checkpoint"
        raise UserError(f"{folder} holds {what}; give the file, for example {folder / FILE_NAMES[0]}")
    return found[0]


def shards(index: Path) -> list[Path]:
    """The files that an index names, each once.

    Raises:
        UserError: the index is malformed or a shard is missing.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index} has no weight_map; download the checkpoint again")
    files = [index.parent / name for name in dict.fromkeys(names.values())]
    for file in files:
        if file.parent != index.parent:
            raise UserError(f"{index} names {file}, outside its folder; download the checkpoint again")
        if not file.is_file():
            raise UserError(f"{index} names {file.name}, which is not beside it; download that shard too")
    return files


def check_file(file: Path) -> None:
    """Refuse what is no checkpoint by its first bytes.

    Raises:
        UserError: a git-LFS pointer, an unknown kind, or torch's old format.
    """
    refuse_lfs_pointer(file)
    if file.suffix == ".safetensors":
        return
    if file.suffix not in TORCH_SUFFIXES:
        raise UserError(f"{file} is no checkpoint; give a .safetensors, {', '.join(TORCH_SUFFIXES)} or {INDEX} file")
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is truncated or in torch's old format; download it again, or give a .safetensors file")


def is_torch(file: Path) -> bool:
    """Whether a file is torch's, not safetensors."""
    return file.suffix in TORCH_SUFFIXES


def read_shapes(file: Path) -> dict[str, Shape]:
    """Shapes of all tensors in a file, without their values."""
    if is_torch(file):
        return {name: tuple(tensor.shape) for name, tensor in load_torch(file).items()}
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise unreadable(file, error) from error


def load_torch(file: Path) -> dict[str, Tensor]:
    """The tensors of a torch file as maps of the file, not copies; a lone `state_dict` entry is unwrapped.

    Raises:
        UserError: damaged, or with objects that are no tensors.
    """
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than tensors, which could run code, and is refused; give the .safetensors file"
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise unreadable(file, error) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise UserError(f"{file} holds a {type(loaded).__name__}, not named tensors; give a state dict")
    return {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}


def unreadable(file: Path, error: BaseException) -> UserError:
    """The complaint about a damaged file."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{file} is not a readable checkpoint ({reason}); download it again")


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The tensor in another precision.

    Raises:
        UserError: a value is not finite, or too large for fp16.
    """
    if not bool(tensor.isfinite().all()):
        raise UserError(f"tensor {name} holds infinite or undefined values; download the checkpoint again")
    result = tensor.to(dtype)
    if not bool(result.isfinite().all()):
        raise UserError(f"tensor {name} is too large for {SAFETENSORS_NAMES[dtype]}; use --dtype bf16 or fp32")
    return result


def write_stream(path: Path, shapes: Mapping[str, Shape], dtype: torch.dtype, make: Callable[[str], Tensor]) -> int:
    """Write a safetensors file atomically, one tensor in memory at a time.

    Args:
        path: the file.
        shapes: names and shapes in the order of writing.
        dtype: of every tensor in the file.
        make: gives the tensor of a name; called once for each, in order.

    Returns:
        Bytes of the file.
    """
    header = safetensors_header(shapes, dtype)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name, shape in shapes.items():
                tensor = cast(make(name), dtype, name)
                if tuple(tensor.shape) != tuple(shape):
                    raise ValueError(f"{name} has shape {tuple(tensor.shape)}, planned was {tuple(shape)}")
                tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tofile(file)
        return temporary.stat().st_size


def safetensors_header(shapes: Mapping[str, Shape], dtype: torch.dtype) -> bytes:
    """The JSON before the values, padded to 8 bytes (format: huggingface/safetensors)."""
    values: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        values[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(values, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
