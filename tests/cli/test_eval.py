"""`unif2ace eval` and `quantize`: reports, tables, what is checked before any work."""

import json

import pytest

from unif2ace_cli.commands.eval import show_table
from unif2ace_cli.options import GENERATING, SUITES


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return "data"


def test_all_suites_by_default(cli, core, data):
    assert cli("eval", "--data", data).code == 0
    assert core.calls == [(SUITES, "mini", "val", None, 0)]


def test_options_reach_the_core(cli, core, data):
    cli("eval", "codec", "--data", data, "--limit", 5, "--seed", 9, "--split", "train", "--model", "other")
    assert core.calls == [(("codec",), "other", "train", 5, 9)]


def test_sampling_reaches_the_core(cli, core, data):
    asked = ("--steps", 8, "--guidance", 2.5, "--sampler", "maskgit", "--guidance-schedule", "linear")
    asked += ("--guidance-rescale", 0.7, "--cooling", 0.2, "--repair", 0.3)
    assert cli("eval", "generation", "--data", data, *asked, "--temperature", 0.5).code == 0
    given = {"steps": 8, "guidance": 2.5, "guidance_schedule": "linear", "temperature": 0.5, "sampler": "maskgit"}
    given |= {"guidance_rescale": 0.7, "cooling": 0.2, "repair": 0.3, "negative": None, "best_of": 1}
    assert vars(core.sampling) == given


@pytest.mark.parametrize(("option", "value"), [("--sampler", "best"), ("--guidance-schedule", "x"), ("--steps", 0)])
def test_sampling_that_cannot_be_is_refused_before_loading(cli, core, data, option, value):
    result = cli("eval", "generation", "--data", data, option, value)
    assert result.code == 2 and core.loads == [] and (option in result.error or value in result.error)


def test_table_is_the_result(cli, data):
    result = cli("eval", "answers", "--data", data)
    rows = [line.split() for line in result.lines]
    assert ["yes_no.balanced_accuracy", "0.8125"] in rows
    assert ["yes_no.interval", "0.75", "..", "0.875"] in rows
    assert ["Smiling", "0.75", "5"] in rows and ["Hat", "6"] in rows
    assert result.lines[-1] == "split val  seed 0"
    assert result.err == "note: measuring answers\n"


def test_a_table_wider_than_the_console_is_turned_and_whole(capsys):
    row = {f"metric_{number}": 0.123456 for number in range(15)}
    for rows, first in (({"one": row, "two": row}, ["one", "two"]), ({"one": {"a": 1.0, "b": 2.0}}, ["a", "b"])):
        show_table({"suites": {"s": {"by_row": rows}}})
        out = capsys.readouterr().out
        assert first in [line.split() for line in out.splitlines()] and "…" not in out


def test_what_fits_neither_way_comes_in_parts_and_whole(capsys):
    row = {f"metric_{number}": 0.123456 for number in range(15)}
    show_table({"suites": {"s": {"by_row": {f"variant_{number}": row for number in range(11)}}}})
    out = capsys.readouterr().out
    words = out.split()
    assert "…" not in out and words.count("0.1235") == 15 * 11
    assert all(words.count(f"variant_{number}") == 1 for number in range(11)) and max(map(len, out.splitlines())) <= 120


def test_json_and_file_are_the_same_report(cli, data, tmp_path):
    result = cli("eval", "answers", "codec", "--data", data, "--json", "--output", "r.json")
    report = json.loads(result.out)
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert list(report["suites"]) == ["answers", "codec"] and result.out.count("\n") == 1


def test_file_is_replaced_whole(cli, data, tmp_path):
    (tmp_path / "r.json").write_text("old")
    cli("eval", "codec", "--data", data, "--output", "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["split"] == "val"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.json"]


PAPERS = {
    "metric": "answers.yes_no.balanced_accuracy",
    "measured": 0.8125,
    "figure": "Conv-GPT",
    "paper": {"UniF2ace": 6.53},
    "comparable": False,
    "note": "marks of a judge, not accuracy",
}


@pytest.fixture
def paper(core, monkeypatch):
    """One line of the paper beside every report."""
    import unif2ace_core.evaluate.paper as module

    monkeypatch.setattr(module, "beside", lambda report: [module.Beside(**PAPERS)])


def test_papers_figures_stand_beside_the_measured_ones(cli, paper, data):
    result = cli("eval", "answers", "--data", data, "--paper")
    row = ["answers.yes_no.balanced_accuracy", "0.8125", "Conv-GPT", "6.53", "no"]
    assert row in [line.split() for line in result.lines]
    assert "Conv-GPT: not comparable; marks of a judge, not accuracy." in result.out
    assert result.lines[-1] == "split val  seed 0"
    assert "Conv-GPT" not in cli("eval", "answers", "--data", data).out


