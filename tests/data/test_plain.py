"""Plain prompts say one or two true things, deny things too, and nothing else.

pytest tests/data/test_plain.py
"""

from __future__ import annotations

import random

from unif2ace_core.data.attributes import BINARY, derive
from unif2ace_core.data.parse import parse
from unif2ace_core.data.plain import chosen_names, plain_prompt, worded
from unif2ace_core.data.sources import FaceRecord


def people(count: int) -> list[FaceRecord]:
    """Persons with random labels, of whom at most one colour of hair is known."""
    rng, found = random.Random(0), []
    for number in range(count):
        labels = {name: rng.choice(("no", "yes")) for name in BINARY}
        labels |= dict.fromkeys(("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"), "no")
        color = rng.choice(("Black_Hair", "Blond_Hair", "Gray_Hair", "Bald"))
        labels |= {color: "yes", "Wavy_Hair": "no"}
        found.append(FaceRecord("mine", f"{number}.png", "train", derive(labels), None, None))
    return found


def test_prompts_are_true_and_name_at_most_two_things_beside_the_gender() -> None:
    rng, sizes = random.Random(1), set()
    for record in people(150):
        said = parse(plain_prompt(record, rng))
        named = {name: value for name, value in said.items() if name in BINARY}
        assert all(record.labels[name] == value for name, value in named.items()), named
        sizes.add(len(named) - ("Male" in named))
    assert sizes >= {0, 1, 2}


def test_what_is_absent_is_said_alone() -> None:
    rng = random.Random(2)
    said = [parse(plain_prompt(record, rng)) for record in people(200)]
    assert any(each == {"Male": "no", "Bangs": "no"} for each in said)
    assert any(each.get("Wearing_Hat") == "no" for each in said)


def test_a_record_without_labels_has_a_prompt_too() -> None:
    assert "person" in plain_prompt(FaceRecord("mine", "0.png", "train", {}, None, None), random.Random(0))


def test_a_wording_tells_whether_it_says_all() -> None:
    assert worded({"Male": "no", "Bangs": "no"}, random.Random(0))[1]
    assert not worded({"Male": "no", "No_Beard": "yes"}, random.Random(0))[1]  # which goes without saying


def test_what_is_there_is_chosen_oftener() -> None:
    labels, rng = {"Bangs": "yes", "Smiling": "no"}, random.Random(0)
    first = [chosen_names(labels, list(labels), rng, 1, 3.0)[0] for _ in range(400)]
    assert 0.65 < first.count("Bangs") / 400 < 0.85  # 3 to 1
