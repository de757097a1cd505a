"""The one training loop: every recipe runs through it, on one process or under `accelerate launch`.

    for step: parts(seed, step) -> loss -> backward -> clip -> AdamW -> average -> log / evaluate / checkpoint

Every random draw is a function of (seed, step, part), so an interrupted run continues bit for bit. Several processes
(DDP, FSDP, DeepSpeed) and turns of accumulation divide a step's samples among them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.train.checkpoint import (
    Crew,
    latest_checkpoint,
    load_average,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    read_state,
    save_checkpoint,
)
from unif2ace_core.train.muon import MOMENTUM, Muon, is_turned
from unif2ace_core.train.options import TrainConfig, differences
from unif2ace_core.train.processes import (
    Part,
    average_over,
    build_accelerator,
    is_sharded,
    moved,
    step_generator,
    step_part,
    uses_deepspeed,
    whole_state,
    widen_scalars,
    zero_stage,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What a recipe hands to the loop."""

    name: str
    # Whether FSDP and ZeRO-3 may divide the weights: every part of a batch gives each of them a gradient, and `export`
    # and `evaluate` go through what they are given.
    shardable: bool

    def modules(self) -> nn.Module:
        """The module whose parameters are trained, averaged and saved."""

    def batch(self, step: int, part: Part) -> Any:
        """A part of a step's batch, on the CPU; all randomness from the part's generators.

        A batch with `denominators` (a tensor of what its losses are averaged over) gets their mean over all parts.
        """

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss and what to log beside it."""

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data with the module's current weights."""

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the files used for inference.

        `weights` is the averaged state of `modules()`, whole and on the CPU; the module holds it too, unless sharded.
        """


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

    def __init__(self, task: Task, device: torch.device, bf16: bool) -> None:
        super().__init__()
        self.module = task.modules()
        self._loss, self._device, self._bf16 = task.loss, device, bf16

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        # every engine keeps fp32 weights: FSDP and DeepSpeed would cast theirs, but not the inputs inside a batch
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            return self._loss(batch, generator)


def native_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware (elsewhere it is several times slower than fp32)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def in_bf16(config: TrainConfig) -> bool:
    """Whether a run multiplies in bf16 on this machine."""
    return config.precision == "bf16" or (config.precision == "auto" and native_bf16())


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `decay` share."""
    start = config.steps * (1 - config.decay)
    falling = min(1.0, (config.steps - step) / max(1.0, config.steps - start))
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * falling


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices and kernels only, or one of its kind.

    Raises:
        UserError: 8-bit states without CUDA or bitsandbytes.
    """
    common: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.9, config.beta2)}
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    turned = [p for name, p in named if config.optimizer == "muon" and is_turned(name, p)]
    apart = {id(p) for p in turned}
    parameters = [p for _, p in named if id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if config.optimizer == "muon":
        matrices = {"params": turned, "weight_decay": config.weight_decay, "momentum": MOMENTUM}
        return Muon([matrices, *groups], torch.bfloat16 if in_bf16(config) else torch.float32, **common)
    if config.optimizer == "adamw8bit":
        return adamw_8bit()(groups, **common)
    # one kernel, no temporaries of the weights' size
    return torch.optim.AdamW(groups, fused=torch.cuda.is_available() or None, **common)


def adamw_8bit() -> Any:
    """bitsandbytes' AdamW, whose states take two bytes a parameter instead of eight.

    Raises:
        UserError: no CUDA device, or bitsandbytes is missing.
    """
    if not torch.cuda.is_available():
        raise UserError("optimizer=adamw8bit needs a CUDA device; use optimizer=adamw here")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError("optimizer=adamw8bit needs bitsandbytes; run 'pip install bitsandbytes'") from error
    return AdamW8bit


@torch.no_grad()
def update_average(ema: dict[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average with a short memory at the start, float buffers included; whole numbers are copied."""
    if not ema:
        return
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, weight)
        else:
            ema[name].copy_(value)


@contextmanager
def averaged_weights(module: nn.Module, ema: dict[str, Tensor]) -> Iterator[None]:
    """Run the body with the averaged weights (if any) in the module, then put the trained ones back."""
    own = {name: value.clone() for name, value in module.state_dict().items()} if ema else {}
    training = module.training
    if ema:
        module.load_state_dict(ema)
    module.eval()
    try:
        yield
    finally:
        if own:
            module.load_state_dict(own)
        module.train(training)


