"""The figures of the paper (UniF2ace, ICLR 2026, arXiv 2503.08120) as data, to stand beside measured ones.

    GENERATION, UNDERSTANDING, ABLATIONS, DATA_SETS, RECIPE     its tables and its training recipe
    beside(report)                                              paper figures for the metrics of a report

A report of this project's suites measures other metrics, on other photos, than the paper's tables: each pair
says whether its two numbers may be compared, and why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS = "UniF2ace"
TEST_SET = "UniF2aceD-1M"
INCEPTION = "Inception-v3"


@dataclass(frozen=True)
class GenerationResult:
    """Face generation on the test set of UniF2aceD-1M."""

    model: str
    kind: str
    parameters: str
    vqascore_cf5: float  # 0 .. 1, higher is better
    fid: float  # lower is better
    vlm_score: float  # 0 .. 100, higher is better


@dataclass(frozen=True)
class UnderstandingResult:
    """Descriptions and conversations about faces, scored from 0 to 10 by GPT-4o and by DeepSeek; higher is better."""

    model: str
    parameters: str
    desc_gpt: float
    conv_gpt: float
    desc_ds: float
    conv_ds: float


@dataclass(frozen=True)
class Ablation:
    """One setting of the paper's model and what it reaches."""

    setting: str
    metric: str  # field of GenerationResult or UnderstandingResult
    value: float


@dataclass(frozen=True)
class DataSet:
    """A set of captioned faces."""

    name: str
    resolution: str
    questions: str  # question-answer pairs, "" for none
    images: str
    caption_tokens: int  # mean per caption
    attributes: float  # mean per caption


@dataclass(frozen=True)
class Setting:
    """One line of the training recipe; `stated` tells the paper's words from what was inferred."""

    item: str
    value: str
    stated: bool


GENERATION = (
    GenerationResult("Show-o", "AR + diffusion", "1.3B", 0.855, 142.557, 75.618),
    GenerationResult("JanusFlow", "AR + diffusion", "1.3B", 0.881, 72.825, 61.593),
    GenerationResult("Flux.1-dev", "diffusion", "12B", 0.893, 76.427, 84.513),
    GenerationResult(OURS, "AR + diffusion", "1.8B", 0.894, 66.005, 88.049),
)
UNDERSTANDING = (
    UnderstandingResult("InternVL2.5", "8B", 5.62, 5.89, 6.30, 6.55),
    UnderstandingResult("JanusFlow", "1.3B", 4.88, 6.06, 5.42, 6.77),
    UnderstandingResult("Show-o", "1.3B", 3.88, 4.17, 5.24, 4.90),
    UnderstandingResult(OURS, "1.8B", 6.02, 6.53, 7.38, 7.29),
)
ABLATIONS = (
    Ablation("masked term only, alpha = 0", "vqascore_cf5", 0.879),
    Ablation("score term only, alpha = 0.01", "vqascore_cf5", 0.886),
    Ablation("D3Diff, alpha = 0.01", "vqascore_cf5", 0.894),
    Ablation("token and sequence MoE", "desc_gpt", 6.023),
    Ablation("without both MoE levels", "desc_gpt", 4.988),
    Ablation("without face and CLIP experts", "desc_gpt", 5.21),
)
DATA_SETS = (
    DataSet("LAION-Face", "low", "", "50M", 16, 2.7),
    DataSet("FLIP-80M", "low", "", "80M", 22, 4.4),
    DataSet("FFHQ-Text", "high", "", "760", 45, 12.2),
    DataSet("MM-CelebA-HQ", "high", "", "30K", 26, 6.2),
    DataSet("CelebV-Text", "high", "", "70K", 80, 4.3),
    DataSet(TEST_SET, "high", "1M", "130K", 120, 17.7),
)
RECIPE = (
    Setting("start", "Show-o 256x256 without CLIP", True),
    Setting("objective", "L_MMU + L_D3Diff (+ balance loss)", True),
    Setting("alpha", "0.01", True),
    Setting("token MoE", "1 shared + N routed experts per group, top-k 4", True),
    Setting(
        "sequence MoE",
        "CLIP, Face, Copy, Copy for understanding; Copy, Zero, Noise, Copy for generation; top-k 2",
        True,
    ),
    Setting("balance weight", "0.01", False),
    Setting("mask schedule", "cosine", False),
    Setting("optimiser", "AdamW (0.9, 0.999), learning rate 2e-5, weight decay 0.01", False),
    Setting("condition dropout", "0.1", False),
    Setting("text length", "256 or more", False),
)

