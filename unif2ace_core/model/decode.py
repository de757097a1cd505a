"""One token of one answer in as few operations as it takes, for fp32 on the CPU.

Once nothing else costs, a block takes the time of reading its weights. So a parallel block is two products here:

    h = LN(x)
    [q k v u] = W_in h + b_in                   queries, keys, values, the shared expert's first layer
    z = x + W_out [Attention(q, k, v) gelu(u)] + b_out + routed experts(h)

Queries and keys are turned by one product with their position's rotation. The model's own weights become views of W_in
and W_out, so nothing is held twice; W_in lies input by input, which products with few rows read up to twice as fast.
The numbers are those of `UniF2ace.forward` up to rounding (tests/model/test_decode.py).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.attention import rotary_angles
from unif2ace_core.model.cache import KeyValueCache, LayerCache
from unif2ace_core.model.token_moe import FeedForward, RoutedExperts, TokenMoE
from unif2ace_core.model.transformer import Block, UniF2ace


def rotation(position: int, config: ModelConfig) -> Tensor:
    """The matrix (d, d) that turns a head's row at a position, as `rotate` does."""
    cos, sin = (table.flatten() for table in rotary_angles(torch.tensor([[position]]), config.rotary))
    half, size = len(cos), config.width // config.heads
    matrix, first = torch.eye(size), torch.arange(half)
    second = first + half
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = sin, -sin
    return matrix


def by_input(weight: Tensor) -> Tensor:
    """The same matrices (..., out, in), stored input by input."""
    return weight.transpose(-1, -2).contiguous().transpose(-1, -2)


class PackedBlock:
    """A block of the understanding group, packed; the block goes on to work, on the same memory."""

    def __init__(self, block: Block) -> None:
        attention, self.norm, self.heads = block.attention, block.norm, block.attention.heads
        shared, self.routed = understanding_experts(block.mlp)
        inner, outer = (attention.qkv, shared.fc1), (attention.out, shared.fc2)
        self.w_in = by_input(torch.cat([layer.weight for layer in inner]))  # (3 D + ffn, D)
        self.w_out = torch.cat([layer.weight for layer in outer], 1)  # (D, D + ffn)
        self.b_in = torch.cat([layer.bias for layer in inner])
        self.b_out = attention.out.bias + shared.fc2.bias
        for layer, part in zip(inner, self.w_in.split([len(layer.weight) for layer in inner])):
            layer.weight.data = part
        for layer, part in zip(outer, self.w_out.split([layer.weight.shape[1] for layer in outer], 1)):
            layer.weight.data = part
        if self.routed is not None:
            self.routed.fc1_weight.data = by_input(self.routed.fc1_weight)
        # one row for each head of q, which takes the softmax's 1 / sqrt(d), and of k
        shares = ((attention.qkv.in_features // self.heads) ** -0.5, 1.0)
        norms = list(zip((attention.q_norm, attention.k_norm), shares))
        self.scale = torch.stack([share * norm.weight for norm, share in norms]).repeat_interleave(self.heads, 0)
        self.shift = torch.stack([share * norm.bias for norm, share in norms]).repeat_interleave(self.heads, 0)

    def step(self, x: Tensor, turn: Tensor, cache: LayerCache) -> Tensor:
        """x (1, D) of a token that sees everything before it, the rotation (d, d) of its position -> (1, D)."""
        h, (width, size) = self.norm(x), (x.shape[1], len(turn))
        qkv, u = torch.addmm(self.b_in, h, self.w_in.t()).split([3 * width, len(self.b_in) - 3 * width], 1)
        qkv = qkv.view(1, 3 * self.heads, size)
        qk, v = qkv.split([2 * self.heads, self.heads], 1)
        qk = torch.addcmul(self.shift, F.layer_norm(qk, (size,), eps=self.norm.eps)[0], self.scale) @ turn
        keys, values = cache.extend(qk[None, self.heads :, None], v.unsqueeze(2))
        mixed = (qk[: self.heads, None] @ keys[0].transpose(1, 2)).softmax(-1) @ values[0]
        both = torch.cat([mixed.view(1, width), F.gelu(u, approximate="tanh")], 1)
        z = torch.addmm(self.b_out, both, self.w_out.t()).add_(x)
        return z if self.routed is None else z.add_(self.routed(h)[0])


def understanding_experts(mlp: nn.Module) -> tuple[FeedForward, RoutedExperts | None]:
    """What serves a text token of understanding: every token's layer and, with a MoE, the group's routed experts."""
    if not isinstance(mlp, TokenMoE):
        return cast("FeedForward", mlp), None
    return mlp.shared_mmu or mlp.shared, cast("RoutedExperts", mlp.groups[Group.MMU.name.lower()])


class TokenDecoder:
    """The blocks of a transformer for one token at a time."""

    def __init__(self, model: UniF2ace) -> None:
        self.model = model
        model.head.weight.data = by_input(model.head.weight)
        self.blocks = [PackedBlock(block) for block in cast("list[Block]", list(model.blocks))]

    @classmethod
    def of(cls, model: UniF2ace) -> TokenDecoder | None:
        """Pack a model's weights; None where it can't be: not on the CPU, not in fp32, quantized, or in training."""
        parameters = list(model.parameters())
        plain = all(p.device.type == "cpu" and p.dtype == torch.float32 and not p.requires_grad for p in parameters)
        layers = [block.get_submodule(name) for block in model.blocks for name in ("attention.qkv", "attention.out")]
        layers += [m for module in model.modules() if isinstance(module, FeedForward) for m in module.children()]
        if not plain or any(type(layer) is not nn.Linear for layer in layers):
            return None
        with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode are of no use outside it
            return cls(model)

    def step(self, token: Tensor, position: int, cache: KeyValueCache) -> Tensor:
        """A token (1,) behind all that the cache holds -> its hidden state (1, D)."""
        x, turn = self.model.embed(token), rotation(position, self.model.config)
        for block, layer in zip(self.blocks, cache.layers):
            x = block.step(x, turn, layer)
        return self.model.norm(x)