class Trainer:
    """Runs a task to its last step; see `train`."""

    def __init__(self, task: Task, config: TrainConfig, output: Path, resume: bool = False) -> None:
        """Build the run, at its start or where its newest checkpoint stands.

        Raises:
            UserError: `resume` finds no checkpoint or another recipe's, or the launch does not fit the settings.
        """
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = build_accelerator(config.accumulation, unused=not task.shardable)
        self.task, self.config, self.output, self.step = task, config, output, 0
        self.module = task.modules()
        self.sharded = is_sharded(self.accelerator)
        check_launch(self.accelerator, task, config)
        checkpoint = self.find_checkpoint() if resume else None
        if checkpoint:
            load_weights(checkpoint, self.module)
        self.module = self.module.to(self.accelerator.device)
        divided = self.sharded or uses_deepspeed(self.accelerator)
        self.scalars = widen_scalars(self.module) if divided else []
        prepare_deepspeed(self.accelerator, config)
        self.objective, self.optimizer = self.accelerator.prepare(
            _Objective(task, self.accelerator.device, in_bf16(config)), build_optimizer(self.module, config)
        )
        self.ema = {name: value.clone() for name, value in self.module.state_dict().items()} if config.ema else {}
        if checkpoint:
            self.resume(checkpoint)

    def find_checkpoint(self) -> Path:
        """The newest checkpoint under the output directory.

        Raises:
            UserError: there is none, or it is another recipe's.
        """
        check_output(self.output, resume=True)
        found = cast("Path", latest_checkpoint(self.output))
        recipe = read_state(found).get("recipe")
        if recipe != self.task.name:
            raise UserError(f"{found} belongs to recipe {recipe!r}, not {self.task.name!r}")
        return found

    def resume(self, checkpoint: Path) -> None:
        """Everything of a checkpoint but the weights, which went in before they were divided."""
        state = read_state(checkpoint)
        load_average(checkpoint, self.ema)
        saved = state.get("config", {})
        alike = saved.get("optimizer") == self.config.optimizer and not uses_deepspeed(self.accelerator)
        restored = alike and load_optimizer(checkpoint, self.optimizer, self.module)
        self.step = int(state["step"])
        changed = differences(saved, self.config)
        if self.accelerator.is_main_process and changed:
            logger.warning("resuming with settings other than the checkpoint's: %s", ", ".join(changed))
        if self.accelerator.is_main_process and not restored:
            logger.warning("%s holds no state of this optimizer over these weights; it starts anew", checkpoint)

    def parts(self) -> list[Any]:
        """This process's parts of the step's batch, on its device."""
        turns, index = self.config.accumulation, self.accelerator.process_index
        count = turns * self.accelerator.num_processes
        seed, device = self.config.seed, self.accelerator.device
        own = [index * turns + turn for turn in range(turns)]
        parts = [self.task.batch(self.step, step_part(seed, self.step, each, count)) for each in own]
        if hasattr(parts[0], "denominators"):
            mean = average_over([part.denominators for part in parts], device)
            parts = [replace(part, denominators=mean) for part in parts]
        return [moved(part, device) for part in parts]

    def update(self) -> tuple[float, dict[str, float]]:
        """One optimizer step; returns the loss and what else to log, means over this process's parts."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.config)
        rows, first = [], self.accelerator.process_index * self.config.accumulation
        for turn, part in enumerate(self.parts()):
            with self.accelerator.accumulate(self.objective):
                generator = step_generator(self.config.seed, self.step, first + turn, stream=2)
                loss, metrics = self.objective(part, generator)
                self.accelerator.backward(loss)
                rows.append({"loss": float(loss.detach()), **metrics})
                if self.accelerator.sync_gradients:
                    rows[-1]["gradient_norm"] = self.clip()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        update_average(self.ema, self.module, self.step, self.config.ema)
        self.step += 1
        means = _mean(rows)
        return means.pop("loss"), means

    def clip(self) -> float:
        """Limit the gradients' norm; returns it as it was."""
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.max_gradient_norm)
        return float(norm) if norm is not None else math.nan  # DeepSpeed clips later: see prepare_deepspeed

    def checkpoint(self) -> None:
        """Save; every process calls it."""
        accelerator = self.accelerator
        state = {"recipe": self.task.name, "config": asdict(self.config)}
        tensors = {"model": self.weights(), "ema": self.ema}
        if not uses_deepspeed(accelerator):
            tensors["optimizer"] = optimizer_tensors(self.optimizer, self.module)
        crew = Crew(accelerator.is_main_process, self.sharded, accelerator.wait_for_everyone)
        save_checkpoint(self.output, self.step, tensors, state, crew)

    def weights(self) -> dict[str, Tensor]:
        """The module's state; under DeepSpeed gathered from where it is kept."""
        if not uses_deepspeed(self.accelerator):
            return self.module.state_dict()
        found = self.accelerator.get_state_dict(self.objective) or {}
        named = {name.removeprefix("module."): value for name, value in found.items()}
        return {name: value.reshape(()) if name in self.scalars else value for name, value in named.items()}

    def evaluate(self) -> dict[str, float]:
        """The task's metrics with the averaged weights; every process calls it."""
        with averaged_weights(self.module, self.ema), torch.no_grad():
            if self.sharded:
                self.objective.unshard()  # what stands outside the blocks is used without the objective's forward
            try:
                return self.task.evaluate()
            finally:
                if self.sharded:
                    self.objective.reshard()

    def export(self) -> None:
        """Write the inference files of the averaged weights to OUTPUT/export; every process calls it."""
        main = self.accelerator.is_main_process
        weights = whole_state(self.ema or self.weights(), self.scalars, keep=main)
        if main:
            with contextlib.nullcontext() if self.sharded else averaged_weights(self.module, self.ema):
                self.task.export(self.output / "export", weights)

    def log(self, progress: Progress) -> None:
        """Append one JSON line to OUTPUT/log.jsonl."""
        if self.accelerator.is_main_process:
            with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(progress)) + "\n")


