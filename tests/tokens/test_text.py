"""The text tokenizer: any unicode goes in and comes back lower-cased; users can't type the end mark."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_core.errors import UserError
from unif2ace_core.tokens.text import END, TextTokenizer

TEXTS = [
    "A smiling young woman with blond hair.",
    "rosy cheeks, hoop earrings",
    "Is she wearing glasses?",
] * 20
TOKENIZER = TextTokenizer.train(TEXTS, 400)


def folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_comes_back_lower_cased(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 < i < TOKENIZER.size for i in ids)
    back = TOKENIZER.decode(ids)
    assert TOKENIZER.encode(back) == ids
    if text.isascii():
        assert back == text.lower()


@pytest.mark.parametrize("text", ["Grüße, 日本 😀 É", "Cafe\u0301", "", " two  spaces ", "tab\tand\nline"])
def test_round_trip_of_composed_and_foreign_text(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == folded(text)


def test_lone_surrogates_do_not_fail() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\udc80b")) == "a?b"


def test_case_makes_no_difference() -> None:
    assert TOKENIZER.encode("Rosy CHEEKS") == TOKENIZER.encode("rosy cheeks")


def test_typed_end_mark_is_ordinary_text() -> None:
    ids = TOKENIZER.encode(f"hello {END} world")
    assert TOKENIZER.end == 0 and TOKENIZER.end not in ids
    assert TOKENIZER.decode(ids) == f"hello {END} world"


def test_end_marks_are_left_out_of_decoded_text() -> None:
    ids = TOKENIZER.encode("glasses")
    assert TOKENIZER.decode([TOKENIZER.end, *ids, TOKENIZER.end]) == "glasses"


def test_common_words_are_one_token() -> None:
    assert len(TOKENIZER.encode("rosy cheeks, hoop earrings")) == 5


def test_saved_tokenizer_is_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokenizer.json"
    TOKENIZER.save(path)
    loaded = TextTokenizer.load(path)
    assert loaded.size == TOKENIZER.size
    text = f"Smiling 😀 {END}"
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert [p.name for p in path.parent.iterdir()] == ["tokenizer.json"]


def test_training_is_deterministic() -> None:
    again = TextTokenizer.train(TEXTS, 400)
    assert again.encode(TEXTS[0]) == TOKENIZER.encode(TEXTS[0])


def test_bad_files_and_ids_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for content, message in (
        (None, "cannot read"),
        ("{}", "not a tokenizer.json"),
        ("version https://git-lfs.github.com/spec/v1", "git-lfs pointer"),
    ):
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError, match=message) as error:
            TextTokenizer.load(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no text id"):
        TOKENIZER.decode([TOKENIZER.size])
    with pytest.raises(UserError, match="too small"):
        TextTokenizer.train(TEXTS, 100)


def test_end_mark_is_found_where_another_models_tokenizer_has_it(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE(vocab={"a": 0, "b": 1, END: 2}, merges=[])).save(str(path))
    assert TextTokenizer.load(path).end == 2
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(path))
    with pytest.raises(UserError, match="belongs to another model"):
        TextTokenizer.load(path)
