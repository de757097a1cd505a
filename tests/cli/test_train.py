"""`unif2ace train`: settings, plan, progress, what is checked before any work."""

import json

import pytest

RECIPES = ("codec", "clip", "reader", "face", "locate", "model", "decoder", "judge")


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return "data"


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_gets_its_arguments_and_prints_the_output_folder(cli, core, data, recipe):
    result = cli("train", recipe, "--data", data, "--output", "run", "--resume", "steps=2", "seed=1")
    assert (result.code, result.out) == (0, "run\n")
    name, _, output, overrides, resume = core.calls[0]
    assert (name, str(output), overrides, resume) == (recipe, "run", {"steps": "2", "seed": "1"}, True)


def test_preset_is_short_for_its_setting(cli, core, data):
    assert cli("train", "model", "--data", data, "--output", "run", "--preset", "1.8b").code == 0
    assert core.calls[0][3] == {"preset": "1.8b"}


def test_progress_goes_to_stderr_a_line_each(cli, data):
    lines = cli("train", "codec", "--data", data, "--output", "run").err.splitlines()
    assert lines[0] == "step 1/2  loss 1.5000  lr 1.00e-03  20.0 samples/s  1:05 left"
    assert lines[2] == "note: step 2: psnr 21.5"


def test_quiet_trains_in_silence(cli, data):
    assert cli("train", "codec", "--data", data, "--output", "run", "-q").err == ""


def test_json_gives_the_last_metrics(cli, data):
    record = json.loads(cli("train", "codec", "--data", data, "--output", "run", "--json").out)
    assert record == {"recipe": "codec", "output": "run", "metrics": {"psnr": 21.5}}


def test_dry_run_prints_the_plan_and_trains_nothing(cli, core, data, tmp_path):
    args = ("train", "codec", "--data", data, "--output", "run", "--dry-run")
    assert "1,234,567" in cli(*args).out
    assert json.loads(cli(*args, "--json").out) == {"recipe": "codec", "parameters": 1_234_567, "hours": 0.5}
    assert core.calls == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("stepz=3",), "valid ones are steps (int)"),
        (("steps",), "key=value"),
        (("=3",), "key=value"),
        (("steps=1", "steps=2"), "twice"),
        (("--preset", "base", "preset=mini"), "twice"),
    ],
)
def test_wrong_settings_are_wrong_usage(cli, core, data, extra, words):
    result = cli("train", "codec", "--data", data, "--output", "run", *extra)
    assert result.code == 2 and words in result.err and result.err.count("\n") == 1 and core.calls == []


def test_data_and_output_are_required(cli, data):
    for args in (("--data", data), ("--output", "run"), ()):
        result = cli("train", "codec", *args)
        assert result.code == 2 and "--data DIR and --output DIR" in result.err


def test_missing_data_and_unwritable_output_fail_before_training(cli, core, data, tmp_path):
    (tmp_path / "file").write_text("")
    for args in (("--data", "gone", "--output", "run"), ("--data", data, "--output", "file/run")):
        result = cli("train", "codec", *args)
        assert result.code == 1 and result.err.count("\n") == 1
    assert core.calls == []


def test_interrupted_run_says_how_to_go_on(cli, core, data, tmp_path):
    core.fail = KeyboardInterrupt()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("{}\n")
    result = cli("train", "codec", "--data", data, "--output", "run")
    assert result.code == 130 and "--resume" in result.err and "Traceback" not in result.err


def test_only_the_first_process_talks(cli, data, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = cli("train", "codec", "--data", data, "--output", "run", "--json")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_recipes_are_those_of_the_core():
    recipes = pytest.importorskip("unif2ace_core.train.recipes")
    assert tuple(recipes.RECIPES) == RECIPES