def test_papers_figures_are_in_the_json_report_when_asked_for(cli, paper, data, tmp_path):
    report = json.loads(cli("eval", "answers", "--data", data, "--paper", "--json", "-o", "r.json").out)
    assert report["paper"] == [PAPERS] == json.loads((tmp_path / "r.json").read_text())["paper"]
    assert "paper" not in json.loads(cli("eval", "answers", "--data", data, "--json").out)


def test_suites_without_figures_in_the_paper_say_so(cli, data):
    assert "the paper has no figures for these suites" in cli("eval", "codec", "--data", data, "--paper").out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("wibble", "--data", "data"), 2),
        (("codec",), 2),
        (("codec", "--data", "gone"), 1),
        (("codec", "--data", "data", "--limit", "0"), 2),
        (("codec", "--data", "data", "--split", "test"), 2),
        (("codec", "--data", "data", "--output", "gone/r.json"), 1),
        (("codec", "--data", "data", "--output", "data"), 2),
    ],
)
def test_eval_checks_before_it_loads(cli, core, data, args, code):
    result = cli("eval", *args)
    assert result.code == code and result.err.count("\n") == 1 and core.loads == []


def test_suites_are_those_of_the_core():
    core = pytest.importorskip("unif2ace_core.evaluate.run")
    assert tuple(core.SUITES) == SUITES and set(GENERATING) == core.GENERATING


@pytest.mark.parametrize("bits", [8, 4])
def test_quantize_prints_sizes_and_folder(cli, core, bits):
    result = cli("quantize", "mini", "--bits", bits, "-o", "small")
    assert result.code == 0 and result.lines[-1] == "small"
    assert "2.00 MB ->     1.00 MB  (0.50x)" in result.out
    source, given, output, force = core.calls[0]
    assert (source, given, str(output), force) == ("mini", bits, "small", False)


def test_quantize_json_with_data_has_sizes_and_change(cli, core, data):
    record = json.loads(cli("quantize", "mini", "--bits", 8, "-o", "small", "--data", data, "--json").out)
    assert record["transformer_after"] == 1_000_000 and record["bits"] == 8
    assert record["change"] == {"answers.yes_no.balanced_accuracy": {"before": 0.8125, "after": 0.8125}}
    assert record["agreement"] == {"n": 200, "same_value": 0.975}
    assert [model for model, _ in core.loads] == ["mini", "small"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("mini",), 2),
        (("mini", "--bits", "8"), 2),
        (("mini", "--bits", "8", "-o", "full"), 1),
        (("mini", "--bits", "8", "-o", "full/file"), 1),
        (("mini", "--bits", "8", "-o", "full/file/deep"), 1),
        (("mini", "--bits", "8", "-o", "small", "--data", "gone"), 1),
    ],
)
def test_quantize_checks_before_it_works(cli, core, tmp_path, args, code):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    result = cli("quantize", *args)
    assert result.code == code and result.err.count("\n") == 1 and core.calls == []


def test_force_lets_quantize_write_into_a_full_folder(cli, core, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert cli("quantize", "mini", "--bits", 8, "-o", "full", "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ablation",), "--output DIR"),
        (("ablation", "codec", "--output", "runs"), "run it alone"),
        (("ablation", "--output", "file"), "needs a folder"),
    ],
)
def test_ablation_needs_a_folder_and_runs_alone(cli, core, data, tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    result = cli("eval", *arguments, "--data", data)
    assert result.code == 2 and said in result.error and core.loads == []


def test_judge_and_sheet_reach_the_core(cli, core, data, tmp_path):
    (tmp_path / "judge.safetensors").write_bytes(b"")
    sheet = tmp_path / "sheet.png"
    assert cli("eval", "nearest", "--data", data, "--judge", str(tmp_path), "--sheet", str(sheet)).code == 0
    assert (core.judge, core.sheet) == (tmp_path, sheet)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nearest", "--judge", "nowhere"), "--judge nowhere has no judge.safetensors"),
        (("nearest", "--sheet", "sheet.jpg"), "--sheet sheet.jpg is no PNG; give a name such as sheet.png"),
        (("nearest", "--sheet", "."), "--sheet . is no PNG"),
        (("answers", "--sheet", "sheet.png"), "--sheet is drawn by suite nearest"),
        (("answers", "--judge", "nowhere"), "--judge looks at generated faces"),
        (("ablation", "--judge", "nowhere"), "--judge looks at generated faces"),
    ],
)
def test_judges_and_sheets_that_cannot_be_are_refused(cli, core, data, words, said):
    found = cli("eval", "--data", data, *words)
    assert found.code != 0 and said in found.error and not core.loads
