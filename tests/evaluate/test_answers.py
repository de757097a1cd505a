"""Suite `answers`: an oracle is perfect, a constant is at chance, silence is wrong, a seed asks the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from unif2ace_core.data.attributes import VISIBLE_20, derive
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate import answers
from unif2ace_core.evaluate.answers import MISSING_AGE, Probe, ask_all, plan, report

EMOTIONS = ("neutral", "happiness", "surprise", "anger")


def people(count: int = 40) -> list[FaceRecord]:
    """Records of all sources with every label known."""
    rng, records = random.Random(0), []
    for number in range(count):
        labels = {name: rng.choice(("no", "yes")) for name in VISIBLE_20}
        records.append(FaceRecord("celebahq", f"{number}.webp", "val", derive(labels), None, None))
        emotion = {"Emotion": EMOTIONS[number % 4], "Male": rng.choice(("no", "yes"))}
        records.append(FaceRecord("lfw", f"{number}.webp", "val", emotion, None, None))
        for source in ("utkface", "ffhq"):
            male = {"Male": rng.choice(("no", "yes"))}
            records.append(FaceRecord(source, f"{number}.webp", "val", male, float(rng.randrange(1, 90)), None))
    return records


def oracle(probe: Probe) -> str:
    """The true answer in words."""
    if probe.section == "yes_no":
        return "Yes, it is so." if probe.truth == "yes" else "No, it is not so."
    if probe.attribute == "Age":
        return f"About {probe.truth} years old."
    if probe.attribute == "Male":
        return "This is a man." if probe.truth == "yes" else "This is a woman."
    words = {"neutral": "neutral", "happiness": "happy", "surprise": "surprised", "anger": "angry"}
    return words.get(probe.truth, f"the hair is {probe.truth}")


def measured(said: Sequence[str], probes: Sequence[Probe]) -> dict:
    return report(probes, said, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def probes() -> list[Probe]:
    return plan(people(), random.Random(1), 12)


def test_an_oracle_is_perfect_in_every_section(probes: list[Probe]) -> None:
    found = measured([oracle(probe) for probe in probes], probes)
    assert found["n"] == len(probes) and found["unread"] == 0
    assert found["yes_no"]["mean_balanced_accuracy"] == 1.0 and found["yes_no"]["attributes"] == 20
    assert found["emotion"]["happiness_neutral"]["balanced_accuracy"] == found["emotion"]["macro_f1"] == 1.0
    assert {name: part["accuracy"] for name, part in found["gender"].items()} == dict.fromkeys(
        ("celebahq", "utkface", "lfw"), 1.0
    )
    assert {part["mean_absolute_error"] for part in found["age"].values()} == {0.0}
    assert found["hair_color"]["accuracy"] == 1.0


@pytest.mark.parametrize("answer", ["Yes.", "No."])
def test_a_constant_answer_is_at_chance(probes: list[Probe], answer: str) -> None:
    found = measured([answer] * len(probes), probes)
    assert found["yes_no"]["mean_balanced_accuracy"] == 0.5
    low, high = found["yes_no"]["interval"]
    assert low <= 0.5 <= high


def test_an_answer_that_cannot_be_read_is_wrong_and_counted(probes: list[Probe]) -> None:
    found = measured([""] * len(probes), probes)
    assert found["unread"] == len(probes)
    assert found["yes_no"]["mean_balanced_accuracy"] == 0.0
    assert found["emotion"]["macro_f1"] == 0.0
    assert found["age"]["utkface"]["mean_absolute_error"] == MISSING_AGE


def test_the_limit_holds_for_each_value(probes: list[Probe]) -> None:
    counts = Counter((probe.section, probe.attribute, probe.truth) for probe in probes if probe.attribute != "Age")
    assert max(counts.values()) <= 12
    assert {probe.attribute for probe in probes if probe.section == "yes_no"} == set(VISIBLE_20)


def test_the_same_seed_asks_the_same_and_another_does_not(probes: list[Probe]) -> None:
    assert plan(people(), random.Random(1), 12) == probes
    assert plan(people(), random.Random(2), 12) != probes


def test_wordings_vary(probes: list[Probe]) -> None:
    asked = {probe.question for probe in probes if probe.attribute == "Eyeglasses"}
    assert len(asked) >= 5


def test_answers_come_back_to_their_probes_whatever_the_chunk(probes: list[Probe]) -> None:
    photos = {probe.record.key: Image.new("RGB", (8, 8)) for probe in probes}
    missing = probes[3].record.key
    del photos[missing]

    def echo(pairs: Sequence[answers.Pair]) -> list[str]:
        return [question for _, question in pairs]

    said = ask_all(probes, photos, echo, chunk=7)
    expected = ["" if probe.record.key == missing else probe.question for probe in probes]
    assert said == expected == ask_all(probes, photos, echo, chunk=1000)
