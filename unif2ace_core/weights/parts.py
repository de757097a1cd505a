"""A part of the model on disk: NAME.safetensors (fp16) with NAME.json beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.store import load_module, load_tensors, save_tensors, write_text_atomic

M = TypeVar("M", bound=nn.Module)


def save_part(directory: Path, name: str, module: nn.Module, config: Any) -> None:
    """Write a module's weights in fp16 and its config dataclass."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in module.state_dict().items()}
    save_tensors(directory / f"{name}.safetensors", tensors)
    write_text_atomic(directory / f"{name}.json", json.dumps(asdict(config), indent=1) + "\n")


def load_part(directory: Path, name: str, kind: type[M], config_kind: type[Any]) -> M:
    """Build `kind(config)` and read its weights, in fp32, ready for inference.

    Raises:
        UserError: a file is missing, unreadable, or does not fit its config.
    """
    config = read_config(directory / f"{name}.json", config_kind)
    try:
        with torch.device("meta"):
            module = kind(config)
    except (ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise UserError(f"{directory / name}.json has impossible sizes ({error}); download the model again") from error
    module = module.to_empty(device="cpu").eval().requires_grad_(False)
    path = directory / f"{name}.safetensors"
    load_module(module, load_tensors(path), path)
    return module
