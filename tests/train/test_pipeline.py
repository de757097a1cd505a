"""From a folder of one's own photos to a model that draws and answers: every recipe after the other, two steps each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, generate
from unif2ace_core.tasks.understand import ask
from unif2ace_core.train.recipes import RECIPES
from unif2ace_core.train.recipes.decoder import DecoderTrainConfig
from unif2ace_core.train.run import plan, run
from unif2ace_core.weights.resolve import load_model

QUICK = {"steps": "2", "batch_size": "4", "threads": "1", "eval_every": "0", "warmup": "1"}
EXTRA = {"face": {"photos": "8"}, "locate": {"photos": "8", "val_scenes": "1"}}


@pytest.fixture(scope="module")
def runs(made_up_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of all recipes."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        for recipe in ("codec", "clip", "face", "locate", "judge"):
            run(recipe, made_up_faces, root / recipe, QUICK | EXTRA.get(recipe, {}))
        run("reader", made_up_faces, root / "reader", QUICK | {"init": str(root / "clip" / "export")})
        parts = {name: str(root / name / "export") for name in ("codec", "face", "locate")}
        parts["clip"] = str(root / "reader" / "export")
        run("model", made_up_faces, root / "model", QUICK | parts)
        stage2 = {"init": parts["codec"], "perceptual": parts["clip"], "freeze_encoder": "true", "adversarial": "0.1"}
        run("codec", made_up_faces, root / "stage3", QUICK | stage2)
        drawn = {"init": str(root / "model" / "export"), "photos": "8", "drawn": "8", "sampling_steps": "2"}
        run("decoder", made_up_faces, root / "decoder", QUICK | drawn)
        again = {"init": str(root / "model" / "export"), "t2i_share": "0.25"}
        run("model", made_up_faces, root / "more", QUICK | parts | again)
        assert plan("model", made_up_faces, root / "planned", QUICK | parts)["parameters"] > 0
        assert not (root / "planned").exists()
    return root


@pytest.mark.slow
def test_the_joint_export_is_a_whole_model_that_draws_and_answers(runs: Path) -> None:
    model = load_model(str(runs / "more" / "export"), device="cpu")
    assert model.clip and model.face and model.locator
    made = list(generate(model, [GenerateRequest("a smiling woman", 1)], GenerateOptions(steps=2)))
    assert made[0].image.size == (128, 128)
    assert len(list(ask(model, [(Image.new("RGB", (128, 128)), "what emotion?")]))) == 1


@pytest.mark.slow
def test_every_run_logs_finite_losses_as_json_lines(runs: Path) -> None:
    for recipe in RECIPES:
        lines = [json.loads(line) for line in (runs / recipe / "log.jsonl").read_text().splitlines()]
        assert lines[-1]["step"] == lines[-1]["steps"] == 2
        assert lines[-1]["evaluation"], recipe
        assert all(abs(line["loss"]) < 1e4 for line in lines)


@pytest.mark.slow
def test_a_decoder_comes_in_a_whole_model_that_repairs_as_it_has_learned_to(runs: Path) -> None:
    before, after = (load_model(str(runs / name / "export"), device="cpu") for name in ("model", "decoder"))
    learned = DecoderTrainConfig()
    assert (before.repair, after.repair) == (0.0, learned.repair)
    assert (before.codec.config.grain, after.codec.config.grain) == (0, learned.grain)
    assert after.clip and after.face and after.locator
    assert (
        next(generate(after, [GenerateRequest("a man", 1)], GenerateOptions(steps=2))).options.repair == learned.repair
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage3", "decoder"])
def test_stages_of_the_decoder_keep_the_codes(runs: Path, stage: str) -> None:
    from unif2ace_core.weights.store import load_tensors

    first, second = (load_tensors(runs / name / "export" / "codec.safetensors") for name in ("codec", stage))
    same = {name: bool((first[name] == second[name]).all()) for name in first}
    assert all(value for name, value in same.items() if not name.startswith("decoder"))
    assert not all(value for name, value in same.items() if name.startswith("decoder"))
