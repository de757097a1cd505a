"""Captions say only what is known, in every form, and short ones as often as long ones."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from unif2ace_core.data.attributes import derive
from unif2ace_core.data.captions import MAX_WORDS, STYLES, caption, remarkable
from unif2ace_core.data.phrases import PHRASES
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.errors import UserError

_ALL_FORMS = (*STYLES, "mixed")


def face(age: float | None = None, **labels: str) -> FaceRecord:
    return FaceRecord("mine", "a.png", "train", derive(labels), age, None)


def many(record: FaceRecord, style: str = "mixed", count: int = 300) -> list[str]:
    rng = random.Random(0)
    return [caption(record, rng, style) for _ in range(count)]


WOMAN = face(
    Male="no", Young="yes", Blond_Hair="yes", Wavy_Hair="yes", Smiling="yes", Rosy_Cheeks="yes",
    Wearing_Earrings="yes", Eyeglasses="no", Heavy_Makeup="yes", Wearing_Hat="no", Bangs="yes",
)  # fmt: skip
MAN = face(70.0, Male="yes", Age_Group="senior", Gray_Hair="yes", No_Beard="no", Eyeglasses="yes", Smiling="no")


def test_captions_are_a_function_of_the_generator() -> None:
    assert many(WOMAN) == many(WOMAN)
    assert len(set(many(WOMAN))) > 150


@pytest.mark.parametrize("style", _ALL_FORMS)
def test_every_record_has_a_caption_even_without_labels(style: str) -> None:
    for record in (face(), face(1.0, Age_Group="child"), WOMAN, MAN):
        assert all(text and text == text.strip() and "  " not in text for text in many(record, style, 50))


def test_prompts_of_the_users_form_occur() -> None:
    tags, short = set(many(WOMAN, "tags", 1500)), " | ".join(many(WOMAN, "short", 1500))
    assert any("rosy cheeks" in text and "hoop earrings" in text for text in tags)
    assert "a smiling young woman with" in short and "blond hair" in short
    old = " | ".join(many(MAN, "short", 1500))
    assert "old man with" in old and "grey hair" in old and "a grey beard" in old and "glasses" in old


def test_captions_never_say_what_is_not_known_or_not_true() -> None:
    woman, man = " ".join(many(WOMAN)).lower(), " ".join(many(MAN)).lower()
    for word in (" man", " he ", "beard", "clean-shaven", "black hair", "old", "bald", "goatee", "necktie"):
        assert word not in woman
    for word in ("woman", " she ", "young", "earrings", "makeup", "blond", "a smile", "clean-shaven"):
        assert word not in man
    assert "happy" not in woman  # emotion is not known


def test_absence_is_said_only_where_the_label_is_no() -> None:
    assert any("glasses" in text for text in many(WOMAN))
    assert all("glasses" not in text or "no " in text or "without" in text for text in many(WOMAN, "tags"))
    assert not any("glasses" in text for text in many(face(Male="no", Smiling="yes")))


def test_stubble_is_not_called_a_beard_and_not_clean_shaven() -> None:
    man = face(Male="yes", No_Beard="no", Goatee="no", Mustache="no", **{"5_o_Clock_Shadow": "yes"})
    texts = " ".join(many(man))
    assert "beard" not in texts and "clean-shaven" not in texts and "stubble" in texts


def test_sunglasses_are_named_where_known() -> None:
    texts = many(face(Male="yes", Eyeglasses="yes", Eyes="behind sunglasses"), "short")
    assert any("sunglasses" in text for text in texts)


def test_tags_of_one_and_of_many_attributes_both_occur() -> None:
    sizes = Counter(text.count(",") + 1 for text in many(WOMAN, "tags", 1000))
    assert sizes[1] > 50 and sum(sizes[n] for n in (4, 5, 6)) > 100


def test_rare_attributes_are_preferred_in_short_captions() -> None:
    texts = many(face(Male="yes", Bald="yes", Big_Nose="yes", High_Cheekbones="yes"), "short", 1000)
    said = Counter(word for text in texts for word in ("bald", "nose", "cheekbones") if word in text)
    assert said["bald"] > 1.5 * said["nose"] and said["bald"] > 1.5 * said["cheekbones"]


def test_most_short_captions_of_a_face_with_a_hat_name_the_hat() -> None:
    record, rng = face(**{**WOMAN.labels, "Wearing_Hat": "yes"}), random.Random(0)
    named = sum("hat" in caption(record, rng, "short").split() for _ in range(400))
    assert named > 200


def test_rare_looks_and_ages_are_remarkable_and_absences_are_not() -> None:
    plain = {"Male": "no", "Smiling": "yes", "Wearing_Hat": "no", "Eyeglasses": "no"}
    levels = [remarkable(plain | more) for more in ({}, {"Blond_Hair": "yes"}, {"Eyeglasses": "yes"}, {"Bald": "yes"})]
    assert levels == sorted(levels) and len(set(levels)) == 4
    assert remarkable({"Age_Group": "senior"}) > remarkable(plain) > remarkable({}) == 1.0


def test_dense_captions_stay_within_the_word_limit() -> None:
    labels = {name: next(iter(values)) for name, values in PHRASES.items() if "yes" in values}
    assert max(len(text.split()) for text in many(face(Male="no", **labels), "dense")) <= MAX_WORDS


def test_unknown_style_is_refused() -> None:
    with pytest.raises(UserError, match="no caption style 'haiku'"):
        caption(WOMAN, random.Random(0), "haiku")


def test_articles_agree_with_the_next_word(data_dir: Path) -> None:
    rng = random.Random(3)
    records = read_records(data_dir, "val")
    texts = [caption(rng.choice(records), rng).lower() for _ in range(2000)]
    for text in texts:
        words = text.replace(",", " ").replace(".", " ").split()
        for article, word in pairwise(words):
            vowel = word[0] in "aeiou" or word.startswith("8") or word in ("11", "18")
            assert article not in ("a", "an") or (article == "an") == vowel, text


def test_captions_are_fast_enough_for_training() -> None:
    rng = random.Random(0)
    start = time.perf_counter()
    for _ in range(500):
        caption(WOMAN, rng)
    assert (time.perf_counter() - start) / 500 < 0.005  # usually 0.03 ms; a wide margin for a busy machine
