"""Import of Show-o's published checkpoints: the backbone (256 or 512 pixels, with or without CLIP ViT) and MAGVIT-v2.

    showo.model.layers.L.self_attn.{q,k,v}_proj -> blocks.L.attention.qkv         stacked in that order
    showo.model.layers.L.mlp.fc1, fc2           -> blocks.L.mlp.fc1, fc2          dense blocks
                                                -> blocks.L.mlp.shared.fc1, fc2   blocks with both MoE levels
    everything else                             -> see TRUNK and BLOCK

The new parts start so that the outputs are exactly Show-o's:

    routed experts     W1 ~ N(0, 0.02), W2 = 0: they add nothing
    sequence routers   W = 0, b = 1 for Copy, 0 for the rest (Zero: below 0): both Copy experts win and add 0
    rho                0: an explored CLIP, face or noise expert is the identity too

From there only exploration lets the sequence routers learn: two selected Copy experts have no gradient.

All sizes are read off the tensors' shapes but three: the number of image codes and their grid stand in config.json
(256 and 512 pixel checkpoints have the same tensors), and rotary dimensions are half a head, as in Phi-1.5. The CLIP
variants' `mm_projector` puts CLIP patches in place of image codes; here CLIP is a sequence expert over the codes, so
that projector has no place and is reported as unused. Those variants are asked in the words of the others (LAYOUT):
their own, a system prompt before the picture, belong to the patches.

Format of the checkpoints: showlab/Show-o (arXiv 2408.12528).
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.config import PRESETS, SPECIALS, ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.model.sequence_moe import ZERO_BIAS
from unif2ace_core.model.transformer import UniF2ace, count_parameters
from unif2ace_core.tokens.magvit import MagvitConfig, MagvitV2
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.quantized import check_output, folder_bytes, new_folder
from unif2ace_core.weights.resolve import GenerationDefaults, config_json, fetch_from_hub
from unif2ace_core.weights.store import write_text_atomic
from unif2ace_core.weights.streams import DTYPES, Checkpoint, Shape, open_checkpoint, write_stream

PREFIX = "showo."
PROJECTOR = "mm_projector."
PROJECTOR_KEYS = tuple(f"{PROJECTOR}{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias"))
CODEC_BUFFERS = ("quantize.embedding", "quantize.power_vals")  # computed here, not stored
TRUNK = {
    "embedding": "showo.model.embed_tokens",
    "norm": "showo.model.final_layernorm",
    "head": "showo.lm_head",
}
BLOCK = {
    "norm": ("input_layernorm",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.dense",),
    "attention.q_norm": ("self_attn.q_layernorm",),
    "attention.k_norm": ("self_attn.k_layernorm",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
    "mlp.shared.fc1": ("mlp.fc1",),
    "mlp.shared.fc2": ("mlp.fc2",),
}
# How Show-o is asked (its inference_mmu.py, without CLIP ViT); in its training data a space stands before an answer.
LAYOUT: dict[str, Any] = {
    "question_template": "USER: \n{question} ASSISTANT:",
    "question_end": False,
    "answer_start": " ",
}
# Show-o's published settings (guidance 1.75 with 16 steps, at 512 pixels 5 with 50), its own sampler.
SAMPLING = {256: GenerationDefaults(16, 1.75, 1.0, "maskgit"), 512: GenerationDefaults(50, 5.0, 1.0, "maskgit")}


@dataclass(frozen=True)
class KeyReport:
    """What became of the tensors of one checkpoint."""

    source: str  # the file or folder
    used: dict[str, str]  # its tensor -> ours
    unused: tuple[str, ...]  # its tensors without a place here
    missing: tuple[str, ...]  # tensors of that kind of checkpoint that it lacks and that are not needed
    fresh: tuple[str, ...] = ()  # our tensors that start new


@dataclass(frozen=True)
class ConvertReport:
    """The result of a conversion."""

    variant: str  # for example "256x256 with CLIP ViT"
    dtype: str  # fp16, fp32 or bf16
    parameters: int  # of the transformer
    bytes: int  # of the new folder
    config: ModelConfig
    model: KeyReport
    codec: KeyReport | None = None
    notes: list[str] = field(default_factory=list)  # what a user should know


# --- Sizes ---------------------------------------------------------------------------------------------


def read_sizes(checkpoint: Checkpoint, preset: ModelConfig, pixels: int | None = None) -> ModelConfig:
    """The preset with the trunk's sizes of a checkpoint.

    Args:
        checkpoint: a Show-o backbone.
        preset: gives the sizes of both MoE levels.
        pixels: side of the images; None takes `num_vq_tokens` of the config.json beside the checkpoint.

    Raises:
        UserError: no Show-o backbone, or shapes and config.json do not go together.
    """
    check_is_backbone(checkpoint)
    layers = count_layers(checkpoint)
    vocabulary, width = shape_of(checkpoint, f"{TRUNK['embedding']}.weight", 2)
    (head,) = shape_of(checkpoint, "showo.model.layers.0.self_attn.q_layernorm.weight", 1)
    ffn = shape_of(checkpoint, "showo.model.layers.0.mlp.fc1.weight", 2)[0]
    if width % head or head % 4:
        raise UserError(f"{checkpoint.origin}: width {width} and heads of {head} do not go together; is it Show-o's?")
    stated = stated_config(checkpoint.origin)
    codes = stated_number(stated, "codebook_size", preset.codes)
    text = vocabulary - len(SPECIALS) - codes - 1
    if text < 1 or any(
        stated.get(name, own) != own for name, own in (("vocab_size", vocabulary), ("llm_vocab_size", text))
    ):
        raise UserError(
            f"{checkpoint.origin}: {vocabulary} embeddings do not fit {codes} codes, {len(SPECIALS)} specials and the "
            "vocabulary in config.json; take both files from one model"
        )
    side = grid_side(checkpoint.origin, stated, pixels)
    return replace(
        preset,
        width=width,
        layers=layers,
        heads=width // head,
        ffn=ffn,
        rotary=head // 2,
        text_vocabulary=text,
        codes=codes,
        grid=(side, side),
        code_bits=0,
        sequence_rho=0.0,
        **LAYOUT,
    )


def check_is_backbone(checkpoint: Checkpoint) -> None:
    """Name a checkpoint of another kind.

    Raises:
        UserError: it is none of Show-o's backbones.
    """
    names = checkpoint.shapes
    if any(name.startswith(PREFIX) for name in names):
        return
    what = f"no Show-o checkpoint (its first tensor is {next(iter(names))})"
    advice = "give pytorch_model.safetensors of showlab/show-o or one of its variants"
    if "encoder.conv_in.weight" in names and "decoder.conv_in.weight" in names:
        what, advice = "an image codec (MAGVIT-v2)", "pass it with --codec, and the backbone as SRC"
    elif "embedding.weight" in names and any(name.startswith("blocks.") for name in names):
        what, advice = "a unif2ace model already", "use its folder with --model"
    raise UserError(f"{checkpoint.origin} is {what}; {advice}")


def count_layers(checkpoint: Checkpoint) -> int:
    """Number of blocks, numbered without gaps.

    Raises:
        UserError: there is none, or one is missing.
    """
    pattern = re.compile(r"showo\.model\.layers\.(\d+)\.")
    numbers = {int(match[1]) for name in checkpoint.shapes if (match := pattern.match(name))}
    gaps = sorted(set(range(max(numbers, default=0) + 1)) - numbers)
    if gaps:
        raise UserError(f"{checkpoint.origin} lacks layer {gaps[0]}; download the checkpoint again")
    return len(numbers)


def shape_of(checkpoint: Checkpoint, name: str, dimensions: int) -> Shape:
    """The shape of a tensor that tells sizes.

    Raises:
        UserError: it is missing, or has another number of dimensions.
    """
    shape = checkpoint.shapes.get(name)
    if shape is None:
        raise UserError(f"{checkpoint.origin} lacks the tensor {name}; download the checkpoint again")
    if len(shape) != dimensions or min(shape) < 1:
        raise UserError(f"{checkpoint.origin}: {name} has shape {shape}, not {dimensions} sizes; is it Show-o's?")
    return shape


def stated_config(origin: Path) -> dict[str, Any]:
    """The config.json beside a checkpoint, empty where there is none."""
    path = origin.parent / "config.json"
    return read_json(path) if path.is_file() else {}


def stated_number(stated: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number of a config.json.

    Raises:
        UserError: it is something else.
    """
    value = stated.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"config.json of the checkpoint has {name} = {value!r}; restore it from the original model")
    return value


