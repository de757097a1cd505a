"""MAGVIT-v2: published sizes and names, Show-o's own numbers, and the interface of the embedded codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import showo_toys as toys
import torch
from safetensors.torch import save_file

from unif2ace_core.errors import UserError
from unif2ace_core.tokens.magvit import MagvitConfig, MagvitV2
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.resolve import load_codec
from unif2ace_core.weights.showo import codec_sizes, convert_codec
from unif2ace_core.weights.streams import open_checkpoint

# Computed by showlab/Show-o (commit 45a5a2d) with the toy weights in fp32.
FROZEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "weights" / "showo_numbers.json").read_text())[
    "magvit"
]
SMALL = MagvitConfig(
    pixels=16,
    bits=5,
    channels=32,
    encoder_multipliers=(1, 1, 2),
    encoder_blocks=(1, 2, 1),
    decoder_multipliers=(1, 2, 2),
    decoder_blocks=(2, 1, 1),
)


@pytest.fixture
def codec() -> MagvitV2:
    """The toy codec."""
    model = MagvitV2(SMALL).eval().requires_grad_(False)
    model.load_state_dict({name: value for name, value in toys.codec().items() if "quantize" not in name})
    return model


def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(9)) * 2 - 1


def test_published_sizes() -> None:
    with torch.device("meta"):
        model = MagvitV2(MagvitConfig())
    counts = [sum(p.numel() for p in part.parameters()) for part in (model, model.encoder, model.decoder)]
    assert counts == [95_387_004, 55_439_171, 39_947_833]
    assert len(model.state_dict()) == 382 - 2  # the two buffers are computed
    assert (model.config.codes, model.config.grid, model.config.factor) == (8192, (16, 16), 16)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.conv_in.weight", (128, 3, 3, 3)),
        ("encoder.down.1.block.0.nin_shortcut.weight", (256, 128, 1, 1)),
        ("encoder.down.3.downsample.conv.weight", (512, 512, 3, 3)),
        ("encoder.mid.attn_1.proj_out.weight", (512, 512, 1, 1)),
        ("encoder.quant_conv.weight", (13, 13, 1, 1)),
        ("decoder.post_quant_conv.weight", (13, 13, 1, 1)),
        ("decoder.up.3.block.0.nin_shortcut.weight", (256, 512, 1, 1)),
        ("decoder.up.1.upsample.conv.weight", (128, 128, 3, 3)),
        ("decoder.norm_out.weight", (128,)),
        ("decoder.conv_out.bias", (3,)),
    ],
)
def test_names_and_shapes_are_the_published_ones(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        state = MagvitV2(MagvitConfig()).state_dict()
    assert tuple(state[name].shape) == shape
    assert not {"encoder.down.4.downsample.conv.weight", "decoder.up.0.upsample.conv.weight"} & set(state)


def test_codes_and_pixels_are_show_os(codec: MagvitV2) -> None:
    codes = codec.encode(images())
    assert codes.tolist() == FROZEN["codes"]
    assert torch.allclose(codec.project(images())[0, :, 1, 2], torch.tensor(FROZEN["values"]), atol=1e-4)
    restored = codec.decode(codes)
    assert torch.allclose(restored[0, :, 5, 7], torch.tensor(FROZEN["pixels"]).clamp(-1, 1), atol=1e-4)
    assert abs(float(restored.double().sum()) - FROZEN["sum"]) < 1e-2
    wide = torch.randint(0, 32, (1, 8), generator=torch.Generator().manual_seed(2))
    row = codec.decode(wide, shape=(2, 4))[0, 0, 3, 2:8]
    assert torch.allclose(row, torch.tensor(FROZEN["wide"]).clamp(-1, 1), atol=1e-4)


def test_interface_is_that_of_the_embedded_codec(codec: MagvitV2) -> None:
    codes = codec.encode(images())
    assert codes.shape == (2, 16) and codes.dtype == torch.int64
    restored = codec.decode(codes)
    assert restored.shape == (2, 3, 16, 16) and float(restored.abs().max()) <= 1
    assert torch.equal(codec.decode(codes + 1000), codec.decode(torch.full_like(codes, 31)))  # clamped


def test_sides_may_be_any_multiple_of_the_factor(codec: MagvitV2) -> None:
    codes = codec.encode(torch.zeros(1, 3, 8, 12))
    assert codes.shape == (1, 6) and codec.decode(codes, shape=(2, 3)).shape == (1, 3, 8, 12)
    with pytest.raises(ValueError, match="multiples of 4"):
        codec.encode(torch.zeros(1, 3, 8, 10))
    with pytest.raises(ValueError, match="6 codes do not fill 4 x 4"):
        codec.decode(codes)


@pytest.mark.parametrize(
    "change",
    [{"channels": 33}, {"bits": 0}, {"pixels": 18}, {"encoder_blocks": (1, 1)}, {"decoder_blocks": (1, 0, 1)}],
)
def test_impossible_sizes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MagvitConfig(**{**vars(SMALL), **change})


def test_checkpoint_is_imported_and_loaded_by_its_kind(tmp_path: Path, codec: MagvitV2) -> None:
    source = open_checkpoint(toys.save_codec(tmp_path / "in"))
    sizes = codec_sizes(source, grid=4, codes=32)
    assert sizes == SMALL
    report = convert_codec(source, sizes, tmp_path, torch.float32)
    assert report.unused == ("quantize.embedding", "quantize.power_vals") and report.missing == ()
    assert read_config(tmp_path / "codec.json", MagvitConfig) == SMALL
    loaded = load_codec(tmp_path)
    assert isinstance(loaded, MagvitV2) and torch.equal(loaded.encode(images()), codec.encode(images()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder.conv_in.weight": None}, "no MAGVIT-v2"),
        ({"encoder.down.1.block.1.conv2.bias": None}, "lacks 1 tensors"),
        ({"decoder.mid.attn_1.q.weight": torch.zeros(3)}, r"attn_1.q.weight has shape \(3,\)"),
        ({"encoder.conv_out.weight": torch.zeros(6, 64, 3, 3)}, r"has 2\^6 codes"),
        ({"encoder.down.1.block.0.conv1.weight": torch.zeros(3, 32, 3, 3)}, "impossible sizes"),
    ],
)
def test_damaged_codecs_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    tensors = {name: value for name, value in {**toys.codec(), **change}.items() if value is not None}
    save_file(tensors, tmp_path / "a.safetensors")
    source = open_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=words):
        convert_codec(source, codec_sizes(source, grid=4, codes=32), tmp_path, torch.float32)
