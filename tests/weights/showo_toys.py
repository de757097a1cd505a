"""Made-up checkpoints with Show-o's published tensor names at small widths, a tokenizer of its kind, and its trunk
written out plainly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from unif2ace_core.config import PRESETS
from unif2ace_core.tokens.text import END as END_MARK

WIDTH, HEADS, FFN, LAYERS = 32, 2, 48, 4
TEXT, CODES, SIDE = 280, 32, 4
HEAD, OFFSET, VOCABULARY = WIDTH // HEADS, TEXT + 10, TEXT + 10 + CODES + 1
END = 7  # id that starts and ends a text
PRESET = replace(
    PRESETS["1.8b"],
    experts=4,
    top_k=2,
    expert_hidden=8,
    resampler=16,
    clip_width=12,
    face_width=10,
    noise_width=6,
    noise_tokens=5,
    text_length=60,
)
CODEC = {"channels": 32, "bits": 5, "encoder": ((1, 1, 2), (1, 2, 1)), "decoder": ((1, 2, 2), (2, 1, 1))}


def fill(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random tensors in the order of the names; norm weights are near 1."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        near_one = "norm" in name and name.endswith("weight")
        fan = max(1, noise[0].numel()) if noise.ndim > 1 else 4
        fan = 0.25 if "embed" in name else fan  # tokens that differ this much get answers that differ
        made[name] = 1 + 0.1 * noise if near_one else noise * fan**-0.5
    return made


def backbone(seed: int = 38, clip: bool = False) -> dict[str, Tensor]:
    """A backbone's state dict."""
    shapes: dict[str, tuple[int, ...]] = {"showo.model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        sizes = {f"self_attn.{name}": (WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj", "dense")}
        sizes |= {"self_attn.q_layernorm": (HEAD,), "self_attn.k_layernorm": (HEAD,)}
        sizes |= {"mlp.fc1": (FFN, WIDTH), "mlp.fc2": (WIDTH, FFN), "input_layernorm": (WIDTH,)}
        for name, size in sizes.items():
            shapes[f"showo.model.layers.{layer}.{name}.weight"] = size
            shapes[f"showo.model.layers.{layer}.{name}.bias"] = size[:1]
    for name, size in (("model.final_layernorm", (WIDTH,)), ("lm_head", (VOCABULARY, WIDTH))):
        shapes |= {f"showo.{name}.weight": size, f"showo.{name}.bias": size[:1]}
    for number, size in ((0, (WIDTH, 12)), (2, (WIDTH, WIDTH))) if clip else ():
        shapes |= {f"mm_projector.{number}.weight": size, f"mm_projector.{number}.bias": size[:1]}
    return fill(shapes, seed)


def residual_shapes(path: str, width: int, out: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a residual block."""
    sizes = {"norm1": (width,), "conv1": (out, width, 3, 3), "norm2": (out,), "conv2": (out, out, 3, 3)}
    if width != out:
        sizes["nin_shortcut"] = (out, width, 1, 1)
    return {f"{path}.{name}": size for name, size in sizes.items()}


def codec_side(side: str) -> dict[str, tuple[int, ...]]:
    """The tensors of the encoder or the decoder, without their biases."""
    channels, bits = int(CODEC["channels"]), int(CODEC["bits"])
    multipliers, blocks = CODEC[side]
    widths = [channels * multiplier for multiplier in multipliers]
    encoder, levels = side == "encoder", len(widths)
    sizes: dict[str, tuple[int, ...]] = {"conv_in": (channels, 3, 3, 3) if encoder else (widths[-1], bits, 3, 3)}
    before = channels if encoder else widths[-1]
    for level in range(levels) if encoder else reversed(range(levels)):
        path = f"{'down' if encoder else 'up'}.{level}"
        for block in range(blocks[level]):
            sizes |= residual_shapes(f"{path}.block.{block}", before, widths[level])
            before = widths[level]
        if level != (levels - 1 if encoder else 0):
            sizes[f"{path}.{'downsample' if encoder else 'upsample'}.conv"] = (before, before, 3, 3)
    middle = widths[-1]
    for name in ("block_1", "block_2"):
        sizes |= residual_shapes(f"mid.{name}", middle, middle)
    sizes |= {f"mid.attn_1.{name}": (middle, middle, 1, 1) for name in ("q", "k", "v", "proj_out")}
    sizes |= {"mid.attn_1.norm": (middle,), "norm_out": (before,)}
    sizes["conv_out"] = ((bits if encoder else 3), before, 3, 3)
    sizes["quant_conv" if encoder else "post_quant_conv"] = (bits, bits, 1, 1)
    return {f"{side}.{name}": size for name, size in sizes.items()}


def codec(seed: int = 1) -> dict[str, Tensor]:
    """A MAGVIT-v2 state dict with its two buffers."""
    sizes = codec_side("encoder") | codec_side("decoder")
    both = {f"{name}.{kind}": size[: None if kind == "weight" else 1] for name, size in sizes.items() for kind in KINDS}
    bits = int(CODEC["bits"])
    powers = 2 ** torch.arange(bits - 1, -1, -1)
    table = ((torch.arange(2**bits).unsqueeze(1) // powers) % 2).float() * 2 - 1
    return fill(both, seed) | {"quantize.embedding": table, "quantize.power_vals": powers}


KINDS = ("weight", "bias")


def stated(side: int = SIDE, clip: bool = False) -> dict[str, Any]:
    """The config.json beside a backbone."""
    sizes = {"vocab_size": VOCABULARY, "llm_vocab_size": TEXT, "codebook_size": CODES, "num_vq_tokens": side * side}
    return {"_class_name": "Showo", "w_clip_vit": clip, "mask_token_id": VOCABULARY - 1, **sizes}


def save_backbone(folder: Path, clip: bool = False, side: int = SIDE, **changes: Tensor | None) -> Path:
    """Write a backbone with its config.json; `changes` replaces tensors or, with None, leaves them out."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value for name, value in {**backbone(clip=clip), **changes}.items() if value is not None}
    save_file(tensors, folder / "pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(stated(side, clip)))
    return folder


def save_codec(folder: Path) -> Path:
    """Write a codec."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(codec(), folder / "pytorch_model.safetensors")
    return folder


MERGES = (
    "U+S E+R US+ER A+S I+S AS+S IS+T ASS+IST N+T A+NT ASSIST+ANT Ġ+ASSISTANT i+n e+r a+n o+n h+e t+he Ġ+the Ġ+s Ġ+w"
)
QUESTION = "Could the woman look happy, or not?"


def tokenizer() -> Tokenizer:
    """A cased byte-level BPE that splits words as CodeGen's does; `END` is its end mark."""
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words.insert(END, END_MARK)
    merges = [(left, right) for left, _, right in (merge.partition("+") for merge in MERGES.split())]
    words += [left + right for left, right in merges]
    words += [f"unused {number}" for number in range(TEXT - len(words))]
    made = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END_MARK, special=True, normalized=False)])
    return made


