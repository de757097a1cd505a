"""A part of the model on disk: NAME.safetensors (fp16) with NAME.json beside it.

Parts that are trained here state no `kind` in NAME.json; those of other programs do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_config, read_json
from unif2ace_core.weights.store import load_module, load_tensors, save_tensors, write_text_atomic

M = TypeVar("M", bound=nn.Module)
CHUNK = 2**20  # bytes of a file hashed at once
DRAWS = (Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_)  # what initialisers call


def in_fp16(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are stored: whole numbers stay whole."""
    return {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}


def save_part(directory: Path, name: str, module: nn.Module, config: Any) -> None:
    """Write a module's weights in fp16 and its config dataclass."""
    save_tensors(directory / f"{name}.safetensors", in_fp16(module.state_dict()))
    write_text_atomic(directory / f"{name}.json", json.dumps(asdict(config), indent=1) + "\n")


def part_kind(directory: Path, name: str, known: Sequence[str]) -> str | None:
    """The `kind` in NAME.json, None where it states none.

    Raises:
        UserError: the file is missing or malformed, or the kind is none of the known ones.
    """
    path = directory / f"{name}.json"
    kind = read_json(path).get("kind")
    if kind is not None and kind not in known:
        raise UserError(f"{path} has kind {kind!r}, known is {', '.join(known)}; was it written by a newer version?")
    return kind


def has_part(directory: Path, name: str) -> bool:
    """Whether a folder holds a part: its weights, or a NAME.json of another program's part."""
    path = directory / f"{name}.json"
    return (directory / f"{name}.safetensors").exists() or (path.is_file() and "kind" in read_json(path))


def refuse_existing(directory: Path, names: Sequence[str], force: bool) -> None:
    """Raise `UserError` where a part is in the way of a new one, or where a folder can't be."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; choose a folder")
    there = [name for name in names if (directory / name).exists()]
    if there and not force:
        raise UserError(f"{directory / there[0]} exists; add --force or choose another folder")


def load_part(directory: Path, name: str, kind: type[M], config_kind: type[Any]) -> M:
    """Build `kind(config)` and read its weights, in fp32, ready for inference.

    Raises:
        UserError: a file is missing, unreadable, or does not fit its config.
    """
    config = read_config(directory / f"{name}.json", config_kind)
    try:
        module = build(kind, config)
    except UserError:
        raise
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AssertionError) as error:
        raise UserError(f"{directory / name}.json has impossible sizes ({error}); download the model again") from error
    path = directory / f"{name}.safetensors"
    load_module(module, load_tensors(path), path)
    return module


def fingerprint(directory: Path, part: str) -> str:
    """Hash of all that decides what a part computes: its config and weights, wherever they are.

    Raises:
        UserError: a file is missing.
    """
    config, weights = read_json(directory / f"{part}.json"), directory / f"{part}.safetensors"
    if "path" in config:  # a model that stays in its place, which is no part of what it computes
        weights = directory / config.pop("path")
    if not weights.is_file():
        raise UserError(f"{weights} does not exist; make the part in {directory} again")
    return digest_of(repr(sorted(config.items())), weights)


def digest_of(words: str, path: Path) -> str:
    """Hash of words and a file, which may be larger than memory."""
    digest = hashlib.sha256(words.encode())
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _NothingDrawn(TorchFunctionMode):
    """Random and constant numbers are not written into tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" and "tensor" in kwargs:
            return kwargs["tensor"]  # what calls it would not come here again
        if func in (torch.randn, torch.rand):
            return torch.empty(*args, **{key: value for key, value in kwargs.items() if key != "generator"})
        return args[0] if func in DRAWS else func(*args, **kwargs)


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made in here hold whatever is in memory, for weights that are read anyway.

    The meta device would do too, but to draw numbers on it torch imports its compiler, with sympy: 1.7 s and 150 MB.
    """
    with torch.device("cpu"), _NothingDrawn():
        yield


def build(kind: type[M], config: Any) -> M:
    """`kind(config)` for inference, without the time it takes to draw weights that are read anyway."""
    with unfilled():
        module = kind(config)
    stored = module.state_dict().keys()
    if any(name not in stored for name, _ in module.named_buffers()):
        module = kind(config)  # what the file leaves out is computed by the constructor
    return module.eval().requires_grad_(False)
