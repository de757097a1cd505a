"""Suite `conditions`: pictures change and keep their size, spoiled rows ask the same, an oracle is perfect."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from PIL import Image

from unif2ace_core.data.attributes import VISIBLE_20, derive
from unif2ace_core.data.sources import FaceRecord, Key
from unif2ace_core.evaluate import conditions
from unif2ace_core.evaluate.answers import Pair
from unif2ace_core.evaluate.conditions import SPOILINGS, Row, measure, plan, shown

COUNT = 2 * conditions.ALL_SHARES


def people(count: int = 60) -> list[FaceRecord]:
    """Records of the four sources with the labels that theirs have; ages and emotions where they are known."""
    rng, records = random.Random(0), []
    for number in range(count):
        labels = derive({name: rng.choice(("no", "yes")) for name in VISIBLE_20})
        moods = {**labels, "Emotion": ("happiness", "neutral", "anger")[number % 3]}
        for source, known, age in (
            ("celebahq", labels, None), ("lfw", moods, None), ("ffhq", moods, 40.0),
            ("utkface", {"Male": labels["Male"], "Eyeglasses": "no"}, float(number + 1)),
        ):  # fmt: skip
            records.append(FaceRecord(source, f"{number}.webp", "val", known, age, None))
    return records


def noise(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side))


def photos_of(rows: dict[str, Row]) -> dict[Key, Image.Image]:
    return {probe.record.key: noise(side=8) for row in rows.values() for probe in row.probes}


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return plan(people(), random.Random(1), COUNT)


@pytest.mark.parametrize("name", SPOILINGS)
def test_every_spoiling_changes_the_picture_and_keeps_its_size_and_itself(name: str) -> None:
    image = noise()
    spoiled = SPOILINGS[name].apply(image)
    assert (spoiled.size, spoiled.mode) == (image.size, image.mode)
    assert spoiled.tobytes() != image.tobytes() == noise().tobytes()
    assert SPOILINGS[name].apply(image).tobytes() == spoiled.tobytes()


def test_spoilings_do_what_they_say() -> None:
    white = Image.new("RGB", (64, 64), "white")
    assert SPOILINGS["dark"].apply(white).getpixel((5, 5)) == (76, 76, 76)
    assert len(set(SPOILINGS["grey"].apply(Image.new("RGB", (4, 4), (200, 30, 90))).getpixel((1, 1)))) == 1
    assert all(SPOILINGS[name].apply(white).tobytes() == white.tobytes() for name in ("blurred", "grey", "32 pixels"))


def test_rows_are_the_sources_and_the_spoilings(rows: dict[str, Row]) -> None:
    assert list(rows) == [*conditions.SOURCES, *SPOILINGS]
    assert all(len(row.probes) <= COUNT for row in rows.values())


def test_a_spoiled_row_repeats_the_probes_that_people_labelled(rows: dict[str, Row]) -> None:
    asked = {(probe.record.source, probe.section) for probe in rows["blurred"].probes}
    assert asked == {("celebahq", "yes_no"), ("celebahq", "gender.all"), ("lfw", "emotion"), ("utkface", "age.all")}
    for source, section in asked:
        plain = [probe for probe in rows[source].probes if probe.section == section]
        for name in SPOILINGS:
            assert [probe for probe in rows[name].probes if probe.section == section] == plain


def test_only_spoiled_rows_show_other_pictures(rows: dict[str, Row]) -> None:
    photos = photos_of(rows)
    for row in rows.values():
        same = [image is photos[key] for key, image in shown(row, photos).items()]
        assert not any(same) if row.spoiling else all(same)


def test_a_row_without_photos_is_left_out_and_a_table_of_ones_own_is_spoiled_whole() -> None:
    own = [FaceRecord("own", record.file, "val", record.labels, 30.0, None) for record in people()]
    rows = plan(own, random.Random(0), COUNT)
    assert list(rows) == ["own", *SPOILINGS] and rows["dark"].probes == rows["own"].probes
    assert plan([], random.Random(0), COUNT) == {}


def test_a_limit_below_one_question_a_value_still_holds() -> None:
    assert {len(row.probes) for row in plan(people(), random.Random(0), 5).values()} == {5}


def test_an_oracle_is_perfect_and_what_a_source_has_no_labels_for_is_blank(rows: dict[str, Row]) -> None:
    photos, done = photos_of(rows), []
    truths = iter([probe for row in rows.values() for probe in row.probes])
    men, words = {"yes": "a man", "no": "a woman"}, {"happiness": "happy"}

    def oracle(pairs: Sequence[Pair]) -> list[str]:
        asked = [next(truths) for _ in pairs]
        assert [probe.question for probe in asked] == [question for _, question in pairs]
        return [men[p.truth] if p.section == "gender.all" else words.get(p.truth, p.truth) for p in asked]

    found = measure(rows, photos, oracle, 0, lambda *args: done.append(args))
    table = found["by_condition"]
    assert list(table) == list(rows) and set(found["spoiled"]) == set(SPOILINGS)
    for line in table.values():
        assert {line[name] for name in ("yes_no", "glasses", "hat", "gender", "happy") if name in line} == {1.0}
        assert line.get("age", 0.0) == 0.0
    assert "happy" not in table["celebahq"] and "age" not in table["celebahq"] and "happy" in table["dark"]
    assert "glasses" not in table["utkface"], "one value is no balanced accuracy"
    assert table["celebahq"]["attributes"] == 20 and table["celebahq"]["n_glasses"] == 16
    assert done[-1] == (found["n"], found["n"]) and done == sorted(done)


def test_every_row_is_resampled_alike(rows: dict[str, Row]) -> None:
    found = measure(rows, photos_of(rows), lambda pairs: ["Yes." for _ in pairs], 0)["by_condition"]
    assert found["dark"] == found["grey"] and found["dark"]["yes_no"] == 0.5
    low, high = found["dark"]["by_interval"]["yes_no"]
    assert low <= 0.5 <= high
