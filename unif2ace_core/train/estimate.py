"""Memory of each device and time of a step of the joint transformer, by arithmetic: nothing is built or run.

    always     fp32 weights, AdamW's moments, averaged weights                from the parameter counts
    forward    at its end: all that autograd keeps, bf16 copies of weights, logits; gradients of earlier parts
    backward   in a block: what it computes again under checkpointing, its own gradients; the weights' gradients grow as
               the activations go
    update     gradients; fused AdamW needs nothing besides
    FLOPs      of matrix products only, as `torch.utils.flop_counter` counts them

What autograd keeps is listed module by module in the functions below; change them with the modules (the tests compare
both). Not counted: the CUDA context, fragmentation, evaluation, communication time, whatever is no matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal

import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.model.sequence_moe import FEATURES
from unif2ace_core.model.transformer import UniF2ace, count_parameters

Sharding = Literal["none", "gradients", "full"]

FULL, HALF = 4, 2  # bytes of fp32 and bf16
ARCSINE_MEAN = 0.6366  # mean share of masked codes, 2 / pi (reference: drawing exact counts)
SMALLEST_8BIT = 4096  # bitsandbytes keeps fp32 states for tensors with fewer elements
BLOCK_8BIT = 256  # elements that share one fp32 scale in bitsandbytes' blockwise states


@dataclass(frozen=True)
class Setup:
    """How a model is trained, as far as memory and time depend on it."""

    rows: int  # sequences of one process in one forward pass (one accumulation part)
    length: int  # tokens of a padded row, mean over batches: for time
    longest: int = 0  # the same of the longest batches: for memory; 0: `length`
    parts: int = 1  # accumulation parts of a process in an optimizer step
    processes: int = 1
    sharding: Sharding = "none"  # none: DDP; gradients: and optimizer, ZeRO-2; full: and weights, ZeRO-3
    precision: Literal["fp32", "bf16"] = "bf16"  # bf16: autocast over fp32 weights
    optimizer_bits: Literal[32, 8] = 32  # of each of AdamW's two moments
    averaged: bool = True  # averaged weights are kept, in fp32
    frozen: int = 0  # parameters that do not learn: no gradients and no moments; FLOPs are counted as if they did
    checkpointing: bool = False  # blocks are computed again in the backward pass
    cuda: bool = True  # fused attention; a CPU writes scores out
    t2i_share: float = 0.5  # rows of generation
    masked_share: float = ARCSINE_MEAN  # of their codes
    answer_tokens: float = 32.0  # tokens to predict in a row of understanding
    clip_tokens: int = 257  # features of an image that the CLIP expert hands over
    whole_softmax: bool = False  # masked codes are scored against text rows too: D3Diff's mode "unnormalized"

    @property
    def tokens(self) -> int:
        """Of the largest forward pass, pads included."""
        return self.rows * (self.longest or self.length)

    @property
    def sharded(self) -> bool:
        """Whether a process keeps only its shard of the weights (FSDP)."""
        return self.sharding != "none" and self.processes > 1

    @property
    def replicated(self) -> bool:
        """Whether every process keeps all of the weights (DDP)."""
        return self.sharding == "none" and self.processes > 1

    @property
    def shards(self) -> int:
        """Processes that divide weights, gradients and optimizer among them."""
        return self.processes if self.sharded else 1

    @property
    def number(self) -> int:
        """Bytes of a number that matrix products read and write."""
        return FULL if self.precision == "fp32" else HALF

    @property
    def group_rows(self) -> dict[str, float]:
        """Rows of each task group."""
        return {"t2i": self.rows * self.t2i_share, "mmu": self.rows * (1 - self.t2i_share)}


@dataclass(frozen=True)
class Memory:
    """Bytes of one device by item, each at its own peak; not all are there at the same time, see `moments`."""

    weights: int  # fp32
    gradients: int  # fp32
    optimizer: int  # AdamW's moments
    averaged: int  # averaged weights
    buckets: int  # DDP's, always there: the gradients are views of them
    gathered: int  # sharded runs: fp32 weights of the parts at work, gradients not scattered yet
    copies: int  # bf16 copies of weights under autocast
    activations: int  # what the forward pass keeps for the backward pass
    heads: int  # hidden states and logits of masked codes and answers, gradients of the head
    working: int  # inside one block's backward pass
    moments: Mapping[str, int]  # forward, backward, update: all that is there then

    @property
    def total(self) -> int:
        """The peak."""
        return max(self.moments.values())

    def items(self) -> dict[str, int]:
        """The items that are not zero, by name."""
        names = (field.name for field in fields(self) if field.name != "moments")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    memory: Memory  # per device
    flops: int  # of an optimizer step, per device

    def seconds(self, teraflops: float) -> float:
        """Seconds of an optimizer step at this many sustained TFLOP/s per device, communication not counted."""
        return self.flops / (teraflops * 1e12)


def estimate(config: ModelConfig, setup: Setup) -> Estimate:
    """Memory and FLOPs of a process that trains `config` on `UniF2ace`'s joint objective."""
    return Estimate(memory(config, setup), setup.parts * step_flops(config, setup))


