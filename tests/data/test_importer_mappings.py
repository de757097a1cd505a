"""Mapping files and splits of the importers: what a cell says, what stays unknown, who goes into which split."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unif2ace_core.data import sources
from unif2ace_core.data.attributes import BINARY, derive
from unif2ace_core.data.importers.base import Row
from unif2ace_core.data.importers.mapping import load_mapping, shipped
from unif2ace_core.data.importers.splits import Splits
from unif2ace_core.errors import UserError

# --- Mapping files ---------------------------------------------------------------------------------


def _mapping(folder: Path, **content: Any) -> Path:
    path = folder / "mapping.json"
    path.write_text(json.dumps(content))
    return path


def test_cut_offs_leave_what_lies_between_unknown(tmp_path: Path) -> None:
    smile = {"column": "smile", "at_least": {"yes": 0.8}, "at_most": {"no": 0.1}}
    labels = load_mapping(_mapping(tmp_path, attributes={"Smiling": smile}))
    found = [labels.read({"smile": text}, "x")[0].get("Smiling") for text in ("0.8", "0.79", "0.11", "0.1", "", " ")]
    assert found == ["yes", None, None, "no", None, None]
    assert labels.read({}, "x") == ({}, None)


def test_values_conditions_ages_and_later_lines_of_a_mapping(tmp_path: Path) -> None:
    path = _mapping(
        tmp_path,
        age="years",
        attributes={
            "Male": {"column": "sex", "values": {"m": "yes", "f": "no"}},
            "Emotion": {"column": "mood"},
            "No_Beard": [{"column": "b", "at_most": {"yes": 0}}, {"column": "g", "at_least": {"no": 0.5}}],
            "Wearing_Lipstick": {"column": "lips", "values": {"1": "yes"}, "from_age": 18, "when": {"hid": ["0"]}},
        },
    )
    read = load_mapping(path).read
    assert read({"sex": "M", "mood": "Fear", "b": "0", "g": "0.6"}, "x")[0] == {
        "Male": "yes", "Emotion": "fear", "No_Beard": "no",
    }  # fmt: skip
    assert read({"sex": "?", "mood": "bored", "b": "0", "g": "0.4"}, "x")[0] == {"No_Beard": "yes"}
    lips = [
        {"lips": "1", "years": "30", "hid": "0"},
        {"lips": "1", "years": "9", "hid": "0"},
        {"lips": "1", "hid": "0"},
    ]
    assert [read(row, "x")[0].get("Wearing_Lipstick") for row in lips] == ["yes", None, None]
    assert "Wearing_Lipstick" not in read({**lips[0], "hid": "1"}, "x")[0]
    assert read(lips[0], "x")[0]["Age_Group"] == "young adult" and read(lips[0], "x")[1] == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"attributes": {"Smilling": {"column": "a"}}}, "unknown attribute 'Smilling'; did you mean Smiling"),
        ({"attributes": {"Male": {"column": "a", "values": {"m": "man"}}}}, "unknown value 'man' of Male"),
        ({"attributes": {"Male": {"column": "a", "at_least": {"maybe": 1}}}}, "unknown value 'maybe'"),
        (
            {"attributes": {"Male": {"column": "a", "at_least": {"yes": 0.4}, "at_most": {"no": 0.4}}}},
            "Male has overlapping cut-offs: at least 0.4 and at most 0.4",
        ),
        ({"attributes": {"Male": {"values": {"m": "yes"}}}}, 'no "column"'),
        ({"attributes": {"Male": {"column": "a", "at_least": {"yes": "high"}}}}, "limit 'high'"),
        ({"attributes": {"Male": {"column": "a", "at_least": {"yes": True}}}}, "limit True"),
        ({"attributes": {"Male": {"column": "a", "cut": 1}}}, "unknown key of Male 'cut'"),
        ({"attributes": {"Male": {"column": "a", "values": {"1": "yes"}, "at_most": {"no": 0}}}}, "both values and"),
        ({"attributes": []}, "attributes must be a JSON object"),
        ({"attributes": {"Male": "sex"}}, "Male must be a JSON object, not str"),
        ({"plain": "yes"}, "plain is 'yes'"),
        ({"plain": True, "rules": ["unlikly"]}, "unknown rule 'unlikly'; did you mean unlikely"),
        ({"plane": True}, "unknown key 'plane'"),
        ({}, "it says nothing"),
        ([], "the file must be a JSON object"),
    ],
)
def test_wrong_mappings_say_what_is_wrong_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"mapping.json: ") as error:
        load_mapping(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_missing_and_broken_mapping_files_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; name a file or one of celeba, ffhq"):
        load_mapping(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"must be JSON"):
        load_mapping(tmp_path / "a.json")


def test_shipped_mappings_load_by_name() -> None:
    assert set(shipped()) == {"celeba", "ffhq", "lfw", "utkface"}
    for name in shipped():
        load_mapping(Path(name))


def test_shipped_mappings_keep_the_cut_offs_of_sources() -> None:
    for name, cuts in (("utkface", sources._CUTS), ("lfw", sources._LFW_CUTS)):
        labels = load_mapping(Path(name))
        for attribute, (high, low) in cuts.items():
            spec = next(s for s in labels.specs if (s.attribute.name, s.column) == (attribute, attribute))
            assert spec.at_least == (("yes", high) if high <= 1 else None)
            assert spec.at_most == (("no", low) if low is not None else None)


def _made_up_probabilities(rng: np.random.Generator) -> dict[str, str]:
    levels = rng.choice([0.0, 0.05, 0.1, 0.3, 0.5, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0], len(BINARY))
    row = dict(zip(BINARY, map(str, levels)))
    emotion = str(rng.choice(["", "neutral", "happiness", "anger", "bored"]))
    return {**row, "emotion": emotion, "gender": str(rng.integers(2)), "age": str(rng.integers(1, 90))}


@pytest.mark.parametrize("name", ["lfw", "utkface"])
def test_shipped_mappings_read_probabilities_as_sources_does(name: str) -> None:
    rng, labels = np.random.default_rng(0), load_mapping(Path(name))
    for _ in range(200):
        row = _made_up_probabilities(rng)
        expected, age = sources._READERS[name](row)
        if name == "lfw":
            row = {key: text for key, text in row.items() if key != "age"}
        assert labels.read(row, "x") == (derive(expected), age)


def test_shipped_mappings_read_the_real_tables_as_sources_does(data_dir: Path) -> None:
    for name, reader in sources._READERS.items():
        labels = load_mapping(Path(name))
        with (data_dir / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            for row in list(csv.DictReader(stream))[::9]:
                expected, age = reader(row)
                assert labels.read(row, "x") == (derive(expected), age)


# --- Splits ----------------------------------------------------------------------------------------


def test_drawn_splits_depend_on_seed_and_person_alone() -> None:
    rows = [Row(f"{n}.png", f"{n}.png", "", f"p{n // 3}") for n in range(3000)]
    first, second = (Splits(seed, 0.1).settle(rows) for seed in (0, 1))
    assert 0.07 < sum(row.split == "val" for row in first) / len(rows) < 0.13
    assert first == Splits(0, 0.1).settle(reversed(rows))[::-1]
    assert [r.split for r in first] != [r.split for r in second]
    assert len({(row.person, row.split) for row in first}) == 1000


def test_given_splits_are_kept_and_carry_their_persons_along() -> None:
    rows = [Row("a", "a", "", "p"), Row("b", "b", "test", "p"), Row("c", "c", "val")]
    assert [row.split for row in Splits().settle(rows)] == ["test", "test", "val"]
    with pytest.raises(UserError, match=r"person 'p' is in train and val"):
        Splits().settle([Row("a", "a", "train", "p"), Row("b", "b", "val", "p")])
    with pytest.raises(UserError, match=r"duplicate name a"):
        Splits().settle([Row("a", "a", ""), Row("a", "b", "")])
    with pytest.raises(UserError, match=r"share 1\.5"):
        Splits(0, 1.5)
