"""From a converted Show-o to a trained model: recipe `model` starts from its weights and keeps its words and codec."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import showo_toys as toys
import torch
from PIL import Image

from unif2ace_core.config import Group
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder
from unif2ace_core.experts.face import FaceConfig, FaceEncoder
from unif2ace_core.tasks import understand
from unif2ace_core.tokens.magvit import MagvitV2
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.model import ModelTask, ModelTrainConfig
from unif2ace_core.train.run import run
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.resolve import load_model, read_model_config
from unif2ace_core.weights.showo import convert_showo
from unif2ace_core.weights.store import load_tensors

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = {"steps": "3", "batch_size": "4", "threads": "1", "eval_every": "0", "warmup": "1", "bit_embedding": "false"}

PRESET = replace(toys.PRESET, clip_width=16)  # as wide as the clip expert here


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, str]:
    """Options of the recipe: a converted toy Show-o as start and codec, and experts of the widths it was made for."""
    codec, tokenizer = str(toys.save_codec(tmp_path / "magvit")), toys.save_tokenizer(tmp_path / "phi")
    source, start = str(toys.save_backbone(tmp_path / "showo")), tmp_path / "start"
    convert_showo(source, start, codec=codec, tokenizer=tokenizer, preset=PRESET)
    clip = ClipConfig(widths=(8, 8, 8, PRESET.clip_width), neck=4, embed=8)
    save_part(tmp_path / "experts", "clip", ClipEncoder(clip), clip)
    face = FaceConfig(widths=(8, 8, 8), neck=4, dimension=PRESET.face_width)
    save_part(tmp_path / "experts", "face", FaceEncoder(face), face)
    experts = str(tmp_path / "experts")
    return {"init": str(start), "codec": str(start), "clip": experts, "face": experts}


def test_a_run_from_a_converted_show_o_exports_a_model_that_is_asked_as_before(
    made_up_faces: Path, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, export = Path(parts["init"]), tmp_path / "run" / "export"
    run("model", made_up_faces, tmp_path / "run", QUICK | parts)
    (was, sizes), (now, kept) = read_model_config(start), read_model_config(export)
    assert sizes == kept and (was["name"], was["generation"]) == (now["name"], now["generation"])
    assert json.loads((export / "tokenizer.json").read_text()) == json.loads((start / "tokenizer.json").read_text())
    assert (export / "codec.safetensors").read_bytes() == (start / "codec.safetensors").read_bytes()
    before, after = (load_tensors(folder / "model.safetensors") for folder in (start, export))
    changes = {name: float((after[name].float() - value.float()).abs().max()) for name, value in before.items()}
    assert before.keys() == after.keys() and 0 < max(changes.values()) < 0.01  # three small steps
    model = load_model(str(export), "cpu")
    assert isinstance(model.codec, MagvitV2) and model.config.question_template == "USER: \n{question} ASSISTANT:"
    monkeypatch.setattr(understand, "LONGEST_ANSWER", 4)
    (answer,) = understand.ask(model, [(Image.new("RGB", (16, 16), "tan"), toys.QUESTION)])
    assert 0 <= answer.confidence <= 1


@pytest.mark.parametrize("bits", [False, True])
def test_a_run_starts_at_the_weights_of_its_start(made_up_faces: Path, parts: dict[str, str], bits: bool) -> None:
    task = ModelTask(ModelTrainConfig(batch_size=4, bit_embedding=bits, **parts), made_up_faces)
    begun, start = task.model.folded(), load_tensors(Path(parts["init"]) / "model.safetensors")
    assert begun.keys() == start.keys() and all(torch.equal(begun[name], start[name].float()) for name in start)


def test_questions_of_a_batch_have_show_os_words_and_no_end_before_the_answer(
    made_up_faces: Path, parts: dict[str, str]
) -> None:
    task = ModelTask(ModelTrainConfig(batch_size=4, long_share=0.0, **parts), made_up_faces)
    batch = task.batch(0, step_part(0, 0, 0, 1)).sequences
    asked = torch.tensor([int(group) == Group.MMU for group in batch.group[:, 0]])
    assert asked.sum() == 2
    for ids, turns, labels in zip(batch.ids[asked], batch.turns[asked], batch.labels[asked], strict=True):
        words, said = ids[turns == 1].tolist(), [label for label in labels[turns == 1].tolist() if label >= 0]
        text = task.tokenizer.decode(words)
        assert words[0] == words[-1] == toys.END and words.count(toys.END) == 2
        assert text.startswith("USER: \n") and text.partition(" ASSISTANT:")[2] == task.tokenizer.decode(said)
        assert task.tokenizer.decode(said).startswith(" ")
