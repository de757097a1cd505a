"""Suite `answers`: does `ask` agree with the labels of held-out photos?

    plan (photos, questions, true values) -> ask -> read the answers back -> balanced accuracies

Yes/no questions go through the 20 visible attributes on human labels, with a wording drawn for each photo;
open questions ask for the emotion, the gender, the age and the colour of the hair. Ten further attributes widen
the mean to 30; their probes come from a random stream of their own, so that the others stay what they were. An
answer that can't be read counts as wrong. The module gets `ask` as a function.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unif2ace_core.data import wordings
from unif2ace_core.data.answers import read_age, read_value, read_yes_no
from unif2ace_core.data.attributes import FURTHER_10, VISIBLE_20
from unif2ace_core.data.questions import yes_no_wordings
from unif2ace_core.data.sources import FaceRecord, Key
from unif2ace_core.evaluate.metrics import bootstrap_interval, hits_by_value, macro_f1, mean_recall, rounded

if TYPE_CHECKING:
    from PIL import Image

Pair = tuple["Image.Image", str]
Ask = Callable[[Sequence[Pair]], Iterable[str]]

PER_VALUE = 48  # photos of each true value that a question is asked about, where nothing else is said
VALUES = 64  # about how many true values there are over all questions; an age counts as four
MISSING_AGE = 50.0  # years of error of an answer without an age
EMOTIONS = ("neutral", "happiness", "surprise", "anger")  # those that held-out photos show often enough
GENDER_SOURCES = ("celebahq", "utkface", "lfw")
AGE_SOURCES = ("utkface", "ffhq")
EMOTION_QUESTIONS = ("what emotion?", *wordings.phrased(wordings.EMOTION))


@dataclass(frozen=True)
class Probe:
    """One question about one photo, and the true value."""

    section: str  # "yes_no", "emotion", "gender.SOURCE", "age.SOURCE", "hair"
    record: FaceRecord
    attribute: str
    question: str
    truth: str


# --- What to ask ---------------------------------------------------------------------------------------


def plan(records: Sequence[FaceRecord], rng: random.Random, per_value: int = PER_VALUE) -> list[Probe]:
    """The suite's probes, at most `per_value` photos of each true value, ordered by photo."""
    by_source = sources_of(records)
    human = human_labelled(records)
    probes = [
        probe for name in VISIBLE_20 for probe in drawn("yes_no", human, name, yes_no_wordings(name), rng, per_value)
    ]
    emotions = [r for r in by_source["lfw"] or records if r.labels.get("Emotion") in EMOTIONS]
    probes += drawn("emotion", emotions, "Emotion", EMOTION_QUESTIONS, rng, per_value)
    gender, hair, age = (wordings.phrased(t) for t in (wordings.GENDER, wordings.HAIR, wordings.AGE))
    for source in _present(GENDER_SOURCES, by_source):
        probes += drawn(f"gender.{source}", by_source[source], "Male", gender, rng, per_value)
    probes += drawn("hair", human, "Hair_Color", hair, rng, per_value)
    for source in _present(AGE_SOURCES, by_source):
        known = [r for r in by_source[source] if r.age is not None]
        chosen = rng.sample(known, min(len(known), 4 * per_value))
        probes += [Probe(f"age.{source}", r, "Age", rng.choice(age), str(r.age)) for r in chosen]
    return ordered(probes)


def plan_further(records: Sequence[FaceRecord], rng: random.Random, per_value: int = PER_VALUE) -> list[Probe]:
    """Yes/no probes of `FURTHER_10`, their wordings in turn, so that five questions have five wordings."""
    probes: list[Probe] = []
    for name in FURTHER_10:
        wordings_left = itertools.cycle(rng.sample(yes_no_wordings(name), len(yes_no_wordings(name))))
        found = drawn("yes_no", human_labelled(records), name, ("",), rng, per_value)
        probes += [replace(probe, question=question) for probe, question in zip(found, wordings_left)]
    return ordered(probes)


