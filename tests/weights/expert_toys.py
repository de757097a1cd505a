"""Published experts in small: an architecture of open_clip with random weights, recognition models as ONNX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

NAME = "tiny-vit"
VISION = {"image_size": 32, "layers": 3, "width": 12, "head_width": 6, "patch_size": 8}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
PATCHES, WIDTH, EMBED = 16, 12, 6
DIMENSION = 10


def architecture(folder: Path, name: str = NAME, vision: Mapping[str, Any] = VISION, quick_gelu: bool = False) -> str:
    """Tell open_clip an architecture of this name."""
    open_clip = pytest.importorskip("open_clip")
    folder.mkdir(parents=True, exist_ok=True)
    values = {"embed_dim": EMBED, "quick_gelu": quick_gelu, "vision_cfg": dict(vision), "text_cfg": TEXT}
    (folder / f"{name}.json").write_text(json.dumps(values))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def forget(name: str = NAME) -> None:
    """open_clip as if the architecture had never been told."""
    from open_clip import factory

    factory._MODEL_CONFIG_PATHS[1:] = [path for path in factory._MODEL_CONFIG_PATHS[1:] if path.stem != name]
    factory._MODEL_CONFIGS.pop(name, None)


def clip_model(name: str = NAME, seed: int = 0) -> Any:
    """The whole CLIP of an architecture; weights that fp16 holds exactly."""
    import open_clip

    torch.manual_seed(seed)
    return open_clip.create_model(name, pretrained=None).half().float().eval()


def save_clip(path: Path, name: str = NAME, seed: int = 0) -> Path:
    """An open_clip checkpoint of an architecture."""
    state = {key: value.contiguous() for key, value in clip_model(name, seed).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path


def save_recognition(path: Path, dimension: int = DIMENSION, pixels: int = 112, batch: int | None = None) -> Path:
    """A recognition model in name only: mean over pixels of `dimension` channels, as ONNX."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "recognition",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, pixels, pixels])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, dimension])],
        [numpy_helper.from_array(recognition_weight(dimension).numpy(), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def recognition_weight(dimension: int = DIMENSION) -> torch.Tensor:
    """The weights (dimension, 3, 1, 1) of `save_recognition`."""
    return torch.randn(dimension, 3, 1, 1, generator=torch.Generator().manual_seed(0))
