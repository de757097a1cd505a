"""Ablations compare like with like, go on where they were stopped, and say how sure they are.

pytest tests/evaluate/test_ablation.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate import ablation
from unif2ace_core.evaluate.ablation import ANSWERS, VARIANTS, WHOLE, Plan, ablate, interval, run
from unif2ace_core.evaluate.ablation_plot import BAD, GOOD, UNSURE, plot
from unif2ace_core.model.sequence_moe import Exploration, SequenceExperts, SpanFeatures
from unif2ace_core.model.transformer import UniF2ace, count_parameters
from unif2ace_core.train.recipes.model import ModelTrainConfig, base_sizes
from unif2ace_core.train.run import load_recipe

PAIR = (WHOLE, "no mixture")


class Toy:
    """Training that writes what it was told, and suites that read figures off it."""

    def __init__(self, stop_after: int = 99) -> None:
        self.trained: list[Mapping[str, str]] = []
        self.stop_after = stop_after

    def train(self, folder: Path, settings: Mapping[str, str]) -> Path:
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt
        self.trained.append(settings)
        (folder / "export").mkdir(parents=True)
        (folder / "export" / "settings.json").write_text(json.dumps(dict(settings)))
        return folder / "export"

    def measure(self, export: Path, suites: Sequence[str]) -> Mapping[str, object]:
        settings = json.loads((export / "settings.json").read_text())
        worse = 0.1 * (settings["sizes"] != VARIANTS[WHOLE].settings["sizes"]) * (1 + int(settings["seed"]))
        answers = {"yes_no": {"mean_balanced_accuracy": 0.8 - worse + int(settings["seed"])}}
        found = {"likelihood": {"captions": {"nats_per_code": 7.0 + worse}}, "answers": answers}
        return {suite: found[suite] for suite in suites}


def quiet(done: int, total: int) -> None:
    pass


def sizes(name: str) -> ModelConfig:
    _, config = load_recipe("model", VARIANTS[name].settings)
    assert isinstance(config, ModelTrainConfig)
    return base_sizes(config)


def test_differences_are_those_of_one_seed_and_their_interval_is_students(tmp_path: Path) -> None:
    toy = Toy()
    found = run(Plan(tmp_path, 5, variants=PAIR), toy.train, toy.measure, quiet)
    row = found["by_variant"]["no mixture"]
    assert row["balanced_accuracy_change"] == pytest.approx(-0.2) and row["nats_per_code_change"] == pytest.approx(0.2)
    assert row["nats_per_code_interval"] == pytest.approx([0.2 - 0.2484, 0.2 + 0.2484], abs=2e-4)  # t 4.303, s 0.1
    assert found["by_variant"][WHOLE]["nats_per_code"] == 7.0 and found["n"] == 6


def test_whole_variants_are_reported_as_soon_as_they_are_there(tmp_path: Path) -> None:
    toy, seen = Toy(), list[list[str]]()
    run(
        Plan(tmp_path, 5, seeds=2, variants=PAIR),
        toy.train,
        toy.measure,
        quiet,
        lambda r: seen.append([*r["by_variant"]]),
    )
    assert seen == [[WHOLE], [*PAIR]]


def test_what_learns_answers_alone_is_compared_with_its_like_and_by_answers_only(tmp_path: Path) -> None:
    found = run(Plan(tmp_path, 6, variants=(WHOLE, ANSWERS, "without CLIP")), (toy := Toy()).train, toy.measure, quiet)
    table = found["by_variant"]
    assert "nats_per_code" not in table["without CLIP"] and "balanced_accuracy_change" not in table[ANSWERS]
    assert table["without CLIP"]["balanced_accuracy_change"] == pytest.approx(-0.2)
    assert [settings.get("t2i_share") for settings in toy.trained] == [None] * 3 + ["0"] * 6
    assert [settings["steps"] for settings in toy.trained] == ["6"] * 3 + ["3"] * 6


def test_a_stopped_ablation_goes_on_and_keeps_figures_only(tmp_path: Path) -> None:
    plan, toy = Plan(tmp_path, 5, variants=PAIR), Toy(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        run(plan, toy.train, toy.measure, quiet)
    again, alone = Toy(), Toy()
    found = run(plan, again.train, again.measure, quiet)
    assert len(again.trained) == 3
    assert found == run(Plan(tmp_path / "alone", 5, variants=PAIR), alone.train, alone.measure, quiet)
    assert all(path.suffix == ".json" for path in tmp_path.iterdir() if path.is_file())
    assert not (tmp_path / "running").exists()
    with pytest.raises(UserError, match="is a run of 5 steps; give --limit 5"):
        run(Plan(tmp_path, 6, variants=PAIR), again.train, again.measure, quiet)
    run(Plan(tmp_path, 6, variants=(ANSWERS,)), again.train, again.measure, quiet)
    with pytest.raises(UserError, match="is a run of 3 steps; give --limit 6"):
        run(Plan(tmp_path, 8, variants=(ANSWERS,)), again.train, again.measure, quiet)
    kept = plan.file(WHOLE, 0)
    kept.write_text(kept.read_text().replace("width:128", "width:256"))
    with pytest.raises(UserError, match="a run with other encoders or settings"):
        run(plan, again.train, again.measure, quiet)
    kept.unlink()
    with pytest.raises(UserError, match="a run with other encoders or settings"):
        run(replace(plan, encoders="others"), again.train, again.measure, quiet)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_model_that_can_be_built_and_differs_in_one_thing(name: str) -> None:
    _, config = load_recipe("model", VARIANTS[name].settings)
    changed = {key for key, value in vars(config).items() if value != vars(ModelTrainConfig())[key]}
    assert changed == set(VARIANTS[name].settings)
    against = VARIANTS[name].against
    other = [key for key, value in VARIANTS[name].settings.items() if VARIANTS[against].settings.get(key) != value]
    assert len(other) == (name not in (WHOLE, ANSWERS))
    with torch.device("meta"):
        active = count_parameters(UniF2ace(sizes(name)))["active"]
        whole = count_parameters(UniF2ace(sizes(WHOLE)))["active"]
    assert active == pytest.approx(whole, rel=0.001)  # equal work for a token


def test_copies_leave_the_image_span_as_it_is() -> None:
    config = sizes("token level only")
    experts = SequenceExperts(config.sequence_mmu, config)
    z = torch.randn(2, config.positions, config.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(experts(z, SpanFeatures({}, {}), Exploration())[0], z)


def test_intervals_need_two_values() -> None:
    assert interval([1.0]) == [None, None] and interval([1.0, 1.0]) == [1.0, 1.0]
    low, high = interval([0.0, 1.0])
    assert low is not None and high is not None and math.isclose(high - low, 12.706, abs_tol=1e-3)


def test_the_plot_says_what_is_better_worse_and_unsure() -> None:
    row = {"nats_per_code_change": 0.1, "balanced_accuracy_change": 0.1}
    wide, sure = [-0.1, 0.3], [0.05, 0.15]
    table = {
        WHOLE: {},
        "a & b": row | {"nats_per_code_interval": sure, "balanced_accuracy_interval": sure},
        "c": row | {"nats_per_code_interval": wide, "balanced_accuracy_interval": [None, None]},
    }
    drawn = plot({"steps": 3, "seeds": 3, "by_variant": table})
    ElementTree.fromstring(drawn)
    assert drawn.count(f'r="4" fill="{BAD}"') == 1 and drawn.count(f'r="4" fill="{GOOD}"') == 1
    assert drawn.count(f'r="4" fill="{UNSURE}"') == 2 and "a &amp; b" in drawn


@pytest.mark.slow
def test_real_runs_end_to_end(
    embedded: Path, made_up_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: None
) -> None:
    monkeypatch.setattr(ablation, "QUESTIONS", 60)
    monkeypatch.setattr(ablation, "PHOTOS", 2)
    plan = Plan(tmp_path, 1, seeds=1, variants=("whole", "no mixture"))
    found = ablate(embedded, made_up_faces, plan, "cpu")
    assert 5 < found["by_variant"]["no mixture"]["nats_per_code"] < 12
    assert found["by_variant"]["no mixture"]["nats_per_code_interval"] == [None, None]
    with pytest.raises(UserError, match="has no codec"):
        ablate(tmp_path, made_up_faces, plan, "cpu")
