"""The paper's claims at small scale: fresh models that differ in one thing, trained alike, over several seeds.

    unif2ace eval ablation --data sets/encoded --output runs/ablation

Each run trains as many steps on the same draws (a function of its seed), beside the same encoders, and is measured on
held-out photos: the likelihood bound of their codes, and their answers. A difference to the whole model is that of
runs of one seed; its interval is Student's over the seeds. What experts see matters to answers, which runs of this
length hardly learn beside pictures: those variants learn answers alone, in half of the steps, and so does what they
are compared with. Runs that are there are taken, so the command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.metrics import rounded
from unif2ace_core.train.encode import PARTS, encoder_fingerprint
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.parts import has_part
from unif2ace_core.weights.store import write_text_atomic

logger = logging.getLogger(__name__)

WHOLE = "whole"  # the variant that others are compared with
ANSWERS = "whole, answers alone"  # the one that variants without pictures are compared with
STEPS = 600  # of a run, unless told otherwise
SEEDS = 3
QUESTIONS, PHOTOS = 600, 128  # that a run is measured with
# Student's t at 97.5% for 1, 2, ... degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
COPIES = "copy+copy+copy+copy"  # sequence experts that leave the image span as it is


@dataclass(frozen=True)
class Variant:
    """What a run changes of recipe `model`."""

    claim: str  # the question that it answers
    settings: Mapping[str, str] = field(default_factory=dict)
    against: str = WHOLE  # what it is compared with
    metrics: tuple[str, ...] = ("nats_per_code", "balanced_accuracy")  # keys of METRICS that it is measured by
    share: float = 1.0  # of the plan's steps that it takes


# of every run: a quarter of preset mini's parameters, so that a run takes minutes and there can be many
_SMALL = {"width": "128", "layers": "4", "ffn": "512", "rotary": "16", "expert_hidden": "96", "resampler": "32"}


def resized(**sizes: str) -> dict[str, str]:
    """Settings that change sizes of the small model that is trained."""
    return {"sizes": ",".join(f"{name}:{value}" for name, value in (_SMALL | sizes).items())}


# one expert for each task, as wide as two of four: a dense layer of equal active FLOPs
_DENSE = {"experts": "1", "top_k": "1", "expert_hidden": "192"}
_STILL = {"sequence_t2i": COPIES, "sequence_mmu": COPIES}


def reading(claim: str, **sizes: str) -> Variant:
    """A variant that learns answers alone, which takes fewer steps than to draw as well."""
    settings = resized(**sizes) | {"t2i_share": "0", "text_budget": "96"}
    return Variant(claim, settings, ANSWERS, ("balanced_accuracy",), 0.5)


VARIANTS: dict[str, Variant] = {
    WHOLE: Variant("D3Diff, both mixtures, both experts, top 2", resized()),
    "mask only": Variant("loss", resized() | {"terms": "mask"}),
    "score only": Variant("loss", resized() | {"terms": "score"}),
    "unnormalized": Variant("loss", resized() | {"mode": "unnormalized"}),
    "no mixture": Variant("mixtures", resized(**_DENSE, **_STILL)),
    "token level only": Variant("mixtures", resized(**_STILL)),
    "sequence level only": Variant("mixtures", resized(**_DENSE)),
    "sequence top 1": Variant("top-k", resized(sequence_top_k="1")),
    "sequence top 3": Variant("top-k", resized(sequence_top_k="3")),
    ANSWERS: reading("the whole, for what follows"),
    "without CLIP": reading("experts", sequence_mmu="copy+face+copy+copy"),
    "without face": reading("experts", sequence_mmu="clip+copy+copy+copy"),
    "without both": reading("experts", sequence_mmu=COPIES),
}


@dataclass(frozen=True)
class Metric:
    """A figure of a run."""

    suite: str  # that measures it
    label: str
    better: int  # 1: more is better, -1: less
    read: Callable[[Mapping[str, Any]], float]  # from the suite's report


METRICS: dict[str, Metric] = {
    "nats_per_code": Metric("likelihood", "bound, nats a code", -1, lambda found: found["captions"]["nats_per_code"]),
    "balanced_accuracy": Metric(
        "answers", "answers, balanced accuracy", 1, lambda found: found["yes_no"]["mean_balanced_accuracy"]
    ),
}
Figures = dict[str, float]  # by metric
Train = Callable[[Path, Mapping[str, str]], Path]  # an empty folder and settings -> the export
Measure = Callable[[Path, Sequence[str]], Mapping[str, Any]]  # an export and suites -> their reports


@dataclass(frozen=True)
class Plan:
    """Which runs there shall be."""

    output: Path
    steps: int = STEPS
    first_seed: int = 0
    seeds: int = SEEDS
    variants: Sequence[str] = tuple(VARIANTS)
    encoders: str = ""  # hash of the codec and experts that all runs share

    def conditions(self, name: str) -> dict[str, Any]:
        """What runs that are compared have in common, and what the variant changes."""
        return {"steps": self.steps_of(name), "encoders": self.encoders, "settings": dict(VARIANTS[name].settings)}

    def steps_of(self, name: str) -> int:
        """Steps of a variant's runs."""
        return max(1, round(self.steps * VARIANTS[name].share))

    @property
    def every_seed(self) -> range:
        """The seeds of each variant."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def runs(self) -> list[tuple[str, int]]:
        """(variant, seed), all seeds of one variant after the other, so that what is there can be compared."""
        return [(name, seed) for name in self.variants for seed in self.every_seed]

    def complete(self, name: str, found: Mapping[tuple[str, int], Figures]) -> bool:
        """Whether all runs of a variant are there."""
        return all((name, seed) in found for seed in self.every_seed)

    def file(self, name: str, seed: int) -> Path:
        """Where the figures of a run are kept."""
        return self.output / f"{name.replace(',', '').replace(' ', '-').lower()}-{seed}.json"


def run(
    plan: Plan,
    train: Train,
    measure: Measure,
    progress: Callable[[int, int], None],
    on_report: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Make the runs that are missing, and the report of all; `on_report` gets that of what is there after each.

    Raises:
        UserError: the folder holds runs of other lengths or settings.
    """
    runs, found = plan.runs(), dict[tuple[str, int], Figures]()
    for name, seed in runs:
        found.update({(name, seed): kept} if (kept := read_run(plan, name, seed)) else {})
    for number, (name, seed) in enumerate(runs):
        progress(number, len(runs))
        if (name, seed) not in found:
            logger.info("training %s, seed %d", name, seed)
            found[name, seed] = one_run(plan, name, seed, train, measure)
            if on_report and plan.complete(name, found):
                on_report(report(plan, found))
    progress(len(runs), len(runs))
    return report(plan, found)


