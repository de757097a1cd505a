"""The factory's captions: true to the labels, exact about what they say, varied and long enough."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_core.data import plans, synonyms
from unif2ace_core.data.attributes import BY_NAME, SCHEMA, derive
from unif2ace_core.data.dense import STYLES, Caption, known, make_caption
from unif2ace_core.data.parse import parse
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.errors import UserError
from unif2ace_core.tokens.text import TextTokenizer


def face(age: float | None = None, **labels: str) -> FaceRecord:
    return FaceRecord("mine", "a.png", "train", derive(labels), age, None)


def many(record: FaceRecord, style: str, count: int = 60) -> list[Caption]:
    rng = random.Random(0)
    return [make_caption(record, style, rng) for _ in range(count)]


def texts(record: FaceRecord, style: str = "dense", count: int = 60) -> str:
    return " | ".join(caption.text for caption in many(record, style, count))


WOMAN = face(
    Male="no", Young="yes", Blond_Hair="yes", Black_Hair="no", Wavy_Hair="yes", Smiling="yes", Rosy_Cheeks="yes",
    Wearing_Earrings="yes", Eyeglasses="no", Heavy_Makeup="yes", Wearing_Hat="no", Bangs="yes", No_Beard="yes",
    Mouth_Slightly_Open="yes", Wearing_Necklace="no", Big_Lips="yes", Pointy_Nose="yes", Big_Nose="no", Mustache="no",
    Bags_Under_Eyes="no", Oval_Face="yes", Wearing_Lipstick="yes", Arched_Eyebrows="yes", Narrow_Eyes="no",
)  # fmt: skip
MAN = face(
    70.0, Male="yes", Young="no", Age_Group="senior", Gray_Hair="yes", No_Beard="yes", Mustache="no", Eyeglasses="yes",
    Smiling="no", Emotion="neutral", Head_Pose="facing forward", Wearing_Necktie="no", Bangs="no",
)  # fmt: skip

_VALUES = {attribute.name: st.sampled_from(attribute.values) for attribute in SCHEMA}
_LABELS = st.fixed_dictionaries({}, optional=_VALUES)
_AGES = st.one_of(st.none(), st.floats(0, 110))


@pytest.fixture(scope="module")
def records(data_dir: Path) -> list[FaceRecord]:
    return read_records(data_dir)


@settings(max_examples=300, deadline=None)
@given(labels=_LABELS, age=_AGES, seed=st.integers(0, 2**32))
def test_reading_a_caption_back_gives_its_attributes_for_any_labels(
    labels: dict[str, str], age: float | None, seed: int
) -> None:
    record = FaceRecord("mine", "a.png", "train", labels, age, None)
    for style in STYLES:
        caption = make_caption(record, style, random.Random(seed))
        assert parse(caption.text) == caption.attributes, caption
        assert caption.attributes.items() <= known(labels).items(), caption


def test_reading_captions_of_real_faces_back_gives_their_attributes(records: list[FaceRecord]) -> None:
    rng = random.Random(5)
    for record in rng.sample(records, 200):
        for number, style in enumerate((*STYLES, "dense", "medium")):
            caption = make_caption(record, style, random.Random(number))
            assert parse(caption.text) == caption.attributes, caption
            assert caption.attributes.items() <= record.labels.items(), caption


def test_dense_captions_of_well_known_faces_say_many_attributes(records: list[FaceRecord], embedded: Path) -> None:
    tokenizer = TextTokenizer.load(embedded / "tokenizer.json")
    rng = random.Random(1)
    rich = [record for record in records if len(record.labels) >= 15]
    captions = [(r.source, make_caption(r, "dense", rng)) for r in rng.sample(rich, 400)]
    said = [len(caption.attributes) for _, caption in captions]
    human = [caption for source, caption in captions if source == "celebahq"]
    tokens = [len(tokenizer.encode(caption.text)) for caption in human]
    assert sum(said) / len(said) >= 17.7
    assert sum(len(caption.attributes) for caption in human) / len(human) >= 20
    assert 110 <= sum(tokens) / len(tokens) <= 140


def test_a_caption_is_a_function_of_the_generator() -> None:
    for style in STYLES:
        assert many(WOMAN, style) == many(WOMAN, style)
        assert [caption.style for caption in many(WOMAN, style, 2)] == [style] * 2


def test_there_are_several_hundred_different_plans_and_all_their_slots_are_known() -> None:
    every = (*plans.OPENINGS, *plans.PLANS)
    assert len(every) == len(set(every)) >= 300
    words = {"s", "p", "o", "who", *synonyms.VERBS, *plans.SLOTS}
    topics = {topic for topic, _ in plans.SLOTS.values()}
    for plan in every:
        for name, topic in re.findall(r"\{([a-z_]+)(?::([a-z_]+))?\}", plan):
            assert topic in topics and name in synonyms.VERBS.values() if topic else name in words, plan


def test_dense_captions_of_one_face_hardly_repeat_and_use_many_openings() -> None:
    captions = [caption.text for caption in many(WOMAN, "dense", 200)]
    sentences = Counter(part for text in captions for part in text.split(". "))
    assert len(set(captions)) == 200
    assert len(sentences) > 1000
    assert len({" ".join(text.split()[:3]) for text in captions}) > 15


@pytest.mark.parametrize("style", STYLES)
def test_a_face_of_which_nothing_is_known_has_a_caption_without_attributes(style: str) -> None:
    for caption in many(face(), style, 20):
        assert caption.text and caption.attributes == {}


def test_unknown_gender_is_spoken_of_without_gender() -> None:
    record = face(**{name: value for name, value in WOMAN.labels.items() if name != "Male"})
    words = set(re.findall(r"[a-z]+", texts(record).lower()))
    assert not words & {"he", "she", "his", "her", "him", "man", "woman", "lady", "gentleman"}
    assert {"they", "their", "person"} <= words


def test_verbs_agree_with_he_and_they() -> None:
    record = face(**{name: value for name, value in WOMAN.labels.items() if name != "Male"})
    said = (texts(record) + texts(MAN) + texts(WOMAN)).lower()
    assert not re.search(r"\bthey (is|has|wears|looks|keeps|shows|does)\b", said)
    assert not re.search(r"\b(he|she|person|man|woman) (are|have|wear|look|keep|show|do)\b", said)


def test_verbs_agree_with_what_they_speak_of() -> None:
    said = (texts(WOMAN, "dense", 300) + texts(MAN, "dense", 300)).lower()
    assert not re.search(r"there are (a |an |softly|wavy|blonde? hair|gr[ae]y hair)|there is (earrings|bangs)", said)
    assert not re.search(r"hair (with \w+ )?(frame|are) |(?<!pair of )earrings (completes|rounds|adds) ", said)


def test_women_and_children_are_not_called_clean_shaven() -> None:
    boy = face(7.0, Male="yes", Age_Group="child", No_Beard="yes", Smiling="yes", Mustache="no")
    for said in (texts(WOMAN), texts(boy)):
        assert not re.search("shaven|beard|mustache|moustache", said)
    assert re.search("no beard|shaven|beard", texts(MAN))


def test_stubble_is_neither_a_beard_nor_clean_shaven() -> None:
    man = face(Male="yes", No_Beard="no", Goatee="no", Mustache="no", **{"5_o_Clock_Shadow": "yes"})
    assert not re.search("beard|shaven", texts(man))
    assert re.search("stubble|five o'clock shadow", texts(man))


def test_a_minor_is_never_called_a_man_or_woman() -> None:
    for group in ("child", "teenager"):
        for male in ("yes", "no"):
            record = face(8.0 if group == "child" else 15.0, Male=male, Age_Group=group, Smiling="yes")
            said = "".join(texts(record, style, 40) for style in ("short", "medium", "dense"))
            assert not re.search(r"\b(man|woman|lady|gentleman)\b", said)


def test_two_hair_colours_are_both_said_or_neither() -> None:
    record = face(Male="no", Black_Hair="yes", Brown_Hair="yes")
    for caption in many(record, "dense"):
        assert "Hair_Color" not in caption.attributes
        assert caption.attributes.get("Black_Hair") == caption.attributes.get("Brown_Hair")


def test_one_phrase_states_a_value_under_both_of_its_names() -> None:
    caption = make_caption(face(Black_Hair="yes", Smiling="yes", Mouth_Slightly_Open="no"), "dense", random.Random(0))
    assert caption.attributes["Hair_Color"] == "black" and caption.attributes["Mouth_Action"] == "closed smile"
    assert list(caption.attributes) == [name for name in BY_NAME if name in caption.attributes]


def test_medium_captions_say_four_to_seven_attributes_in_at_most_three_sentences() -> None:
    for caption in many(WOMAN, "medium", 100):
        assert 4 <= len(caption.attributes) <= 7, caption
        assert 2 <= caption.text.count(".") <= 3, caption


def test_short_captions_and_tags_are_what_people_type() -> None:
    short, tags = texts(WOMAN, "short", 800), texts(WOMAN, "tags", 800)
    assert "a smiling" not in tags and "young woman with" in short and "blond hair" in short
    assert "rosy cheeks, " in tags and "blond hair" in tags and "." not in tags


def test_sentences_are_well_formed() -> None:
    for record in (WOMAN, MAN, face(8.0, Age_Group="child", Hair_Color="red", Eyes="open")):
        for caption in (*many(record, "dense"), *many(record, "medium")):
            assert not re.search(r"  | [.,;]|[{}]|\.\.|,,|with .* with with", caption.text), caption
            assert all(part[0].isupper() for part in caption.text.split(". ")) and caption.text.endswith("."), caption


def test_articles_agree_with_the_next_word(records: list[FaceRecord]) -> None:
    rng = random.Random(3)
    for _ in range(300):
        words = re.findall(r"[a-z0-9'-]+", make_caption(rng.choice(records), rng.choice(STYLES), rng).text.lower())
        for article, word in pairwise(words):
            vowel = word[0] in "aeiou" or word.startswith("8") or word[:3] in ("11-", "18-")
            assert article not in ("a", "an") or (article == "an") == vowel, words


def test_what_is_missing_is_told_in_good_english() -> None:
    woman = face(
        Male="no", Bangs="no", Double_Chin="no", Bags_Under_Eyes="no", Wearing_Necklace="no", Eyeglasses="no",
        Head_Pose="facing forward",
    )  # fmt: skip
    said = texts(woman, "dense", 200) + texts(woman, "medium", 200)
    assert not re.search(
        r"(bangs|chin),? (or|and) bags|bags (under|beneath) \w+ eyes(,| or) (a |no )?(bangs|double)", said
    )
    assert not re.search(r"there are no \w+(?: \w+)?(, .*?)? or (a )?(double chin|necklace)\b(?!s)", said.lower())
    assert not re.search(r"(shows|finds) no (bangs|bags|double)|camera finds", said.lower())


def test_no_more_is_claimed_than_the_labels_say() -> None:
    man = face(
        Male="yes", Age_Group="senior", Bald="no", Pale_Skin="no", Rosy_Cheeks="no", Narrow_Eyes="no", Eyeglasses="no"
    )
    said = texts(man, "dense", 200) + texts(man, "short", 100) + texts(man, "tags", 100)
    assert not re.search(r"full head|even (complexion|skin)|eyes (are )?open", said)
    assert "is not bald" in said and "not pale" in said
    shaded = face(Male="yes", Eyeglasses="yes", Eyes="behind sunglasses")
    assert not re.search("spectacles|eyeglasses", "".join(texts(shaded, style) for style in STYLES))


def test_unknown_style_is_refused() -> None:
    with pytest.raises(UserError, match="no caption style 'haiku'"):
        make_caption(WOMAN, "haiku", random.Random(0))
