"""The question set: enough pairs for every face, yes and no balanced, many wordings, honest declines, dialogues."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_core.data import question_kinds as kinds
from unif2ace_core.data.attributes import BINARY, BY_NAME, SCHEMA, derive
from unif2ace_core.data.balance import LabelRates
from unif2ace_core.data.question_face import Face
from unif2ace_core.data.question_makers import yes_no_questions
from unif2ace_core.data.question_set import KINDS, Dialogue, Question, pairs, question_rates, question_set
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.data.verify import verify

LABELS = st.fixed_dictionaries({}, optional={a.name: st.sampled_from(a.values) for a in SCHEMA})
AGES = st.one_of(st.none(), st.floats(0.1, 110.0))
EVEN = {a.name: {value: 1.0 / len(a.values) for value in a.values} for a in SCHEMA}


def face(age: float | None = None, source: str = "mine", **labels: str) -> FaceRecord:
    return FaceRecord(source, "a.png", "train", derive(labels), age, None)


def crowd(count: int = 1500, source: str = "mine") -> list[FaceRecord]:
    """Adults of whom much is known, with rare and common attributes; some labels are missing."""
    rng = random.Random(1)
    shares = {
        "Smiling": 0.5,
        "Mouth_Slightly_Open": 0.4,
        "Eyeglasses": 0.07,
        "Wearing_Hat": 0.02,
        "Young": 0.8,
        "Bangs": 0.2,
    }
    shares |= {"Mouth_Slightly_Open": 0.4, "Wavy_Hair": 0.4, "Black_Hair": 0.3, "Blond_Hair": 0.2}
    records = []
    for _ in range(count):
        male = rng.random() < 0.4
        labels = {"Male": "yes" if male else "no", "Emotion": rng.choice(("neutral", "happiness"))}
        labels |= {name: "yes" if rng.random() < share else "no" for name, share in shares.items()}
        labels |= {name: "yes" if male and rng.random() < 0.12 else "no" for name in ("Goatee", "Mustache")}
        kept = {name: value for name, value in labels.items() if rng.random() < 0.9}
        records.append(face(float(rng.randint(18, 80)), source, **kept))
    return records


def asked(records: list[FaceRecord], seed: int = 0, rates: LabelRates | None = None) -> list[Question]:
    rng, rates = random.Random(seed), rates or question_rates(records)
    return [pair for record in records for pair in pairs(question_set(record, rng, rates))]


@settings(max_examples=60, deadline=None)
@given(LABELS, AGES, st.integers(0, 2**32), st.integers(0, 20))
def test_every_face_gets_enough_different_questions(
    labels: dict[str, str], age: float | None, seed: int, count: int
) -> None:
    record = face(age, **labels)
    found = pairs(question_set(record, random.Random(seed), EVEN, count))
    assert len(found) >= count
    assert all(pair.kind in KINDS and pair.family in ("appearance", "emotion", "action") for pair in found)
    assert all(name in BY_NAME or name == "Age" for pair in found for name in pair.attributes)
    assert all(not pair.question[0].islower() and pair.question[-1] in "?." for pair in found)  # 5 o'clock shadow?
    assert all(pair.answer[0].isupper() and pair.answer[-1] == "." for pair in found)
    assert not any("{" in pair.question + pair.answer for pair in found)
    assert not any(re.search(r"\b(call|identify|makes?|to|of|with|caused) (he|she)\b", p.question) for p in found)


def test_same_seed_same_questions_whatever_the_order_of_the_labels() -> None:
    records = crowd(40)
    rates = question_rates(records)
    for record in records:
        turned = FaceRecord("mine", "b.png", "val", dict(reversed(list(record.labels.items()))), record.age, None)
        first, second, third = (question_set(r, random.Random(7), rates) for r in (record, record, turned))
        assert first == second == third
    assert question_set(records[0], random.Random(8), rates) != question_set(records[0], random.Random(7), rates)


def test_yes_and_no_are_equally_frequent_per_attribute_and_source() -> None:
    records = crowd() + crowd(800, "other")
    rates, rng = question_rates(records), random.Random(0)
    found: dict[str, Counter[str]] = {}
    for record in records * 3:
        for pair in yes_no_questions(Face(record, rng, rates)):
            if pair.kind == "yes_no":
                found.setdefault(pair.attributes[0], Counter())[pair.answer.split(",")[0]] += 1
    assert {"Smiling", "Eyeglasses", "Wearing_Hat", "Goatee", "Bangs", "Male", "Emotion"} <= set(found)
    for name, counts in found.items():
        spread = 4.0 * 0.5 / counts.total() ** 0.5  # four standard deviations of a fair coin
        assert abs(counts["Yes"] / counts.total() - 0.5) < spread, (name, counts)


def test_reaching_a_count_adds_and_drops_no_yes_no_question() -> None:
    records = crowd(60)
    rates = question_rates(records)
    for record in records:
        alone = yes_no_questions(Face(record, random.Random(5), rates))
        for count in (1, 8, 16):
            made = pairs(question_set(record, random.Random(5), rates, count))
            answers = sorted(pair.answer for pair in made if pair.kind == "yes_no")
            assert answers == sorted(pair.answer for pair in alone if pair.kind == "yes_no")


def test_all_kinds_and_dialogues_occur() -> None:
    records = crowd(300)
    rng, rates = random.Random(0), question_rates(records)
    items = [item for record in records for item in question_set(record, rng, rates)]
    shares = Counter(pair.kind for pair in pairs(items))
    assert set(shares) == set(KINDS)
    assert all(share > 0.02 * shares.total() for share in shares.values()), shares
    dialogues = [item for item in items if isinstance(item, Dialogue)]
    assert 0.3 < len(dialogues) / len(records) < 0.6
    assert all(len(dialogue.turns) >= 2 for dialogue in dialogues)


def test_only_later_turns_refer_to_earlier_ones() -> None:
    records = crowd(400)
    rng, rates = random.Random(0), question_rates(records)
    items = [item for record in records for item in question_set(record, rng, rates)]
    refers = re.compile(r"^(And|What about) |\b(is|call) it (wavy|straight|black|brown|blond|gray)\b", re.I)
    alone = [item for item in items if isinstance(item, Question)]
    alone += [item.turns[0] for item in items if isinstance(item, Dialogue)]
    later = [turn.question for item in items if isinstance(item, Dialogue) for turn in item.turns[1:]]
    assert not [pair for pair in alone if refers.search(pair.question) or pair.question in kinds.WHY_FOLLOW]
    assert not [text for text in later if not refers.search(text) and text not in kinds.WHY_FOLLOW]
    forms = (r"(And|.*hat about) (his|her) [a-z ]+\?", r"(And|.*hat about) (a )?(hat|glasses|bangs|goatee|mustache)\?")
    assert all(any(re.fullmatch(form, text) for text in later) for form in (*forms, r".*\bit wavy\?", r"Why\?|How .*"))


def test_what_is_hardly_known_is_filled_with_honest_declines() -> None:
    found = pairs(question_set(face(), random.Random(0), EVEN))
    assert len(found) == 8 and all(pair.kind == "unanswerable" and pair.value == "unknown" for pair in found)
    known = face(34.0, Male="no", Smiling="yes", Mouth_Slightly_Open="yes", Emotion="happiness", Eyeglasses="no")
    for seed in range(30):
        found = pairs(question_set(known, random.Random(seed), EVEN))
        assert sum(pair.kind == "unanswerable" for pair in found) <= 2


def test_what_a_whole_source_lacks_is_not_declined() -> None:
    records = crowd(200) + [face(source="bare", Male="yes", Smiling="yes", Eyeglasses="no") for _ in range(100)]
    records += [face(source="bare", Male="yes", Smiling="no", Eyeglasses="yes") for _ in range(100)]
    declined = [p for p in asked(records) if p.kind == "unanswerable"]
    bare = [p for p in asked(records[200:], rates=question_rates(records)) if p.kind == "unanswerable"]
    assert any(pair.attributes for pair in declined)
    assert not any(pair.attributes for pair in bare)


def test_nobody_is_named_and_no_wording_judges_looks_or_origin() -> None:
    texts = [t for outside in kinds.OUTSIDE for t in outside.templates]
    made = asked(crowd(500))
    texts += [pair.question for pair in made]
    judging = re.compile(r"attractive|beautiful|pretty|handsome|ugly|ethnic|race|nationality|religion|origin", re.I)
    assert not [text for text in texts if judging.search(text)]
    identity = next(outside for outside in kinds.OUTSIDE if outside.identity)
    assert "Who is this?" in identity.templates
    named = [p for p in made if re.search(r"^Who is (this|he|she)\?|name\?|famous\?|identify", p.question)]
    assert named and all(pair.answer in kinds.IDENTITY_DECLINED for pair in named)


def test_there_are_at_least_five_wordings_of_everything() -> None:
    tables = {
        **{name: asked.templates for name, asked in kinds.OPEN.items()},
        **{name: group.templates for name, group in kinds.GROUPS.items()},
        **{outside.templates[0]: outside.templates for outside in kinds.OUTSIDE},
        **{f"choice {name}": texts for name, texts in (kinds.CHOICE | kinds.BINARY_CHOICE).items()},
        **{f"yes/no {name}": kinds.strict_templates(name, False) for name in BINARY},
        **{f"yes/no {name}": texts for name, texts in kinds.VALUED_YES_NO.items()},
        **{name: getattr(kinds, name) for name in ("ACCESSORIES", "COUNT", "CLOSER", "OLDER", "OLDER_YES_NO", "WHICH")},
        **{name: getattr(kinds, name) for name in ("BOTH", "EMOTION_WHY", "MOOD", "SPEECH", "LAUGHTER", "SIGHT")},
        **{name: getattr(kinds, name) for name in ("TEXTURE_CHOICE", "BEARD", "WORN", "DECLINED", "WHY_FOLLOW")},
    }
    assert not {name: texts for name, texts in tables.items() if len(set(texts)) < 5}


def test_children_are_not_called_men_or_women() -> None:
    rng = random.Random(0)
    for male in ("yes", "no"):
        record = face(7.0, Male=male, Age_Group="child", Smiling="yes", Mouth_Slightly_Open="no", Eyeglasses="no")
        for _ in range(60):
            for pair in pairs(question_set(record, rng, EVEN)):
                assert not re.search(r"\b(man|woman)\b", pair.question + pair.answer), pair


def made(count: int = 80, age: float | None = None, **labels: str) -> list[Question]:
    """The questions on one face from many draws."""
    record = face(age, **labels)
    return [pair for seed in range(count) for pair in pairs(question_set(record, random.Random(seed), EVEN, 16))]


def test_hair_that_is_not_there_or_hidden_is_not_asked_about() -> None:
    hair = {"Wavy_Hair": "no", "Straight_Hair": "no", "Gray_Hair": "yes", "Bangs": "no", "Receding_Hairline": "yes"}
    bald = made(Male="yes", Bald="yes", Smiling="yes", **hair)
    assert {name for p in bald for name in p.attributes} & {*hair, "Hair_Color", "Bald"} == {"Bald"}
    hatted = made(Male="yes", Wearing_Hat="yes", Bald="no", **hair)
    asked_of = {name for p in hatted for name in p.attributes}
    assert not asked_of & {"Bald", "Bangs", "Receding_Hairline"} and "Gray_Hair" in asked_of


def test_yes_and_no_stay_balanced_where_some_faces_are_not_asked() -> None:
    rng = random.Random(4)
    records = []
    for _ in range(1500):
        child, bald = rng.random() < 0.5, rng.random() < 0.3
        labels = {"Male": "yes", "Age_Group": "child" if child else "senior", "Bald": "yes" if bald else "no"}
        labels["Gray_Hair"] = "yes" if bald or rng.random() < 0.3 else "no"
        labels["No_Beard"] = "yes" if child or rng.random() < 0.3 else "no"
        records.append(face(**labels))
    rates, found = question_rates(records), Counter[tuple[str, bool]]()
    for record in records * 3:
        for pair in yes_no_questions(Face(record, rng, rates)):
            found[pair.attributes[0], pair.value == "yes"] += pair.kind == "yes_no"
    for name in ("Bald", "Gray_Hair", "No_Beard"):
        yes, no = found[name, True], found[name, False]
        assert yes + no > 100 and abs(yes - no) < 4.0 * (yes + no) ** 0.5, name


def test_teenagers_are_boys_and_girls() -> None:
    found = made(age=14.0, Male="yes", Age_Group="teenager", Smiling="yes", Young="yes")
    texts = " ".join(p.question + " " + p.answer for p in found)
    assert not re.search(r"\b(man|woman)\b", texts, re.I) and "this is a boy" in texts
    assert any(p.attributes == ("Male",) and p.kind == "choice" for p in found)


def test_not_smiling_is_no_reason_for_anger_or_sadness() -> None:
    for emotion in ("anger", "sadness", "disgust", "contempt"):
        found = made(40, Male="yes", Emotion=emotion, Smiling="no", Mouth_Slightly_Open="no")
        assert not [p for p in found if p.kind == "reasoning" and "Emotion" in p.attributes]


def test_sunglasses_are_never_called_spectacles() -> None:
    found = made(Male="yes", Eyeglasses="yes", Eyes="behind sunglasses")
    assert any("Eyeglasses" in p.attributes for p in found)
    assert not [p for p in found if re.search("spectacles|eyeglasses", p.question + p.answer, re.I)]


def test_beards_and_makeup_are_not_asked_of_children_nor_shaving_of_women() -> None:
    beards = {"No_Beard": "yes", "Mustache": "no", "Goatee": "no", "Sideburns": "no", "5_o_Clock_Shadow": "no"}
    child = made(Male="no", Age_Group="child", Heavy_Makeup="no", Wearing_Lipstick="no", **beards)
    assert not {name for p in child for name in p.attributes} & {*beards, "Heavy_Makeup", "Wearing_Lipstick"}
    woman = made(Male="no", Age_Group="senior", **beards)
    assert not [p for p in woman if re.search("shaven|bearded", p.question, re.I)]


def test_a_neutral_person_is_expressionless() -> None:
    found = made(120, Male="yes", Emotion="neutral", Smiling="no", Mouth_Slightly_Open="no")
    asked_of = [p for p in found if "Emotion" in p.attributes]
    assert any("expressionless" in p.question for p in asked_of)
    assert not [
        p for p in asked_of if re.search(r"(he|the man|person|looks|feels|seem) neutral", p.question + p.answer)
    ]
    assert not [p for p in asked_of if "expression expressionless" in p.question]


@pytest.mark.slow
def test_real_faces_get_enough_true_and_balanced_questions(data_dir: Path) -> None:
    records = read_records(data_dir, "val")[::2]
    rng, rates = random.Random(0), question_rates(records)
    found: dict[str, Counter[str]] = {}
    covered: Counter[str] = Counter()
    for record in records:
        made = pairs(question_set(record, rng, rates))
        assert len(made) >= 8
        for pair in made:
            assert verify(pair, record) is None, (pair, verify(pair, record))
            covered.update(pair.attributes)
            if pair.kind == "yes_no":
                found.setdefault(pair.attributes[0], Counter())[pair.answer.split(",")[0]] += 1
    assert {attribute.name for attribute in SCHEMA} <= set(covered)
    for name, counts in found.items():
        assert abs(counts["Yes"] / counts.total() - 0.5) < 2.5 / counts.total() ** 0.5, (name, counts)