def check_launch(accelerator: Accelerator, task: Task, config: TrainConfig) -> None:
    """Refuse settings that do not go with the processes.

    Raises:
        UserError: what to change.
    """
    processes = accelerator.num_processes
    if config.batch_size % (processes * config.accumulation):
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided among {processes} processes with "
            f"accumulation={config.accumulation}; give a multiple of {processes * config.accumulation}"
        )
    turns = accelerator.gradient_accumulation_steps
    if turns != config.accumulation:
        raise UserError(
            f"the launch has gradient_accumulation_steps {turns}, the run accumulation={config.accumulation}; "
            f"give accumulation={turns}, or leave it out of the launch's config"
        )
    if (is_sharded(accelerator) or zero_stage(accelerator) == 3) and not task.shardable:
        raise UserError(f"recipe {task.name} is too small to shard; launch it without FSDP and ZeRO-3")
    if is_sharded(accelerator) and config.optimizer != "adamw":
        raise UserError(f"optimizer={config.optimizer} does not know FSDP's tensors; use optimizer=adamw with FSDP")
    if uses_deepspeed(accelerator) and config.optimizer == "muon":
        raise UserError("optimizer=muon needs whole matrices, which DeepSpeed flattens; use optimizer=adamw with it")
    if uses_deepspeed(accelerator) and config.ema:
        raise UserError(f"ema={config.ema} needs the whole weights at every step, which DeepSpeed divides; give ema=0")


def prepare_deepspeed(accelerator: Accelerator, config: TrainConfig) -> None:
    """Tell DeepSpeed the rows of a part, which it would read off a data loader, where to clip, and to give weights."""
    if uses_deepspeed(accelerator):
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        rows = config.batch_size // (accelerator.num_processes * config.accumulation)
        settings["train_micro_batch_size_per_gpu"] = rows
        settings["gradient_clipping"] = config.max_gradient_norm
        if zero_stage(accelerator) == 3:
            settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric over the rows that have it."""
    names = {name for row in rows for name in row}
    means = {}
    for name in sorted(names):
        values = [row[name] for row in rows if name in row]
        means[name] = round(sum(values) / len(values), 6)
    return means


def _mean_over_processes(row: dict[str, float]) -> dict[str, float]:
    """Average each metric over the processes that have it."""
    from accelerate.utils import gather_object

    return _mean(gather_object([row]))


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
    trainer = Trainer(task, config, output, resume)
    output.mkdir(parents=True, exist_ok=True)
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
            samples = rate * config.batch_size
            means = _mean_over_processes(_mean(rows))
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
