"""The checker: lets through what the labels say however it is put, and catches what they do not say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_core.data.attributes import BY_NAME, SCHEMA, derive
from unif2ace_core.data.balance import Rates
from unif2ace_core.data.claims import claims
from unif2ace_core.data.question_set import Question, pairs, question_rates, question_set
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.data.verify import settled, verify

LABELS = st.fixed_dictionaries({}, optional={a.name: st.sampled_from(a.values) for a in SCHEMA})
AGES = st.one_of(st.none(), st.floats(0.1, 110.0))
EVEN = {a.name: {value: 1.0 / len(a.values) for value in a.values} for a in SCHEMA}


def face(age: float | None = None, source: str = "mine", **labels: str) -> FaceRecord:
    return FaceRecord(source, "a.png", "train", labels, age, None)


SHE = face(
    34.0, Male="no", Age_Group="young adult", Young="yes", Smiling="yes", Mouth_Slightly_Open="yes",
    Emotion="happiness", Eyeglasses="no", Wearing_Hat="yes", Wearing_Earrings="yes", Wearing_Necklace="no",
    Wearing_Necktie="no", Hair_Color="blond", Blond_Hair="yes", Black_Hair="no", Wavy_Hair="yes", Straight_Hair="no",
    No_Beard="yes", Arched_Eyebrows="yes", Bushy_Eyebrows="no", Head_Pose="facing forward", Mouth_Action="open smile",
)  # fmt: skip


def ask(kind: str, question: str, answer: str, *names: str) -> Question:
    """A question with the values that SHE has."""
    values = ["34" if name == "Age" else SHE.labels.get(name, "unknown") for name in names]
    return Question(kind, "appearance", question, answer, names, ",".join(values) or "unknown")


# --- Mutations ---------------------------------------------------------------------------------------------


def flipped(record: FaceRecord, question: Question, name: str, rng: random.Random) -> FaceRecord:
    """The record with another value of the attribute: an age that turns comparisons, a known label where none was."""
    if name == "Age":
        numbers = [float(text.strip("?:")) for text in question.question.split() if text.strip("?:").isdigit()]
        middle = sum(numbers) / len(numbers) if numbers else (record.age or 0.0) + 5.0
        return replace(record, age=2.0 * middle - (record.age or 0.0))
    others = [value for value in BY_NAME[name].values if value != record.labels.get(name)]
    return replace(record, labels={**record.labels, name: rng.choice(others)})


def mutations(record: FaceRecord, rng: random.Random, rates: Rates) -> Iterator[tuple[Question, FaceRecord, bool]]:
    """Each question with each label it rests on flipped, declared and all, and whether the texts gave it away."""
    for pair in pairs(question_set(record, rng, rates)):
        for name in pair.attributes:
            other = flipped(record, pair, name, rng)
            known = {**other.labels, "Age": str(round(other.age or 0.0))}
            value = pair.value if pair.kind == "unanswerable" else ",".join(known[n] for n in pair.attributes)
            yield pair, other, verify(replace(pair, value=value), other) is not None


@settings(max_examples=120, deadline=None)
@given(LABELS, AGES, st.integers(0, 2**32))
def test_every_made_question_passes_for_any_labels(labels: dict[str, str], age: float | None, seed: int) -> None:
    record = face(age, **derive(labels))
    for pair in pairs(question_set(record, random.Random(seed), EVEN, 12)):
        assert verify(pair, record) is None, (pair, verify(pair, record))


def test_flipped_labels_are_caught_by_the_texts_alone() -> None:
    rng = random.Random(0)
    caught: list[bool] = []
    for _ in range(120):
        labels = {a.name: rng.choice(a.values) for a in SCHEMA if rng.random() < 0.8}
        record = face(rng.uniform(1.0, 90.0), **derive(labels))
        caught += [seen for _, _, seen in mutations(record, rng, EVEN)]
    assert len(caught) > 1000 and sum(caught) / len(caught) > 0.97


@pytest.mark.slow
def test_questions_on_real_faces_pass_and_their_flipped_labels_are_caught(data_dir: Path) -> None:
    records = read_records(data_dir, "val")
    rates, rng = question_rates(records), random.Random(0)
    for source in dict.fromkeys(record.source for record in records):
        sample = rng.sample([record for record in records if record.source == source], 50)
        for record in sample:
            faults = [verify(pair, record) for pair in pairs(question_set(record, rng, rates))]
            assert faults == [None] * len(faults)
        caught = [seen for record in sample for _, _, seen in mutations(record, rng, rates)]
        assert len(caught) > 100 and sum(caught) / len(caught) > 0.95, source


# --- By hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        ask("yes_no", "Would the woman be wearing spectacles?", "No, the woman is not wearing glasses.", "Eyeglasses"),
        ask("yes_no", "Is she bearded?", "No, she has no beard.", "No_Beard"),
        ask("yes_no", "Is she angry?", "No, she looks happy.", "Emotion"),
        ask("yes_no", "Does she look happy?", "Yes, this person looks happy.", "Emotion"),
        ask("open", "And her hair?", "Her hair is blond.", "Hair_Color"),
        ask("open", "How old is she?", "About 34 years old.", "Age"),
        ask("open", "Describe the eyebrows.", "The eyebrows are arched.", "Arched_Eyebrows", "Bushy_Eyebrows"),
        ask("choice", "Blond or black hair?", "Her hair is blond.", "Hair_Color"),
        ask("choice", "Is her mouth closed or open?", "Her mouth is open.", "Mouth_Slightly_Open"),
        ask("counting", "How many of these does she have: a beard, a hat, a smile?", "Two: a hat and a smile.",
            "No_Beard", "Wearing_Hat", "Smiling"),
        ask("comparison", "Is she closer to 30 or to 50?", "She is closer to 30.", "Age"),
        ask("comparison", "Is she younger than 40?", "Yes, she looks younger than 40.", "Age"),
        ask("comparison", "Which is true: she smiles or she wears glasses?", "She is smiling.",
            "Smiling", "Eyeglasses"),
        ask("reasoning", "Why does she look happy?", "She looks happy: she is smiling with her mouth open.",
            "Emotion", "Smiling", "Mouth_Slightly_Open"),
        ask("unanswerable", "Is her hair dyed?", "That cannot be told from what is known about this photo."),
    ],
)  # fmt: skip
def test_true_answers_pass_in_words_that_no_template_has(question: Question) -> None:
    assert verify(question, SHE) is None


CANNOT = "That cannot be told from what is known about this photo."


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        (ask("yes_no", "Is she wearing glasses?", "Yes, she is wearing glasses.", "Eyeglasses"), "labels do not say"),
        (ask("yes_no", "Is she wearing glasses?", "Yes, she is not wearing glasses.", "Eyeglasses"), "should be no"),
        (ask("yes_no", "Is she clean-shaven?", "No, she has no beard.", "No_Beard"), "should be yes"),
        (ask("yes_no", "Is she wearing a hat?", "No, she is not wearing glasses.", "Eyeglasses"), "asks for none"),
        (ask("yes_no", "Is he wearing a hat?", "Yes, he is wearing a hat.", "Wearing_Hat"), "speaks of 'he'"),
        (ask("yes_no", "Is she wearing a hat?", "Yes, she is wearing a red hat.", "Wearing_Hat"), "not asked"),
        (ask("yes_no", "Is she wearing a hat?", "Yes, she is wearing a silk hat.", "Wearing_Hat"), "cannot be read"),
        (ask("yes_no", "Is she bald?", "No, she is not bald.", "Bald"), "unknown"),
        (ask("open", "What colour is the hair?", "The hair is black.", "Hair_Color"), "labels do not say"),
        (ask("open", "What colour is the nose?", "The hair is blond.", "Hair_Color"), "does not ask"),
        (ask("open", "How old is she?", "About 43 years old.", "Age"), "43, not 34"),
        (ask("open", "Which accessories?", "She is wearing a hat.", "Wearing_Hat", "Wearing_Earrings"), "leaves out"),
        (ask("open", "Which accessories?", "No accessories.", "Eyeglasses"), "none without"),
        (ask("choice", "Is the hair black or brown?", "The hair is blond.", "Hair_Color"), "0 are right"),
        (ask("counting", "How many of these: a hat, glasses?", "Two: a hat and glasses.", "Wearing_Hat", "Eyeglasses"),
         "counts two where there are 1"),
        (ask("counting", "How many of these: a hat, glasses?", "One: glasses.", "Wearing_Hat", "Eyeglasses"), "names"),
        (ask("comparison", "Is she closer to 30 or to 50?", "She is closer to 50.", "Age"), "not the closer"),
        (ask("comparison", "Is she younger than 40?", "No, she looks younger than 40.", "Age"), "yes and no"),
        (ask("comparison", "Is it that she smiles or wears a hat?", "She is smiling.", "Smiling", "Wearing_Hat"),
         "2 of the two"),
        (ask("reasoning", "Why does she look happy?", "She looks happy.", "Emotion"), "no reason"),
        (ask("reasoning", "Why is she sad?", "She looks happy: she is smiling.", "Emotion", "Smiling"), "granted"),
        (ask("reasoning", "Why?", "She looks happy: she is not smiling.", "Emotion", "Smiling"), "labels do not say"),
        (ask("unanswerable", "What colour is the hair?", CANNOT, "Hair_Color"), "should say"),
        (replace(ask("unanswerable", "What colour is the hair?", CANNOT, "Hair_Color"), value="unknown"), "is known"),
        (ask("unanswerable", "Is she wearing a hat?", CANNOT), "labels may tell"),
        (ask("unanswerable", "What is her name?", "She is called Ann."), "cannot be told"),
        (ask("yes_no", "Is she wearing a hat?", CANNOT, "Wearing_Hat"), "declines"),
        (ask("yes_no", "Is she pretty?", "Yes, she is pretty.", "Attractive"), "no attribute"),
        (ask("song", "Is she wearing a hat?", "Yes, she is wearing a hat.", "Wearing_Hat"), "no kind"),
        (replace(ask("yes_no", "Hat?", "Yes, she is wearing a hat.", "Wearing_Hat"), value="no"), "declares"),
    ],
)  # fmt: skip
def test_wrong_answers_are_caught(question: Question, fault: str) -> None:
    assert fault in (verify(question, SHE) or "passed")


def test_what_is_implied_is_no_secret() -> None:
    assert settled("Black_Hair", face(Hair_Color="red"))
    assert settled("Hair_Color", face(Black_Hair="yes", Gray_Hair="yes"))
    assert settled("Emotion", face(Smiling="yes")) and not settled("Emotion", face(Smiling="no"))
    assert settled("Mustache", face(Male="no")) and not settled("Mustache", face(Male="yes"))
    assert settled("Age", face(Young="yes")) and settled("Age_Group", face(30.0)) and not settled("Age", face())
    assert settled("Wavy_Hair", face(Straight_Hair="yes")) and not settled("Wavy_Hair", face(Straight_Hair="no"))


def test_claims_take_any_text() -> None:
    assert claims("") is None and claims("Perhaps.") is None and claims("She is wearing a hat and a cape.") is None
    said = claims("No, she is not smiling, but she is wearing glasses.")
    assert said is not None
    assert [(claim.facts[0], claim.stated) for claim in said] == [
        ((("Smiling", "yes"),), False),
        ((("Eyeglasses", "yes"),), True),
    ]


def test_what_is_hidden_or_out_of_place_may_not_be_asked() -> None:
    gray = Question("yes_no", "appearance", "Gray hair?", "Yes, the hair is gray.", ("Gray_Hair",), "yes")
    assert verify(gray, face(Gray_Hair="yes")) is None
    assert "out of place" in (verify(gray, face(Gray_Hair="yes", Bald="yes")) or "")
    man = Question("yes_no", "appearance", "Is this a man?", "Yes, this is a man.", ("Male",), "yes")
    assert "teenager" in (verify(man, face(Male="yes", Age_Group="teenager")) or "")
