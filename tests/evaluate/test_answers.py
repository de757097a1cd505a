"""Suite `answers`: an oracle is perfect, a constant is at chance, silence is wrong, a seed asks the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from PIL import Image

from unif2ace_core.data.attributes import FURTHER_10, VISIBLE_20, VISIBLE_30, derive
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate import answers
from unif2ace_core.evaluate.answers import MISSING_AGE, Probe, ask_all, plan, plan_further, report, report_wide

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


def wide_people() -> list[FaceRecord]:
    """`people` of CelebA-HQ with labels of the further attributes too."""
    rng = random.Random(5)
    return [
        replace(record, labels={name: rng.choice(("no", "yes")) for name in FURTHER_10} | dict(record.labels))
        for record in people()
        if record.source == "celebahq"
    ]


def test_further_attributes_leave_the_probes_of_the_twenty_as_they_were() -> None:
    twenty = [replace(r, labels={k: v for k, v in r.labels.items() if k not in FURTHER_10}) for r in wide_people()]
    before, after = (plan(records, random.Random(1), 12) for records in (twenty, wide_people()))
    chosen = [[p for p in probes if p.attribute != "Hair_Color"] for probes in (before, after)]
    asked = [[(p.record.key, p.attribute, p.question, p.truth) for p in probes] for probes in chosen]
    assert asked[0] == asked[1]
    assert not {p.attribute for p in after} & set(FURTHER_10)


def test_the_wide_mean_is_over_thirty_and_of_a_perfect_answerer_one() -> None:
    probes = plan(wide_people(), random.Random(1), 12)
    further = plan_further(wide_people(), random.Random(2), 12)
    both = probes + further
    found = report_wide(both, [oracle(probe) for probe in both], torch.Generator().manual_seed(0))
    assert found["mean_balanced_accuracy"] == 1.0 and found["interval"] == [1.0, 1.0]
    assert set(found["by_attribute"]) == set(VISIBLE_30) and found["attributes"] == 30
    assert found["n"] == sum(probe.section == "yes_no" for probe in both)


def test_a_wide_report_of_the_twenty_alone_is_the_report_of_the_twenty() -> None:
    probes = plan(wide_people(), random.Random(1), 12)
    said = ["Yes." if number % 3 else oracle(probe) for number, probe in enumerate(probes)]
    wide = report_wide(probes, said, torch.Generator().manual_seed(0))
    del wide["least_wordings"]
    assert wide == measured(said, probes)["yes_no"]


def test_every_attribute_is_asked_in_at_least_five_wordings() -> None:
    probes = plan(wide_people(), random.Random(1)) + plan_further(wide_people(), random.Random(2))
    assert report_wide(probes, [""] * len(probes), torch.Generator())["least_wordings"] >= 5
    few = [probe for probe in plan_further(wide_people(), random.Random(2), 3) if probe.attribute == "Brown_Hair"]
    assert len(few) == 6 == len({probe.question for probe in few})


def test_answers_come_back_to_their_probes_whatever_the_chunk(probes: list[Probe]) -> None:
    photos = {probe.record.key: Image.new("RGB", (8, 8)) for probe in probes}
    missing = probes[3].record.key
    del photos[missing]

    def echo(pairs: Sequence[answers.Pair]) -> list[str]:
        return [question for _, question in pairs]

    said = ask_all(probes, photos, echo, chunk=7)
    expected = ["" if probe.record.key == missing else probe.question for probe in probes]
    assert said == expected == ask_all(probes, photos, echo, chunk=1000)