def read_run(plan: Plan, name: str, seed: int) -> Figures | None:
    """The figures of an earlier run, None where there is none."""
    path = plan.file(name, seed)
    if not path.is_file():
        return None
    values = read_json(path)
    steps = int(values.get("steps") or 0)
    if steps != plan.steps_of(name):
        fitting = f"give --limit {round(steps / VARIANTS[name].share)}, or another --output"
        raise UserError(f"{path} is a run of {steps} steps; {fitting}")
    if {key: values.get(key) for key in plan.conditions(name)} != plan.conditions(name):
        raise UserError(f"{path} is a run with other encoders or settings than these; give another --output")
    return dict(values["figures"])


def one_run(plan: Plan, name: str, seed: int, train: Train, measure: Measure) -> Figures:
    """Train and measure a variant; only its figures are kept."""
    folder = plan.output / "running"
    shutil.rmtree(folder, ignore_errors=True)
    export = train(folder, {**VARIANTS[name].settings, "seed": str(seed), "steps": str(plan.steps_of(name))})
    metrics = {key: METRICS[key] for key in VARIANTS[name].metrics}
    suites = measure(export, [metric.suite for metric in metrics.values()])
    figures = {key: metric.read(suites[metric.suite]) for key, metric in metrics.items()}
    if None in figures.values():
        raise UserError("the data's val split has too few labelled photos for a balanced accuracy; give more")
    values = {"variant": name, "seed": seed, **plan.conditions(name), "figures": figures}
    write_text_atomic(plan.file(name, seed), json.dumps(values, indent=1) + "\n")
    shutil.rmtree(folder)
    return figures


