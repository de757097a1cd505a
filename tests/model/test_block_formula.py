"""The blocks against the formulas written out, and the whole model's exact rearrangements, in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model.attention import Attention, rotary_angles
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.resampler import HEADS, Resampler
from unif2ace_core.model.sequence_moe import Exploration, SequenceExperts, SpanFeatures
from unif2ace_core.model.token_moe import FeedForward, RoutedExperts, TokenGroups, TokenMoE
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import Batch, collate, mmu_row, t2i_row


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features_for(config: ModelConfig, rows: int) -> Features:
    clip, face = normal(rows, 6, config.clip_width), normal(rows, 1, config.face_width, seed=1)
    return Features(clip, face, normal(rows, config.noise_tokens, config.noise_width, seed=2))


def batch_of(config: ModelConfig) -> Batch:
    codes = [c % config.codes for c in range(config.positions)]
    question = ([8, 9], [10, 11])
    return collate([t2i_row([5, 6, 7], codes, 0, config), mmu_row(codes[::-1], [question], 0, config)], config)


@torch.no_grad()
def hidden(model: UniF2ace, batch: Batch, features: Features) -> Tensor:
    return model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, features).hidden


def test_attention_is_show_os_formula_head_by_head(tiny_config: ModelConfig) -> None:
    """Per-head norm of q and k, then rotation of the leading dimensions as complex pairs (i, i + half)."""
    torch.manual_seed(0)
    attention, length = Attention(tiny_config).double(), 5
    h, width = normal(1, length, tiny_config.width), tiny_config.width
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    angles = rotary_angles(torch.arange(length)[None], tiny_config.rotary)
    found = attention(h, angles, mask)[0]
    q, k, v = attention.qkv(h[0]).split(width, -1)
    size, half, outputs = width // tiny_config.heads, tiny_config.rotary // 2, []
    turns = torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(half).double() / half))

    def turned(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
        x = F.layer_norm(x, (size,), norm.weight, norm.bias, 1e-5)
        pairs = torch.complex(x[:, :half], x[:, half : 2 * half]) * torch.polar(torch.ones_like(turns), turns)
        return torch.cat([pairs.real, pairs.imag, x[:, 2 * half :]], -1)

    for head in range(tiny_config.heads):
        at = slice(head * size, (head + 1) * size)
        scores = turned(q[:, at], attention.q_norm) @ turned(k[:, at], attention.k_norm).t() / size**0.5
        outputs.append(scores.masked_fill(~mask[0, 0], -torch.inf).softmax(-1) @ v[:, at])
    torch.testing.assert_close(found, attention.out(torch.cat(outputs, -1)), rtol=0, atol=1e-5)  # rotary tables: fp32


def test_resampler_is_cross_attention_over_normalised_features() -> None:
    torch.manual_seed(0)
    resampler = Resampler(7, 16, 12).double()
    features = normal(2, 5, 12)
    normed = F.layer_norm(features, (12,), resampler.norm.weight, resampler.norm.bias)
    q, k, v = resampler.q(resampler.queries), resampler.k(normed), resampler.v(normed)
    size, outputs = 16 // HEADS, []
    for head in range(HEADS):
        at = slice(head * size, (head + 1) * size)
        weights = (q[:, at] @ k[:, :, at].transpose(1, 2) / size**0.5).softmax(-1)
        outputs.append(weights @ v[:, :, at])
    torch.testing.assert_close(resampler(features), torch.cat(outputs, -1), rtol=0, atol=1e-12)


def test_experts_features_are_resampled_once_per_image_and_expert(
    tiny_model: UniF2ace, tiny_config: ModelConfig
) -> None:
    calls: list[int] = []
    for resampler in tiny_model.resamplers.values():
        resampler.register_forward_hook(lambda module, given, made: calls.append(len(made)))
    model = tiny_model.double()
    hidden(model, batch_of(tiny_config), features_for(tiny_config, 2))
    assert calls == [1, 1, 1]  # noise for the drawn image, CLIP and face for the photo; not once per layer


def test_a_model_is_its_blocks_formula_by_formula(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    """h = LN(x); z = x + Attn(h) + MLP(h); inside the span SequenceMoE(z), outside z."""
    model, batch, features = tiny_model.double(), batch_of(tiny_config), features_for(tiny_config, 2)
    x, angles = model.embedding(batch.ids), rotary_angles(batch.positions, tiny_config.rotary)
    rows, index = model.spans(batch.group, batch.span)
    resampled = model.resample(features, rows)
    with torch.no_grad():
        for block in model.blocks:
            h = block.norm(x)
            moe = isinstance(block.mlp, TokenMoE)
            x = (
                x
                + block.attention(h, angles, batch.mask)
                + (block.mlp(h, TokenGroups.of(batch.group))[0] if moe else block.mlp(h))
            )
            for group, members in rows.items() if moe else ():
                for place, row in enumerate(members.tolist()):
                    one = SpanFeatures({n: s[place : place + 1] for n, s in resampled[group].resampled.items()})
                    from_, to = int(index[row, 0]), int(index[row, -1]) + 1
                    span = block.sequence.groups[group](x[row : row + 1, from_:to], one, Exploration())[0]
                    x[row, from_:to] = span[0]
        expected = model.norm(x)
    torch.testing.assert_close(hidden(model, batch, features), expected, rtol=0, atol=1e-10)


def test_prefix_cached_span_equals_the_full_forward_whatever_codes_stand_in_it(
    tiny_model: UniF2ace, tiny_config: ModelConfig
) -> None:
    model, features = tiny_model.double(), features_for(tiny_config, 1)
    codes = [[(c * step + 3) % tiny_config.codes for c in range(tiny_config.positions)] for step in (1, 5, 7)]
    batches = [collate([t2i_row([5, 6, 7], row, 0, tiny_config)], tiny_config) for row in codes]
    first = batches[0]
    cut = int(first.span) - 1
    cache = KeyValueCache(tiny_config.layers)
    with torch.no_grad():
        head = (t[:, :cut] for t in (first.ids, first.positions))
        model(*head, first.mask[:, :, :cut, :cut], first.group[:, :cut], cache=cache)
        cache.freeze()
        for batch in batches:
            tail = (t[:, cut:] for t in (batch.ids, batch.positions))
            span = model(*tail, None, batch.group[:, cut:], torch.ones(1).long(), features, cache).hidden
            torch.testing.assert_close(span, hidden(model, batch, features)[:, cut:], rtol=0, atol=1e-10)


def test_code_rows_of_the_head_and_guidance_before_it_are_exact(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    model = tiny_model.double()
    conditional, unconditional = normal(5, tiny_config.width), normal(5, tiny_config.width, seed=1)
    rows = slice(tiny_config.code_offset, tiny_config.code_offset + tiny_config.codes)
    torch.testing.assert_close(model.code_logits(conditional), model.head(conditional)[:, rows], rtol=0, atol=1e-10)
    guided = 2.75 * model.head(conditional)[:, rows] - 1.75 * model.head(unconditional)[:, rows]
    before = model.code_logits(conditional + 1.75 * (conditional - unconditional))
    torch.testing.assert_close(before, guided, rtol=0, atol=1e-10)


def test_left_padding_changes_nothing_at_other_positions(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    """Rotary is relative and pads are hidden; the rotary tables are fp32."""
    batch, features, pads = batch_of(tiny_config), features_for(tiny_config, 2), 4
    length = batch.ids.shape[1] + pads
    mask = torch.eye(length, dtype=torch.bool).expand(2, 1, -1, -1).clone()
    mask[:, :, pads:, pads:] = batch.mask
    padded = Batch(
        ids=F.pad(batch.ids, (pads, 0), value=tiny_config.special("pad")),
        positions=torch.arange(length).expand(2, -1),
        mask=mask,
        group=F.pad(batch.group, (pads, 0), value=-1),
        span=batch.span + pads,
        labels=batch.labels,
        turns=batch.turns,
        valid=F.pad(batch.valid, (pads, 0)),
    )
    model = tiny_model.double()
    found, plain = hidden(model, padded, features)[:, pads:], hidden(model, batch, features)
    torch.testing.assert_close(found[batch.valid], plain[batch.valid], rtol=0, atol=1e-6)


# --- Start from a dense trunk -------------------------------------------------------------------------------


def dense_and_started(config: ModelConfig) -> tuple[UniF2ace, UniF2ace]:
    """A dense model, and one with both MoE levels started from it as the reference says."""
    config = replace(config, sequence_rho=0.0)
    dense = UniF2ace(replace(config, moe_every=config.layers + 1)).initialise(torch.Generator().manual_seed(0))
    model = UniF2ace(config).initialise(torch.Generator().manual_seed(1))
    trunk = dense.state_dict()
    state = model.state_dict()
    for name in state:
        state[name] = trunk.get(name.replace("mlp.shared.", "mlp."), state[name])
    model.load_state_dict(state)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, RoutedExperts):
                part.fc2_weight.zero_()
                part.fc2_bias.zero_()
            if isinstance(part, SequenceExperts):
                part.router.weight.zero_()
                part.router.bias.copy_(torch.tensor([float(name == "copy") for name in part.names]))
    return dense.eval(), model.eval()


def test_a_model_started_from_a_dense_trunk_has_its_logits_bit_for_bit(tiny_config: ModelConfig) -> None:
    dense, model = dense_and_started(tiny_config)
    assert any(isinstance(m, FeedForward) for m in dense.modules())
    assert not any(isinstance(m, TokenMoE) for m in dense.modules())
    batch, features = batch_of(tiny_config), features_for(tiny_config, 2)
    single = Features(*(getattr(features, name).float() for name in ("clip", "face", "noise")))
    assert {int(g) for g in batch.group.unique()} >= {int(Group.T2I), int(Group.MMU)}
    for dtype in (torch.float32, torch.bfloat16):
        given = Features(*(getattr(single, name).to(dtype) for name in ("clip", "face", "noise")))
        a, b = hidden(dense.to(dtype), batch, given), hidden(model.to(dtype), batch, given)
        assert torch.equal(a[batch.valid], b[batch.valid])
        assert torch.equal(dense.head(a)[batch.valid], model.head(b)[batch.valid])


def test_at_the_start_only_the_routed_outputs_learn_from_the_task(tiny_config: ModelConfig) -> None:
    """W2 = 0 stops the gradient of W1 and of the router for one step, and two copies stop the sequence router's."""
    _, model = dense_and_started(tiny_config)
    batch, features = batch_of(tiny_config), features_for(tiny_config, 2)
    single = Features(*(getattr(features, name).float() for name in ("clip", "face", "noise")))
    # the final norm makes the plain sum of a row constant: weigh the channels
    output = model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, single)
    (output.hidden * torch.linspace(-1, 1, tiny_config.width)).square().sum().backward()
    for part in model.modules():
        if isinstance(part, RoutedExperts):
            still = [p.grad for p in (part.fc1_weight, part.fc1_bias, part.router)]
            assert all(g is None or not g.any() for g in still)
            assert part.fc2_weight.grad is not None and part.fc2_weight.grad.any()
        if isinstance(part, SequenceExperts):
            assert all(p.grad is None or not p.grad.any() for p in part.router.parameters())
