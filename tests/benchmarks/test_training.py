"""A training step of `mini` on made-up photos: its share of the machine's fp32 matrix product speed, and of the loader.

    pytest tests/benchmarks/test_training.py

The step is the loop's own (forward, backward, clipping, AdamW, average), in the precision that the loop would take.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from train_toys import TinyTask

from unif2ace_core.config import PRESETS
from unif2ace_core.data.attributes import BINARY
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet
from unif2ace_core.train.loop import Trainer, native_bf16
from unif2ace_core.train.mixture import Mixture, MixtureConfig
from unif2ace_core.train.objectives import ObjectiveConfig
from unif2ace_core.train.options import TrainConfig

ROUNDS = 7
BATCH = 32
SIDE = 1024  # of the square matrices whose product is the peak


class BatchedTask(TinyTask):
    """`TinyTask` with the batches of a real run."""

    def batch(self, step: int, part: Any) -> Any:
        return self.mixture.draw(BATCH, part.common, part.index, part.count)


def real_task(embedded: Path) -> BatchedTask:
    """The shipped sizes and tokenizer on made-up codes, features and labels."""
    config, rng, g = PRESETS["mini"], random.Random(0), torch.Generator().manual_seed(0)
    labels = [{name: rng.choice(("yes", "no")) for name in BINARY} for _ in range(64)]
    records = [FaceRecord("celebahq", f"{n}.webp", "train", each, None, None) for n, each in enumerate(labels)]
    data = EncodedSet(
        torch.randint(config.codes, (64, 2, config.positions), generator=g).short().numpy(),
        torch.randn(64, 2, 17, config.clip_width, generator=g).half().numpy(),
        torch.randn(64, 2, config.face_width, generator=g).half().numpy(),
    )
    mixture = MixtureConfig(long_share=0.1)
    tokenizer = TextTokenizer.load(embedded / "tokenizer.json")
    model = UniF2ace(config).initialise(torch.Generator().manual_seed(0))
    return BatchedTask(model, Mixture(records, data, tokenizer, config, mixture), ObjectiveConfig())


def seconds_of(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_step(embedded: Path, tmp_path: Path, share: Callable[..., None] | None) -> None:
    """Asked for: at least half of the peak, and a loader that takes less than 2% of a step."""
    loop = Trainer(real_task(embedded), TrainConfig(steps=100, batch_size=BATCH), tmp_path)
    with FlopCounterMode(display=False) as counter:
        loop.update()
    flops, matrix = counter.get_total_flops(), torch.randn(SIDE, SIDE)
    assert flops > 0
    if share is None:
        return
    peaks, steps, draws = [], [], []
    for _ in range(ROUNDS):
        peaks.append(4 * 2 * SIDE**3 / seconds_of(lambda: [matrix @ matrix for _ in range(4)]))
        steps.append(seconds_of(loop.update))
        draws.append(seconds_of(loop.parts))
    peak, step, draw = (statistics.median(each) for each in (peaks, steps, draws))
    kind = "bf16" if native_bf16() else "fp32"
    share(f"training step in {kind} of {peak / 1e9:.0f} GFLOP/s in fp32 products", flops / step / peak, 0.5)
    share(f"input pipeline of a step of {step:.2f} s", draw / step, None)
