"""The one training loop: every recipe runs through it, on one process or under `accelerate launch`.

    for step: batch(seed, step) -> loss -> backward -> clip -> AdamW -> average -> log / evaluate / checkpoint

Every random draw is a function of (seed, step, rank), so an interrupted run continues bit for bit.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.train.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from unif2ace_core.train.options import TrainConfig, differences
from unif2ace_core.train.processes import build_accelerator, moved

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What a recipe hands to the loop."""

    name: str

    def modules(self) -> nn.Module:
        """The module whose parameters are trained, averaged and saved."""

    def batch(self, step: int, generator: torch.Generator) -> Any:
        """The batch of a step, on the CPU; all randomness from `generator`."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss and what to log beside it."""

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data with the module's current weights."""

    def export(self, directory: Path) -> None:
        """Write the files used for inference, from the module's current weights."""


@dataclass
class Progress:
    """One line of the training log."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    eta_seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, float] | None = None


class _Objective(nn.Module):
    """Makes the loss a `forward`, so that distributed wrappers see it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.modules()
        self._loss = task.loss

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return self._loss(batch, generator)


def step_generator(seed: int, step: int, rank: int = 0, stream: int = 0) -> torch.Generator:
    """A CPU generator that depends on (seed, step, rank, stream) alone; rank is below `MOST_PROCESSES`."""
    mixed = (seed * 1_000_003 + step) * 64 + rank
    return torch.Generator().manual_seed((mixed * 8 + stream) % (2**63))


def native_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware (elsewhere it is several times slower than fp32)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay` share."""
    start = config.steps * (1 - config.decay)
    falling = min(1.0, (config.steps - step) / max(1.0, config.steps - start))
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * falling


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2))


@torch.no_grad()
def update_average(ema: dict[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average with a short memory at the start, float buffers included; whole numbers are copied."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, weight)
        else:
            ema[name].copy_(value)


@contextmanager
def averaged_weights(module: nn.Module, ema: dict[str, Tensor]) -> Iterator[None]:
    """Run the body with the averaged weights in the module, then put the trained ones back."""
    own = {name: value.clone() for name, value in module.state_dict().items()}
    training = module.training
    module.load_state_dict(ema)
    module.eval()
    try:
        yield
    finally:
        module.load_state_dict(own)
        module.train(training)


class Trainer:
    """Runs a task to its last step; see `train`."""

    def __init__(self, task: Task, config: TrainConfig, output: Path) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        bf16 = config.precision == "bf16" or (config.precision == "auto" and native_bf16())
        self.accelerator = build_accelerator(bf16)
        self.task, self.config, self.output, self.step = task, config, output, 0
        self.module = task.modules().to(self.accelerator.device)
        self.ema = {name: value.clone() for name, value in self.module.state_dict().items()}
        self.objective, self.optimizer = self.accelerator.prepare(
            _Objective(task), build_optimizer(self.module, config)
        )

    def resume(self) -> None:
        """Load the newest checkpoint under the output directory.

        Raises:
            UserError: there is none, or it is another recipe's.
        """
        check_output(self.output, resume=True)
        found = cast("Path", latest_checkpoint(self.output))
        state = load_checkpoint(found, self.module, self.ema, self.optimizer)
        if state.get("recipe") != self.task.name:
            raise UserError(f"{found} belongs to recipe {state.get('recipe')!r}, not {self.task.name!r}")
        self.step = int(state["step"])
        changed = differences(state.get("config", {}), self.config)
        if changed and self.accelerator.is_main_process:
            logger.warning("resuming with settings other than the checkpoint's: %s", ", ".join(changed))

    def update(self) -> tuple[float, dict[str, float]]:
        """One optimizer step."""
        rank, seed = self.accelerator.process_index, self.config.seed
        rate = learning_rate_at(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = moved(self.task.batch(self.step, step_generator(seed, self.step, rank)), self.accelerator.device)
        loss, metrics = self.objective(batch, step_generator(seed, self.step, rank, stream=1))
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        update_average(self.ema, self.module, self.step, self.config.ema)
        self.step += 1
        return float(loss.detach()), {**metrics, "gradient_norm": float(norm)}

    def checkpoint(self) -> None:
        """Save on the main process."""
        if self.accelerator.is_main_process:
            state = {"recipe": self.task.name, "config": asdict(self.config)}
            save_checkpoint(self.output, self.step, self.module, self.ema, self.optimizer, state)

    def evaluate(self) -> dict[str, float]:
        """The task's metrics with the averaged weights."""
        with averaged_weights(self.module, self.ema), torch.no_grad():
            return self.task.evaluate()

    def export(self) -> None:
        """Write the inference files of the averaged weights to OUTPUT/export."""
        if self.accelerator.is_main_process:
            with averaged_weights(self.module, self.ema):
                self.task.export(self.output / "export")

    def log(self, progress: Progress) -> None:
        """Append one JSON line to OUTPUT/log.jsonl."""
        if self.accelerator.is_main_process:
            with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(progress)) + "\n")


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric over the rows that have it."""
    names = {name for row in rows for name in row}
    means = {}
    for name in sorted(names):
        values = [row[name] for row in rows if name in row]
        means[name] = round(sum(values) / len(values), 6)
    return means


def check_output(output: Path, resume: bool) -> None:
    """Refuse to start where there are checkpoints, and to resume where there are none."""
    there = latest_checkpoint(output) is not None
    if there and not resume:
        raise UserError(f"{output} already holds checkpoints; pass --resume to go on, or choose another --output")
    if resume and not there:
        raise UserError(f"nothing to resume in {output}; leave --resume out to start")


def train(
    task: Task,
    config: TrainConfig,
    output: Path,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trainer:
    """Train to `config.steps`; checkpoints, log and export go under `output`.

    Raises:
        UserError: `output` holds checkpoints and `resume` was not asked for, or the other way round.
    """
    check_output(output, resume)
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(task, config, output)
    if resume:
        trainer.resume()
    trainer.module.train()
    rows: list[dict[str, float]] = []
    began, mark = time.monotonic(), trainer.step
    while trainer.step < config.steps:
        loss, metrics = trainer.update()
        rows.append({"loss": loss, **metrics})
        done = trainer.step == config.steps
        evaluate = done or (config.eval_every and trainer.step % config.eval_every == 0)
        if done or trainer.step % config.save_every == 0:
            trainer.checkpoint()
        if done or evaluate or trainer.step % config.log_every == 0:
            rate = (trainer.step - mark) / (time.monotonic() - began)
            samples = rate * config.batch_size * trainer.accelerator.num_processes
            means = _mean(rows)
            progress = Progress(
                trainer.step,
                config.steps,
                means.pop("loss"),
                learning_rate_at(trainer.step - 1, config),
                round(samples, 2),
                round((config.steps - trainer.step) / rate, 1),
                means,
                trainer.evaluate() if evaluate else None,
            )
            trainer.log(progress)
            if on_progress:
                on_progress(progress)
            rows, began, mark = [], time.monotonic(), trainer.step
    trainer.export()
    return trainer
