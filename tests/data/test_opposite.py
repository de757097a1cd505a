"""The contrary of a prompt says the contrary of what the prompt says, of the same person.

pytest tests/data/test_opposite.py
"""

from __future__ import annotations

import pytest

from unif2ace_core.data.opposite import opposite
from unif2ace_core.data.parse import parse


@pytest.mark.parametrize(
    ("prompt", "contrary"),
    [
        ("a woman without bangs", {"Male": "no", "Bangs": "yes"}),
        ("a man wearing a hat", {"Male": "yes", "Wearing_Hat": "no"}),
        ("a clean-shaven man", {"Male": "yes", "No_Beard": "no"}),
        ("glasses", {"Eyeglasses": "no"}),
        ("an old man", {"Male": "yes", "Young": "yes"}),
        ("a little girl", {"Male": "no", "Young": "no"}),
        ("a happy woman", {"Male": "no", "Smiling": "no"}),
    ],
)
def test_claims_become_denials_and_denials_claims(prompt: str, contrary: dict[str, str]) -> None:
    assert contrary.items() <= parse(opposite(prompt)).items()


def test_the_contrary_of_several_things_is_that_of_each() -> None:
    said = parse(opposite("a smiling woman with black hair, no glasses"))
    assert (said["Smiling"], said["Black_Hair"], said["Eyeglasses"]) == ("no", "no", "yes")


@pytest.mark.parametrize(
    "prompt", ["a man", "somebody from the moon", "", "a woman with straight hair", "a man, makeup"]
)
def test_a_prompt_that_says_nothing_of_the_face_has_none(prompt: str) -> None:
    assert opposite(prompt) == ""


def test_a_prompt_has_one_contrary() -> None:
    assert len({opposite("an old man with a beard") for _ in range(5)}) == 1
