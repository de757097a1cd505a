"""What is said of training photos: of a set, its own captions and questions; else what the labels allow.

pytest tests/train/test_texts.py
"""

from __future__ import annotations

import random
from pathlib import Path

import factory_toys as toys
import pytest

from unif2ace_core.data.questions import yes_no_wordings
from unif2ace_core.data.sets import SetRecords
from unif2ace_core.errors import UserError
from unif2ace_core.train.texts import DrawnTexts, Pair, WrittenTexts, by_dialogue, corpus, parse_factors, texts_of

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def asked(aligned_faces: Path, tmp_path: Path) -> SetRecords:
    return SetRecords(toys.asked(toys.captioned(aligned_faces, tmp_path / "captioned"), tmp_path / "asked"), "train")


def test_prompts_and_questions_are_those_of_the_set(asked: SetRecords) -> None:
    texts = texts_of(asked)
    for row in range(len(asked)):
        written = asked.texts(row)
        assert sorted(texts.prompts(row, random.Random(0))) == sorted(each["text"] for each in written["captions"])
        pairs = texts.pairs(row, random.Random(0), 99)
        assert sorted(pair[:2] for pair in pairs) == sorted(
            (each["question"], each["answer"]) for each in written["questions"]
        )
        assert texts.pairs(row, random.Random(0), 3) == pairs[:3]


def test_which_caption_comes_first_is_drawn_short_ones_mostly(asked: SetRecords) -> None:
    texts, rng = texts_of(asked), random.Random(0)
    dense = asked.texts(0)["captions"][0]
    assert dense["style"] == "dense"
    first = [texts.prompts(0, rng)[0] for _ in range(400)]
    assert len(set(first)) == 4 and 0.04 < first.count(dense["text"]) / 400 < 0.18


def test_turns_of_a_dialogue_stay_together_in_order() -> None:
    turns = [{"dialogue": number, "question": f"q{n}", "answer": f"a{n}"} for n, number in enumerate((0, 1, 1, 2))]
    assert list(by_dialogue(turns)) == [[Pair("q0", "a0")], [Pair("q1", "a1"), Pair("q2", "a2")], [Pair("q3", "a3")]]


def test_what_a_set_lacks_is_drawn_from_its_labels(aligned_faces: Path, tmp_path: Path) -> None:
    plain = texts_of(SetRecords(aligned_faces, "train"))
    drawn = DrawnTexts(list(SetRecords(aligned_faces, "train")))
    assert isinstance(plain, WrittenTexts)
    assert plain.prompts(1, random.Random(3)) == drawn.prompts(1, random.Random(3))
    assert plain.pairs(1, random.Random(3), 4) == drawn.pairs(1, random.Random(3), 4)
    captioned = texts_of(SetRecords(toys.captioned(aligned_faces, tmp_path / "captioned"), "train"))
    assert captioned.pairs(1, random.Random(3), 4) == drawn.pairs(1, random.Random(3), 4)
    assert len(captioned.prompts(1, random.Random(3))) == 4


def test_some_written_texts_are_drawn_anew_instead(asked: SetRecords) -> None:
    texts, drawn = texts_of(asked, drawn_share=0.5), DrawnTexts(asked)
    written = {Pair(each["question"], each["answer"]) for each in asked.texts(0)["questions"]}
    rows = [set(texts.pairs(0, random.Random(seed), 4)) for seed in range(60)]
    assert 15 < sum(row <= written for row in rows) < 45
    always = texts_of(asked, drawn_share=1.0)
    rng = random.Random(1)
    rng.random()  # the draw that decides
    assert always.pairs(0, random.Random(1), 4) == drawn.pairs(0, rng, 4)
    captions = {each["text"] for each in asked.texts(0)["captions"]}
    first = [texts.prompts(0, random.Random(seed))[0] in captions for seed in range(60)]
    assert 15 < sum(first) < 45


def test_attributes_can_be_asked_about_more_often(asked: SetRecords) -> None:
    wordings = set(yes_no_wordings("Bangs"))

    def share(factor: float) -> float:
        texts = texts_of(list(asked), ask_more={"Bangs": factor})
        found = [texts.pairs(row, random.Random(seed), 1) for seed in range(150) for row in range(len(asked))]
        return sum(pair[0].rstrip("?") + "?" in wordings for pairs in found for pair in pairs) / len(found)

    assert share(8.0) > 2.5 * share(1.0) > 0
    with pytest.raises(UserError, match="drawn_share"):
        texts_of(asked, ask_more={"Bangs": 2.0})
    with pytest.raises(UserError, match="taught acts on drawn texts"):
        texts_of(asked, asked=list(asked))


@pytest.mark.parametrize("word", ["Bangs", "Bangs:", "Bangs:x", "Bangs:0", "Bangs:nan", "Bangs:inf", "Nose:2", ":2"])
def test_factors_of_attributes_are_read_or_refused(word: str) -> None:
    assert parse_factors(("Bangs:3", "Young:0.5")) == {"Bangs": 3.0, "Young": 0.5}
    with pytest.raises(UserError, match="ask_more=" + word):
        parse_factors((word,))


def test_a_tokenizer_learns_from_every_text_of_the_set(asked: SetRecords) -> None:
    texts = set(corpus(asked, 0))
    assert {each["text"] for row in range(len(asked)) for each in asked.texts(row)["captions"]} <= texts