def grid_side(origin: Path, stated: Mapping[str, Any], pixels: int | None) -> int:
    """Rows of image codes, 16 pixels each.

    Raises:
        UserError: unknown, or no square.
    """
    if pixels is not None:
        if pixels < 16 or pixels % 16:
            raise UserError(f"--pixels {pixels} is no multiple of 16; the published models have 256 or 512")
        return pixels // 16
    if "num_vq_tokens" not in stated:
        raise UserError(f"{origin} has no config.json beside it to tell the picture's size; add --pixels 256 or 512")
    positions = stated_number(stated, "num_vq_tokens", 256)
    side = math.isqrt(positions)
    if side * side != positions:
        raise UserError(f"num_vq_tokens {positions} of config.json is no square; add --pixels 256 or 512")
    return side


def codec_sizes(checkpoint: Checkpoint, grid: int, codes: int) -> MagvitConfig:
    """Sizes of a MAGVIT-v2 checkpoint for pictures of grid x grid codes.

    Raises:
        UserError: no such codec, or one with another codebook.
    """
    if "encoder.conv_in.weight" not in checkpoint.shapes or "decoder.conv_in.weight" not in checkpoint.shapes:
        raise UserError(
            f"{checkpoint.origin} is no MAGVIT-v2 codec; give pytorch_model.safetensors of showlab/magvitv2"
        )
    channels = shape_of(checkpoint, "encoder.conv_in.weight", 4)[0]
    bits = shape_of(checkpoint, "encoder.conv_out.weight", 4)[0]
    if 2**bits != codes:
        raise UserError(f"{checkpoint.origin} has 2^{bits} codes, the backbone {codes}; take both from one model")
    levels = {side: codec_levels(checkpoint, side, channels) for side in ("encoder.down", "decoder.up")}
    (encoder, encoder_blocks), (decoder, decoder_blocks) = levels.values()
    pixels = grid * 2 ** (len(encoder) - 1)
    try:
        return MagvitConfig(
            pixels=pixels,
            bits=bits,
            channels=channels,
            encoder_multipliers=encoder,
            encoder_blocks=encoder_blocks,
            decoder_multipliers=decoder,
            decoder_blocks=decoder_blocks,
        )
    except ValueError as error:
        raise UserError(f"{checkpoint.origin} has impossible sizes ({error}); download the codec again") from error