def save_tokenizer(folder: Path) -> Path:
    """Write the tokenizer beside a model."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def t2i_ids(prompt: list[int], codes: list[int]) -> list[int]:
    """[t2i] [end] prompt [end] [soi] codes [eoi]."""
    return [TEXT + 5, END, *prompt, END, TEXT + 1, *[OFFSET + code for code in codes], TEXT + 2]


def mmu_ids(codes: list[int], question: list[int]) -> list[int]:
    """[mmu] [soi] codes [eoi] [end] question."""
    return [TEXT + 6, TEXT + 1, *[OFFSET + code for code in codes], TEXT + 2, END, *question]


def visible(ids: list[int]) -> Tensor:
    """Who sees whom (L, L): text is causal, `soi` to `eoi` is one block, all see what stands before the block's end.

    In a T2I row the text stands before the span and stays causal; in an MMU row `mmu` belongs to the block.
    """
    length, start, stop = len(ids), ids.index(TEXT + 1), ids.index(TEXT + 2)
    seen = torch.ones(length, length).tril().bool()
    seen[0 if ids[0] == TEXT + 6 else start : stop + 1, : stop + 1] = True
    return seen


def dense_logits(state: Mapping[str, Tensor], ids: list[int]) -> Tensor:
    """Show-o's trunk, position by position as its formulas say: logits (L, vocabulary)."""
    seen = visible(ids)
    x = state["showo.model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):

        def linear(name: str, h: Tensor, at: str = f"showo.model.layers.{layer}.") -> Tensor:
            return h @ state[f"{at}{name}.weight"].T + state[f"{at}{name}.bias"]

        def norm(name: str, h: Tensor, at: str = f"showo.model.layers.{layer}.") -> Tensor:
            centred = h - h.mean(-1, keepdim=True)
            scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            return scaled * state[f"{at}{name}.weight"] + state[f"{at}{name}.bias"]

        h = norm("input_layernorm", x)
        heads = [linear(f"self_attn.{name}_proj", h).view(len(ids), HEADS, HEAD) for name in "qkv"]
        q, k = (turned(norm(f"self_attn.{name}_layernorm", value)) for name, value in zip("qk", heads))
        scores = torch.einsum("ihd,jhd->hij", q, k) / HEAD**0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        mixed = torch.einsum("hij,jhd->ihd", weights, heads[2]).flatten(1)
        hidden = F.gelu(linear("mlp.fc1", h), approximate="tanh")
        x = x + linear("self_attn.dense", mixed) + linear("mlp.fc2", hidden)
    x = F.layer_norm(
        x, (WIDTH,), state["showo.model.final_layernorm.weight"], state["showo.model.final_layernorm.bias"], 1e-5
    )
    return x @ state["showo.lm_head.weight"].T + state["showo.lm_head.bias"]


def turned(x: Tensor) -> Tensor:
    """Rotary embedding as complex numbers: pair (i, i + HEAD / 4) of the first half of a head; x (L, H, d)."""
    quarter = HEAD // 4
    rates = 10000.0 ** (-torch.arange(quarter) / quarter)
    angles = torch.arange(len(x)).unsqueeze(1) * rates
    pairs = torch.complex(x[..., :quarter], x[..., quarter : 2 * quarter])
    pairs = pairs * torch.polar(torch.ones_like(angles), angles).unsqueeze(1)
    return torch.cat([pairs.real, pairs.imag, x[..., 2 * quarter :]], -1)