def report(plan: Plan, found: Mapping[tuple[str, int], Figures]) -> dict[str, Any]:
    """Of variants with all seeds: means, and paired differences to what each is compared with, with 95% intervals."""
    table: dict[str, dict[str, Any]] = {}
    for name in plan.variants:
        if plan.complete(name, found):
            against = VARIANTS[name].against
            whole = [found.get((against, seed)) for seed in plan.every_seed] if name != against else []
            runs = [found[name, seed] for seed in plan.every_seed]
            table[name] = {"claim": VARIANTS[name].claim, **row(runs, whole)}
    return {"steps": plan.steps, "seeds": plan.seeds, "n": len(found), "by_variant": table}


def row(runs: Sequence[Figures], whole: Sequence[Figures | None]) -> dict[str, Any]:
    """A variant's line: means, and changes against the runs of the same seeds that it is compared with, if any."""
    found: dict[str, Any] = {}
    for key in runs[0]:
        values = [figures[key] for figures in runs]
        found[key] = rounded(sum(values) / len(values))
        change = [value - other[key] for value, other in zip(values, whole) if other]
        if change:
            found[f"{key}_change"] = rounded(sum(change) / len(change))
            found[f"{key}_interval"] = interval(change)
    return found


def interval(values: Sequence[float]) -> list[float | None]:
    """Student's 95% interval of the mean; [None, None] for a single value or more than there are quantiles for."""
    degrees = len(values) - 1
    if not 1 <= degrees <= len(STUDENT):
        return [None, None]
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / degrees)
    half = STUDENT[degrees - 1] * deviation / math.sqrt(len(values))
    return [rounded(mean - half), rounded(mean + half)]


# --- With the project's own training and suites ------------------------------------------------------------


def ablate(
    model: Path,
    data: Path,
    plan: Plan,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    on_report: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """The report of a plan, whose runs use the codec, the tokenizer and the experts in the folder `model`.

    Raises:
        UserError: a part or data are missing, or the folder holds runs of other lengths or settings.
    """
    missing = [name for name in PARTS.values() if not has_part(model, name)]
    if missing:
        raise UserError(f"{model} has no {missing[0]}, which the ablation compares with; give another --model")
    told, plan = progress or (lambda done, total: None), replace(plan, encoders=encoders_of(model))
    return run(plan, trainer(model, data), measurer(data, device), told, on_report)


def encoders_of(model: Path) -> str:
    """Hash of the parts that all runs share."""
    parts = [encoder_fingerprint(kind, model) for kind in PARTS]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def trainer(model: Path, data: Path) -> Train:
    """Recipe `model` on a model's encoders, with a schedule that fits a run's steps."""
    from unif2ace_core.train import run as training

    parts = dict.fromkeys(("codec", "clip", "face", "tokenizer"), str(model))
    schedule = {"decay": "0.5", "ema": "0.99", "eval_every": "0"}
    fast = {"learning_rate": "3e-3", "drawn_share": "1", "text_budget": "48", "long_share": "0"}  # short plain texts

    def train(folder: Path, settings: Mapping[str, str]) -> Path:
        steps = int(settings["steps"])
        own = {"warmup": str(max(1, steps // 15)), "save_every": str(steps)}
        training.run("model", data, folder, {**parts, **schedule, **fast, **own, **settings})
        return folder / "export"

    return train


def measurer(data: Path, device: str) -> Measure:
    """Suites `likelihood` and `answers`, on the same photos and questions each time."""
    from unif2ace_core.evaluate.run import run_suites

    limits = {"likelihood": PHOTOS, "answers": QUESTIONS}

    def measure(export: Path, suites: Sequence[str]) -> Mapping[str, Any]:
        reports = [run_suites([suite], str(export), data, limit=limits[suite], device=device) for suite in suites]
        return {name: values for each in reports for name, values in each["suites"].items()}

    return measure
