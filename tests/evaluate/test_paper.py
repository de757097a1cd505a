"""The paper's tables as data, and which of them stand beside a report."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields

import pytest

from unif2ace_core.evaluate.paper import (
    ABLATIONS,
    DATA_SETS,
    GENERATION,
    METRICS,
    OURS,
    RECIPE,
    RELATIONS,
    UNDERSTANDING,
    beside,
    figures,
)

REPORT = {
    "extractor": "the model's CLIP tower: mean patch and summary",
    "suites": {
        "generation": {"n": 8, "fid": 12.5, "kid": 3.0, "prompt_agreement": {"mean": 0.75}},
        "answers": {"n": 8, "yes_no": {"mean_balanced_accuracy": 0.8}},
        "codec": {"psnr": 20.0},
    },
}


def test_tables_have_the_published_sizes_and_totals() -> None:
    assert [len(table) for table in (GENERATION, UNDERSTANDING, ABLATIONS, DATA_SETS, RECIPE)] == [4, 4, 6, 6, 10]
    assert sum(row.fid for row in GENERATION) == pytest.approx(142.557 + 72.825 + 76.427 + 66.005)
    assert sum(row.conv_ds for row in UNDERSTANDING) == pytest.approx(6.55 + 6.77 + 4.90 + 7.29)
    assert [row.caption_tokens for row in DATA_SETS] == [16, 22, 45, 26, 80, 120]


def test_the_papers_model_is_best_in_every_column() -> None:
    for table, columns in ((GENERATION, ("vqascore_cf5", "fid", "vlm_score")), (UNDERSTANDING, tuple(METRICS)[3:])):
        for column in columns:
            best = (min if column == "fid" else max)(table, key=lambda row, name=column: getattr(row, name))
            assert best.model == OURS


def test_the_abstracts_gain_follows_from_the_table() -> None:
    scores = figures("desc_gpt")
    assert scores[OURS] / scores["InternVL2.5"] == pytest.approx(1.0712, abs=5e-5)


def test_full_settings_of_the_ablations_are_the_tables_own_rows() -> None:
    full = {row.metric: row.value for row in ABLATIONS if row.setting.startswith(("D3Diff", "token and"))}
    assert full["vqascore_cf5"] == figures("vqascore_cf5")[OURS]
    assert round(full["desc_gpt"], 2) == figures("desc_gpt")[OURS]


def test_every_figure_is_a_column_of_one_table() -> None:
    columns = {f.name for table in (GENERATION, UNDERSTANDING) for f in fields(table[0])}
    assert set(METRICS) <= columns and {relation.figure for relation in RELATIONS} <= set(METRICS)
    assert {row.metric for row in ABLATIONS} <= set(METRICS)
    with pytest.raises(KeyError):
        figures("beauty")


def test_figures_stand_beside_what_was_measured_with_the_reason_why_not_to_compare() -> None:
    found = {(row.metric, row.figure): row for row in beside(REPORT)}
    assert set(found) == {
        ("generation.fid", "FID"),
        ("generation.prompt_agreement.mean", "VQAscore-CF5"),
        ("generation.prompt_agreement.mean", "VLM-score"),
        ("answers.yes_no.mean_balanced_accuracy", "Conv-GPT"),
        ("answers.yes_no.mean_balanced_accuracy", "Conv-DS"),
    }
    fid = found["generation.fid", "FID"]
    assert (fid.measured, fid.paper[OURS], fid.paper["Show-o"]) == (12.5, 66.005, 142.557)
    assert not any(row.comparable for row in found.values()) and all(row.note for row in found.values())


def test_only_the_same_features_on_the_same_photos_are_comparable() -> None:
    same = {**REPORT, "extractor": "Inception-v3", "data": "UniF2aceD-1M"}
    assert [(row.figure, row.note) for row in beside(same) if row.comparable] == [("FID", "")]
    assert not any(row.comparable for row in beside({**same, "data": "celebahq"}))


def test_what_was_not_measured_has_no_line() -> None:
    assert beside({}) == [] and beside({"suites": {"codec": {"psnr": 20.0}}}) == []
    missing = {"suites": {"generation": {"fid": None}, "answers": {"yes_no": {}}}}
    assert beside(missing) == []


def test_lines_are_plain_data() -> None:
    assert asdict(beside(REPORT)[0])["paper"]["Flux.1-dev"] == 76.427


def test_the_tables_need_no_torch() -> None:
    code = "import sys, unif2ace_core.evaluate.paper; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_relations_name_metrics_that_the_suites_report() -> None:
    """Found in the sources of the suites, so that a renamed metric does not silently lose its line."""
    import inspect

    from unif2ace_core.evaluate import answers, descriptions, fidelity

    suites = {"generation": fidelity, "answers": answers, "descriptions": descriptions}
    sources = {name: inspect.getsource(module) for name, module in suites.items()}
    for relation in RELATIONS:
        assert all(f'"{part}"' in sources[relation.suite] for part in relation.metric.split("."))
