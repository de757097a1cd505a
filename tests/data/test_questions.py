"""Questions: true answers, yes and no balanced, many wordings, and answers that can be read back."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from unif2ace_core.data import questions as module
from unif2ace_core.data.attributes import BINARY, BY_NAME, VISIBLE_20, derive
from unif2ace_core.data.questions import (
    QuestionAnswer,
    describe_question,
    description,
    label_rates,
    questions,
    read_age,
    read_value,
    read_yes_no,
    yes_no_wordings,
)
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.errors import UserError


def face(age: float | None = None, source: str = "mine", **labels: str) -> FaceRecord:
    return FaceRecord(source, "a.png", "train", derive(labels), age, None)


def crowd(count: int = 3000) -> list[FaceRecord]:
    """Faces with rare and common attributes, some of which come together."""
    rng = random.Random(1)
    records = []
    for _ in range(count):
        male = rng.random() < 0.4
        labels = {"Male": "yes" if male else "no"}
        for name, share in (("Smiling", 0.5), ("Eyeglasses", 0.07), ("Wearing_Hat", 0.03), ("Young", 0.8)):
            labels[name] = "yes" if rng.random() < share else "no"
        for name in ("Goatee", "Mustache", "Sideburns"):
            labels[name] = "yes" if male and rng.random() < 0.12 else "no"
        records.append(face(**labels))
    return records


def asked(records: list[FaceRecord], draws: int, seed: int = 0, count: int = 3) -> list[QuestionAnswer]:
    rng, rates = random.Random(seed), label_rates(records)
    return [qa for _ in range(draws) for qa in questions(rng.choice(records), rng, count, rates)]


def test_every_binary_attribute_has_at_least_five_wordings_for_everybody() -> None:
    for name in BINARY:
        for male in ("", "yes", "no"):
            texts = yes_no_wordings(name, male)
            assert len(set(texts)) == len(texts) >= 5, name
            assert all(text.endswith("?") and "{" not in text and text[0] == text[0].upper() for text in texts)
    assert "Is the person wearing glasses?" in yes_no_wordings("Eyeglasses")
    assert "Is she wearing glasses?" in yes_no_wordings("Eyeglasses", "no")
    assert "Glasses?" in yes_no_wordings("Eyeglasses")
    with pytest.raises(UserError):
        yes_no_wordings("Emotion")


def test_rates_are_shares_of_the_known_labels() -> None:
    records = [face(Male="yes"), face(Male="no"), face(Male="no"), face(source="b", Smiling="yes")]
    rates = label_rates(records)
    assert rates["Male"] == pytest.approx({"no": 2 / 3, "yes": 1 / 3})
    assert rates["Smiling"] == {"yes": 1.0}
    assert "Bald" not in rates and set(rates) <= set(BY_NAME)


def test_yes_and_no_are_balanced_per_attribute_whatever_the_rates() -> None:
    found: dict[str, Counter[str]] = {}
    for qa in asked(crowd(2000), 5000):
        if qa.answer.startswith(("Yes, ", "No, ")):
            found.setdefault(qa.attribute, Counter())[qa.value] += 1
    for name in ("Smiling", "Eyeglasses", "Wearing_Hat", "Goatee", "Mustache", "Sideburns", "Male"):
        counts = found[name]
        assert counts.total() > 80, name
        assert 0.36 < counts["yes"] / counts.total() < 0.64, (name, counts)


def test_one_sided_attributes_of_a_source_are_not_asked() -> None:
    records = crowd(500) + [face(source="b", Male="yes", Wearing_Earrings="yes", Smiling="no") for _ in range(200)]
    rates, rng = label_rates(records), random.Random(0)
    texts = [qa for _ in range(200) for qa in questions(records[-1], rng, 3, rates)]
    assert not any(qa.attribute == "Wearing_Earrings" for qa in texts)


def test_plain_rates_also_serve() -> None:
    rates = {"Smiling": {"yes": 0.5, "no": 0.5}}
    found = questions(face(Smiling="yes"), random.Random(0), 4, rates)
    assert {qa.attribute for qa in found} == {"Smiling"} and all(qa.value == "yes" for qa in found)


def test_answers_read_back_to_the_values_they_were_made_from() -> None:
    records = [
        face(
            34.0,
            Male="yes",
            Age_Group="young adult",
            Emotion="happiness",
            Hair_Color="black",
            Smiling="yes",
            No_Beard="no",
            Goatee="yes",
            Mouth_Slightly_Open="yes",
            Head_Pose="facing forward",
            Eyeglasses="yes",
        ),
        face(
            4.0,
            Male="no",
            Age_Group="child",
            Emotion="surprise",
            Hair_Color="red",
            Young="yes",
            Smiling="no",
            Mouth_Slightly_Open="no",
            Head_Pose="tilted up",
            Wearing_Hat="no",
            Skin_Tone="rosy",
        ),
        face(
            Male="yes",
            No_Beard="yes",
            Mustache="no",
            Young="no",
            Bald="yes",
            Eyes="narrowed",
            Wearing_Hat="yes",
        ),
        face(Emotion="neutral", Smiling="no", Heavy_Makeup="no"),
        face(),
    ]
    rates = {name: {"yes": 0.5, "no": 0.5} for name in BINARY}
    rng = random.Random(0)
    for record in records:
        for _ in range(300):
            for qa in questions(record, rng, 3, rates):
                if qa.attribute in BY_NAME:
                    assert read_value(qa.attribute, qa.answer) == qa.value == record.labels[qa.attribute], qa
                elif qa.attribute == "Age" and "than" not in qa.answer:
                    assert read_age(qa.answer) == record.age


def test_questions_of_one_call_are_about_different_things() -> None:
    record = face(20.0, Male="no", Smiling="yes", Blond_Hair="yes", Emotion="happiness", Eyeglasses="no")
    rates = {name: {"yes": 0.5, "no": 0.5} for name in BINARY}
    for seed in range(50):
        found = questions(record, random.Random(seed), 4, rates)
        assert len({qa.question for qa in found}) == len(found) == 4
    assert questions(face(), random.Random(0), 4, rates) == []


def test_no_age_is_called_older_or_younger_than_itself() -> None:
    for age in (3.0, 9.6, 10.0, 10.4, 45.0, 79.6, 80.0, 80.4, 99.0):
        record = face(age, Age_Group="senior")
        limited = [qa for qa in asked([record], 200) if "older than" in qa.answer or "younger than" in qa.answer]
        limits = [int(re.findall(r"\d+", qa.answer)[0]) for qa in limited]
        assert limits and round(age) not in limits
        assert all(("older" in qa.answer) == (age > limit) for qa, limit in zip(limited, limits))
        assert all(qa.answer.startswith("Yes") == ("older" in qa.answer) for qa in limited)


def test_reversed_questions_turn_yes_and_no() -> None:
    rates = {"No_Beard": {"yes": 0.5, "no": 0.5}}
    rng = random.Random(0)
    texts = {
        (qa.question, qa.answer) for _ in range(800) for qa in questions(face(Male="yes", No_Beard="no"), rng, 3, rates)
    }
    answers = dict(texts)
    assert answers["Does the person have a beard?"] == "Yes, he has a beard."
    assert answers["Is the person clean-shaven?"] == "No, he has a beard."


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes, she is.", True),
        ("yes", True),
        ("No, he is not wearing glasses.", False),
        ("nope", False),
        ("She is not smiling.", False),
        ("", None),
        ("😀", None),
        ("blue", None),
        ("  YES!", True),
    ],
)
def test_yes_no_reader_takes_any_text(answer: str, verdict: bool | None) -> None:
    assert read_yes_no(answer) is verdict


@pytest.mark.parametrize(
    ("answer", "age"),
    [
        ("About 34 years old.", 34.0),
        ("20-30", 25.0),
        ("between 40 and 50 years", 45.0),
        ("The person is a child.", 6.0),
        ("no idea", None),
        ("", None),
        ("1000", None),
        ("34.5", 34.5),
    ],
)
def test_age_reader_takes_any_text(answer: str, age: float | None) -> None:
    assert read_age(answer) == age


@pytest.mark.parametrize(
    ("attribute", "answer", "value"),
    [
        ("Emotion", "She looks happy.", "happiness"),
        ("Emotion", "No, he looks neutral.", "neutral"),
        ("Emotion", "He is not happy, he is angry.", "anger"),
        ("Emotion", "blue", None),
        ("Male", "This is a woman.", "no"),
        ("Male", "No, this is a man.", "yes"),
        ("Male", "Yes.", "yes"),
        ("Hair_Color", "The hair is grey.", "gray"),
        ("Hair_Color", "He is bald.", "bald"),
        ("Age_Group", "About 70 years old.", "senior"),
        ("No_Beard", "He has a goatee.", "no"),
        ("Bald", "No, he is not bald.", "no"),
        ("Mouth_Action", "She is smiling with the mouth open.", "open smile"),
    ],
)
def test_value_reader_takes_any_text(attribute: str, answer: str, value: str | None) -> None:
    assert read_value(attribute, answer) == value
    with pytest.raises(UserError):
        read_value("Attractive", answer)


def test_description_names_what_is_known_in_a_stable_order() -> None:
    record = face(
        24.0,
        Male="no",
        Age_Group="young adult",
        Blond_Hair="yes",
        Wavy_Hair="yes",
        Bangs="yes",
        Smiling="yes",
        Emotion="happiness",
        Eyeglasses="yes",
        Wearing_Hat="no",
    )
    texts = {description(record, random.Random(seed)) for seed in range(40)}
    assert 1 < len(texts) <= 6
    for text in texts:
        places = [text.index(word) for word in ("young woman", "wavy blond hair", "bangs", "happy", "glasses")]
        assert places == sorted(places) and 3 <= text.count(".") <= 5
    assert description(face(), random.Random(0)).endswith("a person.")
    assert "face" in describe_question(random.Random(0)) or describe_question(random.Random(0)).endswith(("?", "."))


def test_public_names_are_exported() -> None:
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.slow
def test_real_data_is_balanced_and_reads_back(data_dir: Path) -> None:
    records = read_records(data_dir, "train")[::4]
    found: dict[str, Counter[str]] = {}
    for qa in asked(records, 10000):
        if qa.attribute in BY_NAME:
            assert read_value(qa.attribute, qa.answer) == qa.value, qa
            if qa.answer.startswith(("Yes, ", "No, ")):
                found.setdefault(qa.attribute, Counter())[qa.value] += 1
    for name in VISIBLE_20:
        share = found[name]["yes"] / found[name].total()
        assert 0.33 < share < 0.67, (name, found[name])
