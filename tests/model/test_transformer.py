"""Who sees whom, caches, heads and counts of the joint model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unif2ace_core.config import PRESETS, Group, ModelConfig
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import Batch, collate, mmu_row, t2i_row

END = 0


def features_for(config: ModelConfig, rows: int, seed: int = 0) -> Features:
    g = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(rows, 6, config.clip_width, generator=g),
        torch.randn(rows, 1, config.face_width, generator=g),
        torch.randn(rows, config.noise_tokens, config.noise_width, generator=g),
    )


def run(model: UniF2ace, batch: Batch, features: Features) -> Tensor:
    with torch.no_grad():
        return model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, features).hidden


def mixed_rows(config: ModelConfig) -> list:
    codes = [c % config.codes for c in range(config.positions)]
    return [
        t2i_row([5, 6, 7], codes, END, config),
        mmu_row(codes[::-1], [([8, 9], [10, 11]), ([12], [13, 14, 15])], END, config),
    ]


def test_no_text_position_sees_the_future(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    rows = mixed_rows(tiny_config)
    features = features_for(tiny_config, 2)
    before = run(tiny_model, collate(rows, tiny_config), features)
    rows[0].ids[3] = 9  # a prompt token
    rows[1].ids[-2] = 9  # the last answer's last token
    after = run(tiny_model, collate(rows, tiny_config), features)
    changed = (before - after).abs().amax(-1) > 1e-5  # experts with other token counts round otherwise
    assert not changed[0, :3].any() and changed[0, 3:].all() | ~collate(rows, tiny_config).valid[0, 3:].all()
    last = len(rows[1].ids) - 2
    assert not changed[1, :last].any() and changed[1, last]


def test_image_span_is_bidirectional(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    rows = mixed_rows(tiny_config)
    features = features_for(tiny_config, 2)
    before = run(tiny_model, collate(rows, tiny_config), features)
    for row in rows:
        row.ids[row.span + tiny_config.positions - 1] = tiny_config.code_offset + 20  # the last code
    after = run(tiny_model, collate(rows, tiny_config), features)
    for number, row in enumerate(rows):
        assert (before[number, row.span] != after[number, row.span]).any()  # the first one notices
    assert torch.equal(before[0, : rows[0].span - 1], after[0, : rows[0].span - 1])  # the prompt does not


def test_turns_of_one_row_equal_separate_rows(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    codes = list(range(tiny_config.positions))
    turns = [([8, 9], [10, 11]), ([12], [13, 14, 15])]
    together = mmu_row(codes, turns, END, tiny_config)
    alone = mmu_row(codes, turns[1:], END, tiny_config)
    features = features_for(tiny_config, 1)
    joint = run(tiny_model, collate([together], tiny_config), features)[0]
    single = run(tiny_model, collate([alone], tiny_config), features)[0]
    length = len(alone.ids) - tiny_config.positions - 3
    assert torch.allclose(joint[-length:], single[-length:], atol=1e-5)


def test_padding_and_neighbours_change_nothing(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    rows = mixed_rows(tiny_config)
    features = features_for(tiny_config, 2)
    together = run(tiny_model, collate(rows, tiny_config, multiple=16), features)
    for number, row in enumerate(rows):
        own = Features(*(value[number : number + 1] for value in (features.clip, features.face, features.noise)))
        alone = run(tiny_model, collate([row], tiny_config), own)
        assert torch.allclose(together[number, : len(row.ids)], alone[0], atol=1e-5)


def test_prefix_cached_span_equals_the_full_forward(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    row = mixed_rows(tiny_config)[0]
    batch, features = collate([row], tiny_config), features_for(tiny_config, 1)
    full = run(tiny_model, batch, features)
    cut = row.span - 1
    cache = KeyValueCache(tiny_config.layers)
    with torch.no_grad():
        tiny_model(
            batch.ids[:, :cut],
            batch.positions[:, :cut],
            batch.mask[:, :, :cut, :cut],
            batch.group[:, :cut],
            cache=cache,
        )
        cache.freeze()
        for _ in range(2):  # a frozen cache serves any number of steps
            span = tiny_model(
                batch.ids[:, cut:],
                batch.positions[:, cut:],
                None,
                batch.group[:, cut:],
                torch.ones(1).long(),
                features,
                cache,
            ).hidden
    assert torch.allclose(full[:, cut:], span, atol=1e-5)
    assert len(cache) == cut


def test_cached_decoding_equals_uncached(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    codes = list(range(tiny_config.positions))
    row = mmu_row(codes, [([8, 9], [10, 11, 12])], END, tiny_config)
    batch, features = collate([row], tiny_config), features_for(tiny_config, 1)
    full = run(tiny_model, batch, features)
    cut, cache = len(row.ids) - 4, KeyValueCache(tiny_config.layers)
    with torch.no_grad():
        tiny_model(
            batch.ids[:, :cut],
            batch.positions[:, :cut],
            batch.mask[:, :, :cut, :cut],
            batch.group[:, :cut],
            batch.span,
            features,
            cache,
        )
        for place in range(cut, len(row.ids)):
            at = slice(place, place + 1)
            step = tiny_model(batch.ids[:, at], batch.positions[:, at], None, batch.group[:, at], cache=cache).hidden
            assert torch.allclose(full[:, at], step, atol=1e-5)


def test_heads_equal_slices_of_the_full_head(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    hidden = torch.randn(5, tiny_config.width, generator=torch.Generator().manual_seed(0))
    full = tiny_model.head(hidden)
    start = tiny_config.code_offset
    assert torch.allclose(tiny_model.code_logits(hidden), full[:, start : start + tiny_config.codes], atol=1e-5)
    assert torch.allclose(tiny_model.text_logits(hidden), full[:, : tiny_config.text_vocabulary], atol=1e-5)


def test_folded_bit_embeddings_keep_the_function(tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, code_bits=5)
    model = UniF2ace(config).initialise(torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.embedding_bits.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        model.head_bits.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    plain = UniF2ace(tiny_config).eval()
    plain.load_state_dict(model.folded())
    batch, features = collate(mixed_rows(tiny_config), tiny_config), features_for(tiny_config, 2)
    a, b = run(model, batch, features), run(plain, batch, features)
    assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(model.code_logits(a), plain.code_logits(a), atol=1e-5)


def test_missing_experts_still_give_an_answer(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    row = mixed_rows(tiny_config)[1]
    assert run(tiny_model, collate([row], tiny_config), Features()).isfinite().all()


def test_groups_are_told_by_the_tensor_alone(tiny_model: UniF2ace, tiny_config: ModelConfig) -> None:
    batch, features = collate(mixed_rows(tiny_config)[:1], tiny_config), features_for(tiny_config, 1)
    as_t2i = run(tiny_model, batch, features)
    batch.group[:] = int(Group.MMU)
    assert (run(tiny_model, batch, features) != as_t2i).any()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name: str) -> None:
    config = PRESETS[name]
    assert config.width % config.heads == 0
    assert config.rotary <= config.width // config.heads
    assert config.vocabulary == config.mask_id + 1 == config.code_offset + config.codes + 1
    assert config.top_k <= config.experts
    if name != "mini":
        assert (config.vocabulary, config.code_offset, config.special("t2i")) == (58498, 50305, 50300)
