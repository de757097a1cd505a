"""The schema: 46 categories, no judgements, derived values that follow from the labels."""

from __future__ import annotations

import pytest

from unif2ace_core.data.attributes import BINARY, BY_NAME, SCHEMA, VISIBLE_20, VISIBLE_30, age_group, derive


def test_schema_has_46_distinct_categories_of_three_families() -> None:
    assert len(SCHEMA) == len(BY_NAME) == 46
    assert {attribute.family for attribute in SCHEMA} == {"appearance", "emotion", "action"}
    assert all(len(set(attribute.values)) == len(attribute.values) >= 2 for attribute in SCHEMA)


def test_schema_has_celeba_names_without_attractive() -> None:
    assert len(BINARY) == 39
    assert "Attractive" not in BY_NAME
    assert all(BY_NAME[name].binary for name in BINARY)


def test_visible_20_are_distinct_visible_binary_attributes() -> None:
    assert len(set(VISIBLE_20)) == 20
    assert all(BY_NAME[name].binary and BY_NAME[name].visible for name in VISIBLE_20)


def test_visible_30_are_the_twenty_and_ten_more_binary_attributes() -> None:
    assert len(set(VISIBLE_30)) == 30 and VISIBLE_30[:20] == VISIBLE_20
    assert all(BY_NAME[name].binary for name in VISIBLE_30)


@pytest.mark.parametrize(
    ("age", "group"),
    [
        (1, "child"),
        (12.9, "child"),
        (13, "teenager"),
        (20, "young adult"),
        (36, "middle-aged"),
        (60, "senior"),
    ],
)
def test_age_groups_cover_all_ages(age: float, group: str) -> None:
    assert age_group(age) == group


def test_derived_values_follow_from_labels_and_never_overwrite() -> None:
    full = derive({"Blond_Hair": "yes", "Smiling": "yes", "Mouth_Slightly_Open": "no"})
    assert full["Hair_Color"] == "blond"
    assert full["Mouth_Action"] == "closed smile"
    assert derive({"Blond_Hair": "yes", "Hair_Color": "red"})["Hair_Color"] == "red"


def test_unknown_labels_derive_nothing() -> None:
    assert derive({}) == {}
    assert "Hair_Color" not in derive({"Black_Hair": "yes", "Blond_Hair": "yes"})
    assert "Mouth_Action" not in derive({"Smiling": "yes"})