def sources_of(records: Iterable[FaceRecord]) -> dict[str, list[FaceRecord]]:
    """The records by source; a source that is not there has none."""
    found: dict[str, list[FaceRecord]] = defaultdict(list)
    for record in records:
        found[record.source].append(record)
    return found


def human_labelled(records: Sequence[FaceRecord]) -> list[FaceRecord]:
    """The records whose attributes people labelled: CelebA-HQ's; a table of one's own counts as human too."""
    return [record for record in records if record.source == "celebahq"] or list(records)


def _present(names: Sequence[str], by_source: Mapping[str, Sequence[FaceRecord]]) -> list[str]:
    """The named sources that have records, else every source."""
    return [name for name in names if by_source.get(name)] or [name for name in by_source if by_source[name]]


def ordered(probes: Sequence[Probe]) -> list[Probe]:
    """By photo, so that questions about one photo stand together."""
    return sorted(probes, key=lambda probe: (probe.record.key, probe.section, probe.attribute))


def drawn(
    section: str,
    records: Sequence[FaceRecord],
    attribute: str,
    questions: Sequence[str],
    rng: random.Random,
    per_value: int,
) -> list[Probe]:
    """Up to `per_value` photos of each value of the attribute, each with a wording drawn."""
    found: dict[str, list[FaceRecord]] = defaultdict(list)
    for record in records:
        if attribute in record.labels:
            found[record.labels[attribute]].append(record)
    return [
        Probe(section, record, attribute, rng.choice(questions), value)
        for value in sorted(found)
        for record in rng.sample(found[value], min(per_value, len(found[value])))
    ]


# --- Asking and reading ------------------------------------------------------------------------------------