def rows_that_fit(config: ModelConfig, setup: Setup, capacity: float) -> int:
    """The most rows of a part with which the peak stays within `capacity` bytes; 0: not even one row."""
    low, high = 0, 1
    while memory(config, replace(setup, rows=high)).total <= capacity:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = memory(config, replace(setup, rows=middle)).total <= capacity
        low, high = (middle, high) if fits else (low, middle)
    return low


def padded_length(config: ModelConfig, text: int, multiple: int = 8) -> int:
    """Tokens of a row with `text` text tokens: task, soi, codes, eoi and two ends, padded as batches are."""
    return -(-(config.positions + text + 5) // multiple) * multiple


# parameters


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters."""

    total: int
    small: int  # in tensors that 8-bit AdamW leaves alone
    copied: int  # read by products of matrices: autocast copies them
    routed: int  # in routed experts: copied slice by slice, for one product only
    root: int  # outside the blocks
    block: int  # in the largest block


@lru_cache(maxsize=16)
def sizes(config: ModelConfig) -> Sizes:
    """Counted on a model without memory (meta device)."""
    with torch.device("meta"):
        model = UniF2ace(config)
    named = {name: p.numel() for name, p in model.named_parameters()}
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.blocks]
    total = sum(named.values())
    apart = sum(count for name, count in named.items() if name == "embedding.weight" or "norm" in name)
    return Sizes(
        total=total,
        small=sum(count for count in named.values() if count < SMALLEST_8BIT),
        copied=total - apart,
        routed=count_parameters(model)["routed"],
        root=total - sum(blocks),
        block=max(blocks),
    )


def optimizer_bytes(size: Sizes, bits: int) -> float:
    """AdamW's two moments; with 8 bits a scale per block of elements, and fp32 for small tensors."""
    if bits == 32:
        return 2 * FULL * size.total
    return 2 * FULL * size.small + 2 * (1 + FULL / BLOCK_8BIT) * (size.total - size.small)


def gathered_bytes(size: Sizes, setup: Setup) -> int:
    """Weights that a sharded run holds whole while it computes, and gradients that it has not scattered yet.

    Weights: of the root and of two blocks, the second one fetched ahead; with sharding "gradients" all of them.
    Gradients: of the root and of one block; under accumulation all of them, since FSDP scatters after the last part.
    """
    if not setup.sharded:
        return 0
    weights = size.root + 2 * size.block if setup.sharding == "full" else size.total
    gradients = size.total if setup.parts > 1 else size.root + size.block
    return FULL * (weights + gradients)


def copied_bytes(size: Sizes, setup: Setup) -> int:
    """bf16 copies of weights at the end of the forward pass.

    Autocast's cache holds them until the pass ends, and the backward pass needs them anyhow; only slices of routed
    experts are let go under checkpointing. Sharding divides none of them: each process copies what it has gathered.
    """
    if setup.precision == "fp32":
        return 0
    return HALF * (size.copied - size.routed * setup.checkpointing)


def memory(config: ModelConfig, setup: Setup) -> Memory:
    """Bytes of one device by item, and in all at the three moments that may be the worst."""
    size, kinds = sizes(config), [config.is_moe(layer) for layer in range(config.layers)]
    whole, kept = FULL * size.total, block_bytes(config, setup)
    learning = whole - FULL * setup.frozen
    inputs = FULL * setup.tokens * config.width * (config.layers + 1)  # of the blocks and of the last norm
    inside = 0 if setup.checkpointing else sum(kept[kind] for kind in kinds)
    again = max(kept[kind] for kind in kinds) + copied_block(size, setup) if setup.checkpointing else 0
    items = {
        "weights": whole // setup.shards,
        "gradients": 0 if setup.replicated else learning // setup.shards,
        "optimizer": int(optimizer_bytes(size, setup.optimizer_bits) * learning / whole) // setup.shards,
        "averaged": whole // setup.shards * setup.averaged,
        "buckets": learning * setup.replicated,
        "gathered": gathered_bytes(size, setup),
        "copies": copied_bytes(size, setup),
        "activations": int(inputs + resampler_bytes(config, setup) + inside),
        "heads": int(head_bytes(config, setup) + 2 * head_gradient(config)),
        "working": int(gradient_bytes(config, setup) + again),
    }
    return Memory(**items, moments=moments(items, setup, head_gradient(config)))


def moments(items: Mapping[str, int], setup: Setup, head: int) -> dict[str, int]:
    """All bytes at the ends of the forward pass and of the update, and in the backward pass.

    Gradients of earlier parts stay; else that of the head is the first one, and the others take the activations' place.
    """
    always = sum(items[name] for name in ("weights", "optimizer", "averaged", "buckets"))
    earlier = items["gradients"] if setup.parts > 1 else 0
    computing = always + items["gathered"]
    kept = items["activations"] + (0 if setup.checkpointing else items["copies"])
    return {
        "forward": computing + earlier + items["activations"] + items["copies"] + items["heads"],
        "backward": computing + items["working"] + max(max(earlier, head) + kept, items["gradients"]),
        "update": always + items["gradients"],
    }


def copied_block(size: Sizes, setup: Setup) -> int:
    """bf16 copies of a block's weights, made again in its backward pass."""
    return 0 if setup.precision == "fp32" else HALF * size.block


def head_gradient(config: ModelConfig) -> int:
    """One gradient of the head; code rows and text rows are slices, whose gradients come one by one at full size."""
    return FULL * config.vocabulary * config.width


# what autograd keeps for the backward pass, in bytes


def attention_bytes(config: ModelConfig, setup: Setup, length: int) -> float:
    """Per token, `Attention`: inputs of q's and k's norms, what the product of attention keeps, input of `out`.

    Fused, bf16: the norms run in fp32, so q and k are kept twice. Fused, fp32: q, k and v before the norms, q and k
    after them, the mixture. Written out: besides, a copy of v, and the probabilities.
    """
    width, number = config.width, setup.number
    statistics = 16 * config.heads  # mean and deviation of q's and k's norms
    if not setup.cuda:
        return number * (7 * width + config.heads * length) + length + statistics
    norms = 2 * FULL * width if setup.precision == "bf16" else 2 * number * width
    return norms + 4 * number * width + number * length + FULL * config.heads + statistics


def token_moe_bytes(config: ModelConfig, setup: Setup) -> float:
    """Per token, `RoutedExperts`: router's input, sorted copies, hidden units twice, outputs, their sum.

    On CUDA the weighted outputs too, as grouped products have them; slice by slice, in fp32, they are a margin there.
    """
    copies = 3 if setup.cuda else 2
    routed = 2 * config.width + config.top_k * (copies * config.width + 2 * config.expert_hidden)
    routing = 12 * config.experts + 24 * config.top_k  # probabilities, gates and indices
    own_copy = FULL * config.width * (config.shared_per_group and setup.precision == "fp32")
    return setup.number * routed + routing + own_copy


def sequence_moe_bytes(config: ModelConfig, setup: Setup) -> float:
    """`SequenceMoE`: the span, and its distance from each feature; in fp32, as the residual stream."""
    names = {"t2i": config.sequence_t2i, "mmu": config.sequence_mmu}
    spans = sum(rows * (1 + sum(name in FEATURES for name in names[group])) for group, rows in setup.group_rows.items())
    return FULL * spans * config.positions * config.width


def block_bytes(config: ModelConfig, setup: Setup) -> dict[bool, float]:
    """One block of each kind, True for both MoE levels; its input is not counted."""
    length = setup.longest or setup.length
    normed = FULL * config.width + 8  # one fp32 h, or two bf16 copies; statistics
    dense = normed + attention_bytes(config, setup, length) + 2 * setup.number * config.ffn
    moe = setup.tokens * (dense + token_moe_bytes(config, setup)) + sequence_moe_bytes(config, setup)
    return {False: setup.tokens * dense, True: moe}


def gradient_bytes(config: ModelConfig, setup: Setup) -> float:
    """Gradients alive inside a block's backward pass: of the residual stream and its branch, of the hidden units."""
    return setup.tokens * (2 * FULL * config.width + setup.number * config.ffn)


def feature_shapes(config: ModelConfig, setup: Setup) -> dict[str, tuple[float, int, int]]:
    """Images, tokens and width of each feature that is resampled."""
    rows = setup.group_rows
    known = {
        "clip": (rows["mmu"], setup.clip_tokens, config.clip_width),
        "face": (rows["mmu"], 1, config.face_width),
        "noise": (rows["t2i"], config.noise_tokens, config.noise_width),
    }
    used = {*config.sequence_t2i, *config.sequence_mmu}
    return {name: shape for name, shape in known.items() if name in used}


def resampler_bytes(config: ModelConfig, setup: Setup) -> float:
    """Features, normalised features, keys and values, and the resampled span."""
    return sum(
        images * (tokens * (2 * FULL * width + 2 * setup.number * config.resampler))
        + images * config.positions * config.resampler * setup.number
        for images, tokens, width in feature_shapes(config, setup).values()
    )


def head_positions(config: ModelConfig, setup: Setup) -> tuple[float, float]:
    """Masked codes and answer tokens of a part: the heads run on these alone."""
    rows = setup.group_rows
    return rows["t2i"] * config.positions * setup.masked_share, rows["mmu"] * setup.answer_tokens


def head_bytes(config: ModelConfig, setup: Setup) -> float:
    """Both heads: hidden states and fp32 log-probabilities; two more fp32 tables while a loss goes backward."""
    masked, answers = head_positions(config, setup)
    tables = [masked * config.codes, answers * config.text_vocabulary]
    if setup.whole_softmax:
        tables[0] += masked * config.text_vocabulary
    hidden = setup.number * (masked + answers) * config.width
    return hidden + FULL * (sum(tables) + 2 * max(tables))


# products of matrices


def trunk_flops(config: ModelConfig, setup: Setup) -> float:
    """Forward FLOPs of all blocks without attention's own products; one row has `length` tokens."""
    width, moe = config.width, sum(map(config.is_moe, range(config.layers)))
    dense = 2 * (4 * width**2 + 2 * width * config.ffn)
    routed = 2 * (config.experts * width + 2 * config.top_k * width * config.expert_hidden)
    projections = 2 * config.positions * config.resampler * width
    names = {"t2i": config.sequence_t2i, "mmu": config.sequence_mmu}
    spans = sum(rows * sum(name in FEATURES for name in names[group]) for group, rows in setup.group_rows.items())
    return setup.rows * setup.length * (config.layers * dense + moe * routed) + moe * spans * projections


def attention_flops(config: ModelConfig, setup: Setup) -> float:
    """Forward FLOPs of scores and mixtures, hidden pairs included."""
    return config.layers * 4 * setup.rows * setup.length**2 * config.width


def resampler_flops(config: ModelConfig, setup: Setup) -> float:
    """Forward FLOPs of the resamplers, once per image."""
    inner = config.resampler
    return sum(
        images * (4 * tokens * width * inner + 4 * config.positions * tokens * inner)
        for images, tokens, width in feature_shapes(config, setup).values()
    )


def head_flops(config: ModelConfig, setup: Setup) -> float:
    """Forward FLOPs of both heads."""
    masked, answers = head_positions(config, setup)
    columns = config.codes + config.text_vocabulary * setup.whole_softmax
    return 2 * config.width * (masked * columns + answers * config.text_vocabulary)


def repeated_flops(config: ModelConfig, setup: Setup) -> float:
    """FLOPs of computing all blocks again; in dense ones torch stops before the last product, which nobody needs."""
    dense = config.layers - sum(map(config.is_moe, range(config.layers)))
    spared = dense * 2 * setup.rows * setup.length * config.width * config.ffn
    return trunk_flops(config, setup) + attention_flops(config, setup) - spared


def step_flops(config: ModelConfig, setup: Setup) -> int:
    """FLOPs of one part: a backward pass costs two forward passes, and fused attention forms its scores once more."""
    attention = attention_flops(config, setup)
    forward = trunk_flops(config, setup) + attention + resampler_flops(config, setup) + head_flops(config, setup)
    again = repeated_flops(config, setup) if setup.checkpointing else 0
    return int(3 * forward + again + 0.5 * attention * setup.cuda)
