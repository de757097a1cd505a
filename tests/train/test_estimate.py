"""The estimate of memory and time against real training steps of small models, and its bookkeeping for 1.8b."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unif2ace_core.config import PRESETS, ModelConfig
from unif2ace_core.diffusion.d3diff import draw_mask
from unif2ace_core.model import token_moe
from unif2ace_core.model.sequence_moe import exploration_draws
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tokens.sequence import collate, mmu_row, t2i_row
from unif2ace_core.train.estimate import (
    FULL,
    Setup,
    attention_flops,
    estimate,
    head_positions,
    memory,
    padded_length,
    rows_that_fit,
    sizes,
    trunk_flops,
)
from unif2ace_core.train.mixture import MixedBatch
from unif2ace_core.train.objectives import ObjectiveConfig, joint_loss

BIG = PRESETS["1.8b"]
DEEP = ModelConfig(width=128, layers=6, heads=2, ffn=512, expert_hidden=96, text_vocabulary=1160, codes=1024)
MANY_EXPERTS = ModelConfig(
    width=192, layers=2, heads=6, ffn=768, text_vocabulary=900, codes=512, experts=8, top_k=4, expert_hidden=64
)
OWN_SHARED = replace(DEEP, layers=3, shared_per_group=True)
CONFIGS = {"deep": DEEP, "many experts": MANY_EXPERTS, "own shared experts": OWN_SHARED}
ROWS, TEXT, ANSWER, CLIP_TOKENS = 4, 48, 10, 17


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads, and much slower where those are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made inside and not yet freed, and their peak."""

    def __init__(self, *known: Any) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in tree_leaves(known) if isinstance(tensor, Tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self.note(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return output

    def note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.now += storage.nbytes()
            weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def random_batch(config: ModelConfig) -> MixedBatch:
    """Rows of one length, half of each task, everything random."""
    g = torch.Generator().manual_seed(0)

    def text(length: int) -> list[int]:
        return torch.randint(1, config.text_vocabulary, (length,), generator=g).tolist()

    drawn = ROWS // 2
    codes = torch.randint(config.codes, (ROWS, config.positions), generator=g)
    masked = draw_mask(codes[:drawn], g, mask_id=config.codes)
    rows = [t2i_row(text(TEXT), masked.codes[row].tolist(), 0, config) for row in range(drawn)]
    turns = [(text(TEXT - ANSWER - 1), text(ANSWER))]
    rows += [mmu_row(codes[row].tolist(), turns, 0, config) for row in range(drawn, ROWS)]
    clip = torch.randn(ROWS, CLIP_TOKENS, config.clip_width, generator=g)
    noise = torch.randn(ROWS, config.noise_tokens, config.noise_width, generator=g)
    features = Features(clip, torch.randn(ROWS, 1, config.face_width, generator=g), noise)
    draws = exploration_draws(config, ROWS, g)
    return MixedBatch(collate(rows, config), features, codes[:drawn], masked, draws, torch.tensor([drawn, drawn]))


def tensors_of(batch: MixedBatch) -> list[Any]:
    return tree_leaves([vars(batch), vars(batch.sequences), vars(batch.features), vars(batch.masked)])


def setup_of(batch: MixedBatch, **values: Any) -> Setup:
    """The setup that describes a batch on this CPU."""
    found = {
        "rows": ROWS,
        "length": batch.sequences.ids.shape[1],
        "precision": "fp32",
        "cuda": False,
        "masked_share": float(batch.masked.mask.float().mean()),
        "answer_tokens": ANSWER + 1.0,
        "clip_tokens": CLIP_TOKENS,
    }
    return Setup(**{**found, **values})


def fresh(config: ModelConfig, checkpointing: bool = False) -> UniF2ace:
    model = UniF2ace(config).initialise(torch.Generator().manual_seed(0))
    model.checkpointing = checkpointing
    return model.train()


def loss_of(model: UniF2ace, batch: MixedBatch, setup: Setup) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16"):
        return joint_loss(model, batch, ObjectiveConfig())[0]


def kept_bytes(model: UniF2ace, batch: MixedBatch, setup: Setup) -> int:
    """Storages that autograd keeps for the backward pass, without weights and inputs."""
    known = {t.untyped_storage()._cdata for t in [*model.parameters(), *tensors_of(batch)] if isinstance(t, Tensor)}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            found[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(model, batch, setup)
    return sum(storage.nbytes() for storage in found.values())


def kept_estimate(config: ModelConfig, setup: Setup) -> float:
    """The items of `Memory` that are kept from the forward pass: without what comes and goes in the heads' backward."""
    found, (masked, answers) = memory(config, setup), head_positions(config, setup)
    tables = max(masked * config.codes, answers * config.text_vocabulary)
    return found.activations + found.copies + found.heads - 2 * FULL * (tables + config.vocabulary * config.width)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_those_that_autograd_keeps(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_moe, "ROWS_ALIKE", 1)  # graphics cards need no blocks of alike length
    config = CONFIGS[name]
    batch = random_batch(config)
    setup = setup_of(batch, precision=precision)
    assert kept_estimate(config, setup) == pytest.approx(kept_bytes(fresh(config), batch, setup), rel=0.02)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_flops_are_those_that_a_step_counts(name: str, checkpointing: bool) -> None:
    config = CONFIGS[name]
    model, batch = fresh(config, checkpointing), random_batch(config)
    setup = setup_of(batch, checkpointing=checkpointing)
    with FlopCounterMode(display=False) as counter:
        loss_of(model, batch, setup).backward()
    assert estimate(config, setup).flops == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize(
    ("precision", "checkpointing", "parts"),
    [("fp32", False, 1), ("bf16", False, 2), ("fp32", True, 2), ("bf16", True, 2)],
)
def test_peak_is_that_of_a_whole_step(precision: str, checkpointing: bool, parts: int) -> None:
    model, batch = fresh(DEEP, checkpointing), random_batch(DEEP)
    setup = setup_of(batch, precision=precision, checkpointing=checkpointing, parts=parts, averaged=False)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its state
    optimizer.zero_grad(set_to_none=True)
    with LiveBytes(list(model.parameters()), list(optimizer.state.values()), tensors_of(batch)) as live:
        for _ in range(parts):
            loss_of(model, batch, setup).backward()
        optimizer.step()
    found = memory(DEEP, setup)
    assert found.total - found.weights - found.optimizer == pytest.approx(live.peak, rel=0.1)


@pytest.mark.parametrize(("precision", "kept"), [("fp32", 15_274_391_000), ("bf16", 12_674_748_000)])
def test_fused_attention_of_1_8b_keeps_what_a_trace_of_cuda_kernels_counted(precision: str, kept: int) -> None:
    """Counted with fake CUDA tensors: 8 rows of 384, 650 masked codes, 120 answer tokens, the efficient kernel."""
    setup = Setup(rows=8, length=384, precision=precision, masked_share=650 / 1024, answer_tokens=30)  # type: ignore[arg-type]
    assert kept_estimate(BIG, setup) == pytest.approx(kept, rel=0.01)


def test_estimating_builds_no_weights() -> None:
    sizes.cache_clear()
    with LiveBytes() as live:
        assert estimate(BIG, Setup(rows=1, length=320)).memory.weights == 4 * 1_872_173_446
    assert live.peak < 100_000


def test_forward_flops_are_the_published_ones() -> None:
    """Reference: 2 * 1.2085e9 a token in the dense trunk, 1.4203e12 for 515 tokens with the whole head."""
    dense = replace(BIG, moe_every=25)
    row = Setup(rows=1, length=515)
    assert trunk_flops(dense, replace(row, length=1)) == pytest.approx(2 * 1.2085e9, rel=1e-3)
    head = 2 * 2048 * 58_498 * 515
    assert trunk_flops(dense, row) + attention_flops(dense, row) + head == pytest.approx(1.4203e12, rel=1e-3)


def test_a_step_costs_six_flops_per_active_parameter_and_token() -> None:
    embedding_and_head = 119_803_904 + 119_862_402
    active = 1_549_159_554 - embedding_and_head
    setup = Setup(rows=4, length=320)
    assert 3 * trunk_flops(BIG, setup) == pytest.approx(6 * active * 4 * 320, rel=0.01)


def test_seconds_are_flops_over_speed_and_parts_count() -> None:
    setup = Setup(rows=2, length=320)
    one, three = (estimate(BIG, replace(setup, parts=parts)) for parts in (1, 3))
    assert three.flops == 3 * one.flops
    assert one.seconds(100) == pytest.approx(one.flops / 1e14)


def test_weights_of_1_8b_take_16_bytes_and_less_with_8_bit_states() -> None:
    found = memory(BIG, Setup(rows=1, length=320, averaged=False))
    assert found.weights + found.gradients + found.optimizer == 16 * 1_872_173_446
    assert found.averaged == 0
    eight = memory(BIG, Setup(rows=1, length=320, optimizer_bits=8)).optimizer
    assert eight / 1_872_173_446 == pytest.approx(2 + 8 / 256, rel=2e-3)


def test_processes_without_shards_keep_everything_and_their_gradients_are_always_there() -> None:
    setup = Setup(rows=1, length=320)
    one, eight = memory(BIG, setup), memory(BIG, replace(setup, processes=8))
    assert (one.buckets, eight.buckets, eight.gradients) == (0, one.gradients, 0)
    assert eight.moments["forward"] == one.moments["forward"] + eight.buckets
    assert eight.moments["update"] == one.moments["update"]


def test_shards_divide_what_is_always_there_and_gather_what_works() -> None:
    setup = Setup(rows=4, length=320, processes=8)
    whole, gradients, full = (memory(BIG, replace(setup, sharding=kind)) for kind in ("none", "gradients", "full"))  # type: ignore[arg-type]
    for name in ("weights", "averaged", "optimizer"):
        assert getattr(gradients, name) == getattr(full, name) == getattr(whole, name) // 8
    assert gradients.gradients == full.gradients == whole.buckets // 8
    assert (full.buckets, full.copies) == (0, whole.copies)
    assert full.gathered < gradients.gathered < 2 * 4 * 1_872_173_446
    assert full.total < gradients.total < whole.total
    accumulated = memory(BIG, replace(setup, sharding="full", parts=2))
    assert accumulated.gathered > 4 * 1_872_173_446  # gradients are scattered after the last part only


def test_checkpointing_keeps_block_inputs_and_costs_a_forward_pass() -> None:
    setup = Setup(rows=16, length=320)
    plain, again = (estimate(BIG, replace(setup, checkpointing=flag)) for flag in (False, True))
    inputs = 25 * 16 * 320 * 2048 * 4
    assert inputs < again.memory.activations < 1.05 * inputs
    assert again.memory.total < plain.memory.total
    assert 1.2 < again.flops / plain.flops < 4 / 3


def test_as_many_rows_fit_as_the_peak_allows() -> None:
    setup = Setup(rows=1, length=320, averaged=False, checkpointing=True)
    rows = rows_that_fit(BIG, setup, 60e9)
    totals = [memory(BIG, replace(setup, rows=count)).total for count in (rows, rows + 1)]
    assert totals[0] <= 60e9 < totals[1]
    assert rows_that_fit(BIG, setup, 20e9) == 0


def test_the_longest_batches_decide_the_memory_and_the_mean_ones_the_time() -> None:
    short, mixed, long = (Setup(rows=4, length=a, longest=b) for a, b in ((320, 0), (320, 376), (376, 0)))
    assert memory(BIG, mixed) == memory(BIG, long)
    assert estimate(BIG, mixed).flops == estimate(BIG, short).flops


@pytest.mark.parametrize("text", [1, 48, 60])
def test_padded_length_is_that_of_a_batch(text: int) -> None:
    rows = [t2i_row(list(range(text)), [0] * DEEP.positions, 0, DEEP)]
    assert collate(rows, DEEP, multiple=8).ids.shape[1] == padded_length(DEEP, text)