def codec_levels(checkpoint: Checkpoint, side: str, channels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Multipliers and residual blocks per level of one side; 0 where a level does not tell."""
    pattern = re.compile(re.escape(side) + r"\.(\d+)\.block\.(\d+)\.conv1\.weight")
    found = [
        (int(m[1]), int(m[2]), shape) for name, shape in checkpoint.shapes.items() if (m := pattern.fullmatch(name))
    ]
    count = max((level for level, _, _ in found), default=-1) + 1
    blocks = tuple(sum(1 for level, _, _ in found if level == number) for number in range(count))
    widths = [next((shape[0] for level, _, shape in found if level == number and shape), 0) for number in range(count)]
    return tuple(width // channels for width in widths), blocks


# --- Names ---------------------------------------------------------------------------------------------


def trunk_sources(name: str) -> tuple[str, ...]:
    """Show-o's tensors that make one of ours, stacked along the first dimension; empty for a new one."""
    path, _, kind = name.rpartition(".")
    if path in TRUNK:
        return (f"{TRUNK[path]}.{kind}",)
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", path)
    parts = BLOCK.get(match[2], ()) if match else ()
    return tuple(f"showo.model.layers.{match[1]}.{part}.{kind}" for part in parts) if match else ()


def check_shapes(checkpoint: Checkpoint, expected: Mapping[str, Shape]) -> None:
    """Compare a checkpoint with the tensors it must have.

    Raises:
        UserError: one is missing or has another shape.
    """
    missing = [name for name in expected if name not in checkpoint.shapes]
    if missing:
        raise UserError(
            f"{checkpoint.origin} lacks {len(missing)} tensors ({missing[0]}); download the checkpoint again"
        )
    for name, shape in expected.items():
        if checkpoint.shapes[name] != tuple(shape):
            own = checkpoint.shapes[name]
            raise UserError(f"{checkpoint.origin}: {name} has shape {own}, expected {tuple(shape)}; is it Show-o's?")


def fresh_tensor(name: str, shape: Shape, config: ModelConfig, generator: torch.Generator) -> Tensor:
    """The start of a parameter that Show-o does not have (see the module's docstring)."""
    zeros = torch.zeros(shape)
    if ".sequence." in name and ".router." in name:
        names = config.sequence_t2i if ".t2i." in name else config.sequence_mmu
        starts = {"copy": 1.0, "zero": ZERO_BIAS}
        return torch.tensor([starts.get(each, 0.0) for each in names]) if name.endswith("bias") else zeros
    if name.endswith(("fc2_weight", "bias")) or ".rho." in name:
        return zeros
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    scale = 1.0 if name.endswith("queries") else 0.02  # distinct queries from the start
    return zeros.normal_(0, scale, generator=generator)


# --- Conversion ----------------------------------------------------------------------------------------


def convert_backbone(
    checkpoint: Checkpoint, config: ModelConfig, path: Path, dtype: torch.dtype, seed: int
) -> KeyReport:
    """Stream a backbone into model.safetensors of our transformer.

    Raises:
        UserError: tensors are missing, of another shape, or not finite.
    """
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in UniF2ace(config).state_dict().items()}
    sources = {name: trunk_sources(name) for name in ours}
    check_shapes(
        checkpoint,
        {part: (shape[0] // len(sources[name]), *shape[1:]) for name, shape in ours.items() for part in sources[name]},
    )
    generator = torch.Generator().manual_seed(seed)

    def make(name: str) -> Tensor:
        parts = [checkpoint.read(part) for part in sources[name]]
        if not parts:
            return fresh_tensor(name, ours[name], config, generator)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    write_stream(path, ours, dtype, make)
    used = {part: name for name, parts in sources.items() for part in parts}
    return KeyReport(
        source=str(checkpoint.origin),
        used=used,
        unused=tuple(sorted(checkpoint.shapes.keys() - used)),
        missing=missing_projector(checkpoint),
        fresh=tuple(name for name, parts in sources.items() if not parts),
    )


def missing_projector(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Tensors of the CLIP projector that a checkpoint said to have one lacks; nothing here needs them."""
    expected = PROJECTOR_KEYS if has_projector(checkpoint) or stated_config(checkpoint.origin).get("w_clip_vit") else ()
    return tuple(name for name in expected if name not in checkpoint.shapes)


def has_projector(checkpoint: Checkpoint) -> bool:
    """Whether it is a variant with CLIP ViT."""
    return any(name.startswith(PROJECTOR) for name in checkpoint.shapes)


def convert_codec(checkpoint: Checkpoint, config: MagvitConfig, folder: Path, dtype: torch.dtype) -> KeyReport:
    """Stream a MAGVIT-v2 checkpoint into codec.safetensors, names as they are, with codec.json beside it.

    Raises:
        UserError: tensors are missing, of another shape, or not finite.
    """
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in MagvitV2(config).state_dict().items()}
    check_shapes(checkpoint, ours)
    write_stream(folder / "codec.safetensors", ours, dtype, checkpoint.read)
    write_text_atomic(folder / "codec.json", json.dumps(asdict(config), indent=1) + "\n")
    return KeyReport(
        source=str(checkpoint.origin),
        used={name: name for name in ours},
        unused=tuple(sorted(checkpoint.shapes.keys() - ours)),
        missing=tuple(name for name in CODEC_BUFFERS if name not in checkpoint.shapes),
    )


def convert_showo(
    source: str,
    output: Path,
    *,
    codec: str | None = None,
    tokenizer: Path | None = None,
    dtype: str = "fp16",
    pixels: int | None = None,
    force: bool = False,
    seed: int = 0,
    preset: ModelConfig = PRESETS["1.8b"],
) -> ConvertReport:
    """Write a model folder that starts as a Show-o checkpoint, all of it or nothing.

    Args:
        source: the backbone: a checkpoint file, an index of shards, a folder, or a hub id.
        output: new folder; another model in its place is replaced only with `force`.
        codec: a MAGVIT-v2 checkpoint; without it the folder has no codec.
        tokenizer: Phi-1.5's tokenizer.json; without it the folder has none.
        dtype: fp16, fp32 or bf16.
        pixels: side of the pictures where no config.json tells.
        force: replace a model that is there.
        seed: of the new parameters.
        preset: sizes of both MoE levels.

    Raises:
        UserError: a checkpoint is damaged, foreign or of other sizes, or the output is in the way.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is not offered; choose one of {', '.join(DTYPES)}")
    backbone = open_checkpoint(locate(source))
    config = read_sizes(backbone, preset, pixels)
    image_codec = open_checkpoint(locate(codec)) if codec is not None else None
    check_target(output, [*backbone.files, *(image_codec.files if image_codec else [])], force)
    check_tokenizer(tokenizer, config)
    codec_config = codec_sizes(image_codec, config.grid[0], config.codes) if image_codec else None
    with new_folder(output) as folder:
        keys = convert_backbone(backbone, config, folder / "model.safetensors", DTYPES[dtype], seed)
        made = None
        if image_codec and codec_config:
            made = convert_codec(image_codec, codec_config, folder, DTYPES[dtype])
        if tokenizer is not None:
            shutil.copyfile(tokenizer, folder / "tokenizer.json")
        sampling = SAMPLING[512 if config.grid[0] > 16 else 256]
        write_text_atomic(folder / "config.json", config_json("showo", config, sampling))
    with torch.device("meta"):
        parameters = count_parameters(UniF2ace(config))["total"]
    return ConvertReport(
        variant=variant_name(backbone, config),
        dtype=dtype,
        parameters=parameters,
        bytes=folder_bytes(output),
        config=config,
        model=keys,
        codec=made,
        notes=notes(backbone, codec, tokenizer),
    )


def locate(source: str) -> Path:
    """The file or folder of a checkpoint; an owner/name that is no path is fetched from the hub."""
    path = Path(source).expanduser()
    looks_like_hub = source.count("/") == 1 and not source.startswith((".", "/", "~")) and not path.suffix
    return fetch_from_hub(source) if looks_like_hub and not path.exists() else path


def check_target(output: Path, files: list[Path], force: bool) -> None:
    """Refuse an output that is in the way, or that holds the checkpoint itself.

    Raises:
        UserError: choose another folder.
    """
    for file in files:
        if output.resolve() in file.resolve().parents:
            raise UserError(f"{output} holds the checkpoint {file.name}; choose another output folder")
    check_output(output, files[0], force)


def check_tokenizer(path: Path | None, config: ModelConfig) -> None:
    """Raise `UserError` for a tokenizer that has more entries than the model."""
    if path is not None and (size := TextTokenizer.load(path).size) > config.text_vocabulary:
        raise UserError(f"{path} has {size} entries, the model {config.text_vocabulary}; give Phi-1.5's tokenizer.json")


def variant_name(checkpoint: Checkpoint, config: ModelConfig) -> str:
    """Which of the published variants a checkpoint is."""
    side = 16 * config.grid[0]
    return f"{side}x{side} {'with' if has_projector(checkpoint) else 'without'} CLIP ViT"


def notes(backbone: Checkpoint, codec: str | None, tokenizer: Path | None) -> list[str]:
    """What the new folder still lacks, in words."""
    found = []
    if has_projector(backbone):
        found.append(
            "mm_projector is left out: it puts CLIP features in place of image codes, while here CLIP is a sequence "
            "expert over the codes; questions are asked over codes, as of the variants without CLIP ViT"
        )
    if codec is None:
        found.append("no codec: add --codec with the MAGVIT-v2 checkpoint to generate or read pictures")
    if tokenizer is None:
        found.append("no tokenizer: add --tokenizer with Phi-1.5's tokenizer.json")
    return found