METRICS = {
    "vqascore_cf5": "VQAscore-CF5",
    "fid": "FID",
    "vlm_score": "VLM-score",
    "desc_gpt": "Desc-GPT",
    "conv_gpt": "Conv-GPT",
    "desc_ds": "Desc-DS",
    "conv_ds": "Conv-DS",
}
"""Names that the paper gives to the fields."""


@dataclass(frozen=True)
class Relation:
    """A metric of a suite and the paper's figure that is nearest to it."""

    suite: str
    metric: str  # dotted name inside the suite
    figure: str  # field of a result
    note: str  # why the numbers are not comparable
    needs: Mapping[str, str] = field(default_factory=dict)  # report fields that would make them comparable
    same: bool = False  # whether the metric is the paper's at all


RELATIONS = (
    Relation(
        "generation",
        "fid",
        "fid",
        f"the paper's is between {INCEPTION} features on the test set of {TEST_SET}; the report names its own "
        "features and photos",
        {"extractor": INCEPTION, "data": TEST_SET},
        same=True,
    ),
    Relation(
        "generation",
        "prompt_agreement.mean",
        "vqascore_cf5",
        "both ask whether a picture shows what its text says: here an attribute head on captions of labels, balanced "
        "accuracy; there a visual question answering model on long captions",
    ),
    Relation(
        "generation",
        "prompt_agreement.mean",
        "vlm_score",
        "here an attribute head, balanced accuracy; there a vision-language model's judgement from 0 to 100",
    ),
    Relation(
        "answers",
        "yes_no.mean_balanced_accuracy",
        "conv_gpt",
        "here balanced accuracy against labels; there GPT-4o's marks from 0 to 10 for free answers",
    ),
    Relation(
        "answers",
        "yes_no.mean_balanced_accuracy",
        "conv_ds",
        "here balanced accuracy against labels; there DeepSeek's marks from 0 to 10 for free answers",
    ),
    Relation(
        "descriptions",
        "precision",
        "desc_gpt",
        "here the share of a description's attributes that agree with labels; there GPT-4o's marks from 0 to 10",
    ),
    Relation(
        "descriptions",
        "precision",
        "desc_ds",
        "here the share of a description's attributes that agree with labels; there DeepSeek's marks from 0 to 10",
    ),
)


@dataclass(frozen=True)
class Beside:
    """A measured value and the paper's figures that stand beside it."""

    metric: str  # "suite.name" of the report
    measured: float
    figure: str  # the paper's name of its metric
    paper: dict[str, float]  # by model
    comparable: bool
    note: str  # "" where the numbers are comparable


def figures(figure: str) -> dict[str, float]:
    """The paper's values of a metric (field name of a result), by model.

    Raises:
        KeyError: the paper has no such metric.
    """
    if figure not in METRICS:
        raise KeyError(figure)
    rows: tuple[Any, ...] = GENERATION if hasattr(GENERATION[0], figure) else UNDERSTANDING
    return {row.model: getattr(row, figure) for row in rows}


def beside(report: Mapping[str, Any]) -> list[Beside]:
    """The paper's figures for a report of `run_suites`, in its order; empty where the paper measured nothing alike.

    Two numbers are comparable only if the metric is the paper's and the report says that features and data are.
    """
    found = []
    for relation in RELATIONS:
        value = _at(report.get("suites", {}).get(relation.suite), relation.metric)
        if value is not None:
            comparable = relation.same and all(report.get(key) == need for key, need in relation.needs.items())
            name, note = f"{relation.suite}.{relation.metric}", "" if comparable else relation.note
            figure = METRICS[relation.figure]
            found.append(Beside(name, value, figure, figures(relation.figure), comparable, note))
    return found


def _at(values: Any, name: str) -> float | None:
    """The number at a dotted name of nested mappings, or None."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return float(values) if isinstance(values, (int, float)) and not isinstance(values, bool) else None
