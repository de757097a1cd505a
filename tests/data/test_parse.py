"""Reading free text: phrases, modifiers, denials and how far they reach."""

from __future__ import annotations

import pytest

from unif2ace_core.data.parse import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He wears a hat.", {"Male": "yes", "Wearing_Hat": "yes"}),
        ("wavy, shoulder-length blond hair", {"Wavy_Hair": "yes", "Blond_Hair": "yes", "Hair_Color": "blond"}),
        ("The hair is black and straight", {"Black_Hair": "yes", "Straight_Hair": "yes", "Hair_Color": "black"}),
        ("a gray-haired person", {"Gray_Hair": "yes", "Hair_Color": "gray"}),
        ("black and brown hair", {"Black_Hair": "yes", "Brown_Hair": "yes"}),
        ("ginger hair", {"Hair_Color": "red"}),
        ("a large, pointed nose", {"Big_Nose": "yes", "Pointy_Nose": "yes"}),
        ("The nose is neither big nor pointed.", {"Big_Nose": "no", "Pointy_Nose": "no"}),
        ("bags under the eyes", {"Bags_Under_Eyes": "yes"}),
        ("thick arched brows", {"Bushy_Eyebrows": "yes", "Arched_Eyebrows": "yes"}),
        ("a goatee beard", {"Goatee": "yes", "No_Beard": "no"}),
        ("a 45-year-old", {"Age_Group": "middle-aged"}),
        ("18 months old", {"Age_Group": "child"}),
        ("aged about 70", {"Age_Group": "senior"}),
        ("a girl aged 15", {"Male": "no", "Age_Group": "teenager"}),
        ("a boy", {"Male": "yes", "Age_Group": "child"}),
        ("no longer young", {"Young": "no"}),
        ("a closed-mouth smile", {"Smiling": "yes", "Mouth_Slightly_Open": "no", "Mouth_Action": "closed smile"}),
        ("sunglasses", {"Eyeglasses": "yes", "Eyes": "behind sunglasses"}),
        ("The photo is sharp.", {"Blurry": "no"}),
        ("slightly out of focus", {"Blurry": "yes"}),
        ("blond ties, black tie", {"Wearing_Necktie": "yes"}),
        ("nothing to report", {}),
        ("", {}),
    ],
)
def test_a_phrase_states_its_attributes_and_no_others(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no glasses", {"Eyeglasses": "no"}),
        ("He isn't wearing glasses.", {"Male": "yes", "Eyeglasses": "no"}),
        ("no glasses, hat, or necklace", {"Eyeglasses": "no", "Wearing_Hat": "no", "Wearing_Necklace": "no"}),
        ("without a hat or tie but with glasses", {"Wearing_Hat": "no", "Wearing_Necktie": "no", "Eyeglasses": "yes"}),
        ("no glasses, brown hair", {"Eyeglasses": "no", "Brown_Hair": "yes", "Hair_Color": "brown"}),
        ("no hat and a beard", {"Wearing_Hat": "no", "No_Beard": "no"}),
        ("neither a beard nor a mustache", {"No_Beard": "yes", "Mustache": "no"}),
        ("The face is free of stubble.", {"5_o_Clock_Shadow": "no"}),
        ("not smiling, mouth closed", {"Smiling": "no", "Mouth_Slightly_Open": "no", "Mouth_Action": "closed"}),
        ("Without a hat, a tie, or glasses, there is a smile", {
            "Wearing_Hat": "no", "Wearing_Necktie": "no", "Eyeglasses": "no", "Smiling": "yes",
        }),
        ("A hat is not visible.", {"Wearing_Hat": "no"}),
        ("not bald", {"Bald": "no"}),
        ("not clean-shaven", {"No_Beard": "no"}),
        ("hair that is not black, brown, or gray", {"Black_Hair": "no", "Brown_Hair": "no", "Gray_Hair": "no"}),
        ("not happy", {}),
        ("no sunglasses", {}),
    ],
)  # fmt: skip
def test_denials_turn_values_and_reach_to_the_end_of_their_list(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


def test_modifiers_belong_to_their_own_noun() -> None:
    assert parse("mouth slightly open, narrow eyes") == {"Mouth_Slightly_Open": "yes", "Narrow_Eyes": "yes"}
    assert parse("The nose is big, full lips and brown hair") == {
        "Big_Nose": "yes", "Big_Lips": "yes", "Brown_Hair": "yes", "Hair_Color": "brown",
    }  # fmt: skip
    assert parse("full lips and a big, pointy nose") == {"Big_Lips": "yes", "Big_Nose": "yes", "Pointy_Nose": "yes"}
    assert parse("Typical of the face are plump cheeks.") == {"Chubby": "yes"}
    assert parse("brown eyes, a black hat and red lipstick") == {"Wearing_Hat": "yes", "Wearing_Lipstick": "yes"}


def test_the_longest_phrase_wins() -> None:
    assert parse("a bald head") == parse("bald")
    assert parse("a young adult") == {"Age_Group": "young adult"}
    assert parse("light makeup") == {}


def test_a_contradiction_states_nothing_of_the_attribute() -> None:
    assert parse("She has a hat. She has no hat.") == {"Male": "no"}
    assert parse("a man, her eyes open") == {"Eyes": "open"}


def test_spellings_case_and_quotes_do_not_matter() -> None:
    assert parse("GREY hair, Moustache, five o’clock shadow, clean shaven") == parse(
        "gray hair, a mustache, five o'clock shadow, clean-shaven"
    )


def test_a_free_rewrite_of_a_paragraph_is_read() -> None:
    text = (
        "Her wavy brown hair frames a young woman's oval face. She's looking straight at the camera, grinning with "
        "her lips parted; though she wears neither glasses nor a necklace, there are earrings, and her lipstick is "
        "visible. You won't see any bags under her eyes, and her nose isn't big."
    )
    assert parse(text) == {
        "Bags_Under_Eyes": "no", "Big_Nose": "no", "Brown_Hair": "yes", "Eyeglasses": "no", "Male": "no",
        "Mouth_Slightly_Open": "yes", "Oval_Face": "yes", "Smiling": "yes", "Wavy_Hair": "yes",
        "Wearing_Earrings": "yes", "Wearing_Lipstick": "yes", "Wearing_Necklace": "no", "Young": "yes",
        "Hair_Color": "brown", "Head_Pose": "facing forward", "Mouth_Action": "open smile",
    }  # fmt: skip


def test_any_text_can_be_read() -> None:
    for text in (
        "no",
        "not, or",
        "hair hair hair",
        "neither nor",
        "123 years",
        "aged",
        "¿?",
        "\n\t",
        "is, and",
        "a" * 5000,
    ):
        assert isinstance(parse(text), dict)


def test_attributes_come_in_the_order_of_the_schema() -> None:
    assert list(parse("young, glasses, black hair")) == ["Black_Hair", "Eyeglasses", "Young", "Hair_Color"]
