"""Suite `prompts`: prompts say what is wanted, an obedient generator gets 1 and a deaf one a half.

pytest tests/evaluate/test_adherence.py
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from unif2ace_core.data.attributes import BINARY, derive
from unif2ace_core.data.parse import parse
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.adherence import ATTRIBUTES, SMALL, Asked, plan, report, summary


def people(count: int = 60) -> list[FaceRecord]:
    """Made-up persons; random labels contradict each other where they name two colours of hair or a bald head."""
    rng, found = random.Random(0), []
    for number in range(count):
        labels = {name: rng.choice(("no", "yes")) for name in BINARY}
        kept = rng.choice(("Black_Hair", "Blond_Hair", "Gray_Hair", "Bald"))
        labels |= dict.fromkeys(("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"), "no")
        found.append(FaceRecord("celebahq", f"{number}.webp", "val", derive(labels | {kept: "yes"}), None, None))
    return found


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    return plan(people(), random.Random(0), 640)


def test_every_value_of_every_attribute_is_asked_for_alone(asked: list[Asked]) -> None:
    single = [next(iter(each.wanted.items())) for each in asked if each.kind == "single"]
    counts = {(name, value): single.count((name, value)) for name in ATTRIBUTES + SMALL for value in ("no", "yes")}
    assert set(single) == set(counts) and len(set(counts.values())) == 1


def test_prompts_for_five_say_all_five_and_name_rare_values_too(asked: list[Asked]) -> None:
    five = [each for each in asked if each.kind == "five"]
    assert len(five) > 200
    for each in five:
        assert len(each.wanted) == 5 and each.wanted.items() <= parse(each.text).items()
    assert {pair for each in five for pair in each.wanted.items()} >= {(name, "yes") for name in ATTRIBUTES}


def test_no_prompt_says_the_contrary_of_what_is_wanted(asked: list[Asked]) -> None:
    for each in asked:
        said = parse(each.text)
        assert all(said.get(name, value) == value for name, value in each.wanted.items()), each


def test_a_plan_is_the_same_for_the_same_seed_and_has_no_fives_without_labels() -> None:
    assert plan(people(), random.Random(3), 400) == plan(people(), random.Random(3), 400)
    bare = [FaceRecord("mine", "0.png", "val", {}, None, None)]
    assert {each.kind for each in plan(bare, random.Random(0), 320)} == {"single"}


@pytest.mark.parametrize("count", [1, 4, 33, 200])
def test_small_plans_keep_to_the_limit_and_are_of_all_kinds(count: int) -> None:
    found = plan(people(), random.Random(0), count)
    assert len(found) <= count and (count < 33 or {each.kind for each in found} == {"single", "five"})


def test_attributes_of_one_value_only_have_no_balanced_accuracy() -> None:
    found = summary([({"Male": "yes"}, {"Male": "yes"})], ATTRIBUTES, torch.Generator().manual_seed(0))
    assert found["attributes"] == 0 and found["mean_balanced_accuracy"] is None and found["interval"] == [None, None]
    assert "balanced_accuracy" not in found["by_attribute"]["Male"]


def test_an_obedient_generator_gets_one_and_a_deaf_one_a_half(asked: list[Asked]) -> None:
    numbered = torch.zeros(len(asked), 2, 2, 3, dtype=torch.uint8)
    for number in range(len(asked)):
        numbered[number, 0, 0, 0], numbered[number, 0, 0, 1] = number % 256, number // 256

    def told(images: Tensor, obey: bool) -> dict[str, Tensor]:
        corner = ((images[:, :2, 0, 0] + 1) * 127.5).round().long()
        rows = (corner[:, 0] + 256 * corner[:, 1]).tolist()
        table = [dict.fromkeys(ATTRIBUTES + SMALL, "no") | (dict(asked[row].wanted) if obey else {}) for row in rows]
        return {
            name: torch.tensor([[1.0, 0.0] if seen[name] == "no" else [0.0, 1.0] for seen in table])
            for name in ATTRIBUTES + SMALL
        }

    good, deaf = (
        report(asked, numbered, lambda images, obey=obey: told(images, obey), torch.Generator().manual_seed(0))
        for obey in (True, False)
    )
    for part in ("single", "small", "five"):
        assert good[part]["mean_balanced_accuracy"] == 1.0 and deaf[part]["mean_balanced_accuracy"] == 0.5
        assert good[part]["interval"] == [1.0, 1.0] and good[part]["n"] > 0
    assert good["five"]["all_five"] == 1.0 and deaf["five"]["all_five"] < 0.2
    assert good["single"]["attributes"] == 12 and good["small"]["attributes"] == 4 and "photos" not in good


def test_an_interval_is_that_of_pictures_not_of_their_attributes() -> None:
    """Pictures that are right or wrong in all attributes at once tell no more than one attribute does."""
    names = ATTRIBUTES[:6]
    pairs = []
    for number in range(200):
        wanted = dict.fromkeys(names, ("no", "yes")[number % 2])
        other = dict.fromkeys(names, ("yes", "no")[number % 2])
        pairs.append((wanted, wanted if number % 4 < 2 or number > 150 else other))
    six, one = (summary(pairs, part, torch.Generator().manual_seed(0)) for part in (names, names[:1]))
    assert six["mean_balanced_accuracy"] == one["mean_balanced_accuracy"] and six["interval"] == one["interval"]
