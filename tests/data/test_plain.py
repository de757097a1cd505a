"""Plain prompts say a few true things, deny things too, and nothing else.

pytest tests/data/test_plain.py
"""

from __future__ import annotations

import random

from unif2ace_core.data.attributes import BINARY, VISIBLE_30, derive
from unif2ace_core.data.parse import parse
from unif2ace_core.data.plain import chosen_names, nameable, plain_prompt, worded
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


def prompts(seed: int) -> list[tuple[FaceRecord, tuple[str, str], str]]:
    """A prompt about a value of each person."""
    rng = random.Random(seed)
    about = [(record, rng.choice(nameable(record.labels))) for record in people(200)]
    return [(record, value, plain_prompt(record.labels, value, rng)) for record, value in about]


def test_prompts_are_true_and_name_what_they_are_about() -> None:
    sizes, hits = set(), 0
    for record, (name, value), text in prompts(1):
        named = {name: value for name, value in parse(text).items() if name in BINARY}
        assert all(record.labels[name] == value for name, value in named.items()), named
        hits += named.get(name) == value
        sizes.add(len(named) - ("Male" in named))
    assert sizes >= {1, 2, 5}
    assert hits > 180  # four tries do not always find the words


def test_what_is_absent_is_said_alone() -> None:
    said = [parse(text) for _, (_, value), text in prompts(2) if value == "no"]
    assert any(set(each) <= {"Male", "Bangs"} and each.get("Bangs") == "no" for each in said)
    assert any(each.get("Wearing_Hat") == "no" for each in said)


def test_prompts_are_about_what_is_looked_for_on_a_man_or_a_woman() -> None:
    everything = dict.fromkeys(VISIBLE_30, "no")
    of_men, of_women, of_anyone = (
        {name for name, _ in nameable(everything | sex)} for sex in ({"Male": "yes"}, {"Male": "no"}, {"Male": ""})
    )
    assert "No_Beard" in of_men - of_women
    assert "Wearing_Lipstick" in of_women - of_men
    assert {"Eyeglasses", "Wearing_Hat", "Bangs"} <= of_men & of_women & of_anyone
    assert nameable({}) == []


def test_a_wording_tells_whether_it_says_all() -> None:
    assert worded({"Male": "no", "Bangs": "no"}, random.Random(0))[1]
    assert not worded({"Male": "no", "No_Beard": "yes"}, random.Random(0))[1]  # which goes without saying


def test_what_is_there_is_chosen_oftener() -> None:
    labels, rng = {"Bangs": "yes", "Smiling": "no"}, random.Random(0)
    first = [chosen_names(labels, list(labels), rng, 1, 3.0)[0] for _ in range(400)]
    assert 0.65 < first.count("Bangs") / 400 < 0.85  # 3 to 1


def test_where_not_all_can_be_said_the_caption_says_the_most_that_it_can() -> None:
    labels = {
        "Male": "yes",
        "Bald": "yes",
        "Black_Hair": "yes",
        "Wearing_Hat": "yes",
        "Smiling": "no",
    }  # not of one man
    for seed in range(20):
        text, complete = worded(labels, random.Random(seed), tries=40)
        assert not complete
        assert len(parse(text).items() & labels.items()) >= 3, text
