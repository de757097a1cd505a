"""A key-value cache gives what a pass over the whole sequence gives, however its buffers grow.

pytest tests/model/test_cache.py
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unif2ace_core.config import Group, ModelConfig
from unif2ace_core.model import cache as caches
from unif2ace_core.model.cache import KeyValueCache, LayerCache
from unif2ace_core.model.transformer import UniF2ace

LENGTH = 9


def pair(length: int, start: float = 0.0) -> tuple[Tensor, Tensor]:
    keys = torch.arange(2 * length * 4.0).view(1, 2, length, 4) + start
    return keys, -keys


@pytest.mark.parametrize("room", [0, 1, 50])
@torch.no_grad()
def test_token_by_token_equals_the_whole_sequence(
    tiny_model: UniF2ace, tiny_config: ModelConfig, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "ROOM", 2)
    ids = torch.randint(tiny_config.text_vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(LENGTH).expand(2, -1)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    whole = tiny_model(ids, positions, causal, Group.MMU).hidden
    cache, found = KeyValueCache(tiny_config.layers, room), []
    for n in range(LENGTH):
        found.append(tiny_model(ids[:, n : n + 1], positions[:, n : n + 1], None, Group.MMU, cache=cache).hidden)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-5)
    assert len(cache) == LENGTH


def test_frozen_caches_forget_what_came_last() -> None:
    cache = LayerCache(room=3)
    cache.extend(*pair(4))
    cache.frozen = True
    first, _ = cache.extend(*pair(3, 100.0))
    seen = first.clone()
    second, values = cache.extend(*pair(3, 200.0))
    assert cache.length == 4 and first.shape[2] == second.shape[2] == 7
    assert torch.equal(seen[:, :, 4:], pair(3, 100.0)[0]) and torch.equal(second[:, :, 4:], pair(3, 200.0)[0])
    assert torch.equal(second[:, :, :4], pair(4)[0]) and torch.equal(values, -second)


def test_rooms_are_written_in_place_and_kept_when_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "ROOM", 2)
    cache = LayerCache(room=1)
    cache.extend(*pair(3))
    before = cache.keys
    cache.extend(*pair(1, 50.0))
    assert cache.keys is before  # room for one
    keys, _ = cache.extend(*pair(1, 60.0))
    assert cache.keys is not before and torch.equal(keys[:, :, :3], pair(3)[0])
    assert torch.equal(keys[:, :, 3:], torch.cat([pair(1, 50.0)[0], pair(1, 60.0)[0]], 2))


def test_the_first_rows_are_a_frozen_view() -> None:
    cache = KeyValueCache(1, room=2)
    keys = torch.randn(3, 2, 4, 4)
    cache.layers[0].extend(keys, keys)
    part = cache.first(2)
    assert len(part) == 4 and part.layers[0].frozen and not cache.layers[0].frozen
    assert part.layers[0].keys is not None and cache.layers[0].keys is not None
    assert part.layers[0].keys.data_ptr() == cache.layers[0].keys.data_ptr()