def ask_all(
    probes: Sequence[Probe],
    photos: Mapping[Key, Image.Image],
    ask: Ask,
    chunk: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The answer to each probe, `chunk` at a time; "" where the photo is missing."""
    answers = [""] * len(probes)
    there = [number for number, probe in enumerate(probes) if probe.record.key in photos]
    for start in range(0, len(there), chunk):
        part = there[start : start + chunk]
        pairs = [(photos[probes[i].record.key], probes[i].question) for i in part]
        for i, answer in zip(part, ask(pairs), strict=True):
            answers[i] = answer
        if on_progress:
            on_progress(start + len(part), len(there))
    return answers


def read(probe: Probe, answer: str) -> str | None:
    """The value that the answer states (an age in digits), or None."""
    if probe.attribute == "Age":
        age = read_age(answer)
        return None if age is None else str(age)
    if probe.section == "yes_no":
        verdict = read_yes_no(answer)
        if verdict is not None:
            return "yes" if verdict else "no"
    return read_value(probe.attribute, answer)


# --- Metrics -----------------------------------------------------------------------------------------------


def report(probes: Sequence[Probe], answers: Sequence[str], generator: torch.Generator) -> dict[str, Any]:
    """All metrics of the suite; each with its n and, for the headline ones, a 95% bootstrap interval."""
    sections: dict[str, list[tuple[Probe, str | None]]] = defaultdict(list)
    for probe, answer in zip(probes, answers, strict=True):
        sections[probe.section].append((probe, read(probe, answer)))
    found: dict[str, Any] = {"n": len(probes)}
    found["unread"] = sum(value is None for pairs in sections.values() for _, value in pairs)
    if "yes_no" in sections:
        found["yes_no"] = _yes_no(sections["yes_no"], generator)
    if "emotion" in sections:
        found["emotion"] = _emotion(sections["emotion"], generator)
    for kind, summary in (("gender", _values), ("age", _ages)):
        parts = {name: pairs for name, pairs in sections.items() if name.startswith(f"{kind}.")}
        if parts:
            found[kind] = {name.partition(".")[2]: summary(pairs, generator) for name, pairs in parts.items()}
    if "hair" in sections:
        found["hair_color"] = _values(sections["hair"], generator)
    return found


def report_wide(probes: Sequence[Probe], answers: Sequence[str], generator: torch.Generator) -> dict[str, Any]:
    """Balanced accuracies of all yes/no probes: those of `VISIBLE_20` and of `plan_further` together.

    The `n` of `report` does not count the further ones. `least_wordings` is the number of different wordings of
    the attribute that was asked in the fewest.
    """
    chosen = [(probe, read(probe, answer)) for probe, answer in zip(probes, answers) if probe.section == "yes_no"]
    asked: dict[str, set[str]] = defaultdict(set)
    for probe, _ in chosen:
        asked[probe.attribute].add(probe.question)
    fewest = min((len(questions) for questions in asked.values()), default=0)
    return {**_yes_no(chosen, generator), "least_wordings": fewest}


Read = Sequence[tuple[Probe, "str | None"]]


def _said_and_truth(pairs: Read) -> tuple[list[str | None], list[str]]:
    return [value for _, value in pairs], [probe.truth for probe, _ in pairs]


def _interval(strata: Sequence[Tensor], generator: torch.Generator) -> list[float | None]:
    return [rounded(value) for value in bootstrap_interval(strata, generator)]


def _yes_no(pairs: Read, generator: torch.Generator) -> dict[str, Any]:
    """Balanced accuracy and n of each attribute, and the mean over attributes."""
    table: dict[str, dict[str, Any]] = {}
    strata: list[Tensor] = []
    for name in dict.fromkeys(probe.attribute for probe, _ in sorted(pairs, key=lambda p: p[0].attribute)):
        said, truth = _said_and_truth([pair for pair in pairs if pair[0].attribute == name])
        hits = hits_by_value(said, truth)
        row: dict[str, Any] = {f"n_{value}": len(hits.get(value, ())) for value in ("yes", "no")}
        if len(hits) == 2:  # a balanced accuracy needs both
            strata += hits.values()
            row = {"balanced_accuracy": rounded(mean_recall(said, truth))} | row
        table[name] = row | {"unread": sum(value is None for value in said)}
    scores = [row["balanced_accuracy"] for row in table.values() if "balanced_accuracy" in row]
    return {
        "mean_balanced_accuracy": rounded(sum(scores) / len(scores)) if scores else None,
        "interval": _interval(strata, generator),
        "attributes": len(scores),
        "n": len(pairs),
        "by_attribute": table,
    }


def _emotion(pairs: Read, generator: torch.Generator) -> dict[str, Any]:
    """Happiness against neutral, and the macro-F1 over `EMOTIONS`."""
    said, truth = _said_and_truth(pairs)
    clear = [pair for pair in pairs if pair[0].truth in ("happiness", "neutral")]
    counts = {value: truth.count(value) for value in EMOTIONS}
    return {
        "happiness_neutral": _values(clear, generator),
        "macro_f1": rounded(macro_f1(said, truth, EMOTIONS)),
        "n": len(pairs),
        "n_by_value": counts,
        "unread": sum(value is None for value in said),
    }


def _values(pairs: Read, generator: torch.Generator) -> dict[str, Any]:
    """Balanced accuracy over the values that are there, and plain accuracy."""
    said, truth = _said_and_truth(pairs)
    hits = hits_by_value(said, truth)
    right = sum(s == t for s, t in zip(said, truth))
    return {
        "balanced_accuracy": rounded(mean_recall(said, truth)),
        "interval": _interval(list(hits.values()), generator),
        "accuracy": rounded(right / max(1, len(pairs))),
        "n": len(pairs),
        "recall": {value: rounded(float(part.mean())) for value, part in hits.items()},
        "unread": sum(value is None for value in said),
    }


def _ages(pairs: Read, generator: torch.Generator) -> dict[str, Any]:
    """Mean and median absolute error in years; an answer without an age errs by `MISSING_AGE`."""
    errors = torch.tensor(
        [MISSING_AGE if value is None else abs(float(value) - float(probe.truth)) for probe, value in pairs]
    )
    return {
        "mean_absolute_error": rounded(float(errors.mean())),
        "interval": _interval([errors], generator),
        "median_absolute_error": rounded(float(errors.median())),
        "n": len(pairs),
        "unread": sum(value is None for _, value in pairs),
    }
