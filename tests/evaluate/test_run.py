"""All suites end to end on a tiny random model and a made-up data folder; refusals in words."""

from __future__ import annotations

import csv
import json
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from unif2ace_core.config import ModelConfig
from unif2ace_core.data.attributes import BINARY
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate.judge import Judge, JudgeConfig
from unif2ace_core.evaluate.run import SUITES, answers_agreement, run_suites
from unif2ace_core.experts.align import whole_image
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, ClipExpert, ClipFeatures
from unif2ace_core.experts.locate import Face
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights.parts import save_part
from unif2ace_core.weights.resolve import GenerationDefaults, LoadedModel


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve noisy pictures with random labels, half of them held out."""
    folder, rng = tmp_path_factory.mktemp("faces"), random.Random(0)
    (folder / "celebahq").mkdir()
    with (folder / "celebahq.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", "split", *BINARY])
        table.writeheader()
        for number in range(12):
            name, labels = f"{number}.png", {column: rng.randrange(2) for column in BINARY}
            table.writerow({"file": name, "split": "val" if number % 2 else "train", **labels})
            Image.frombytes("RGB", (40, 40), rng.randbytes(4800)).save(folder / "celebahq" / name)
    return folder


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """Random weights, every part but the face encoder and the locator."""
    torch.manual_seed(0)
    tokenizer = TextTokenizer.train(["a man with glasses", "is she smiling?"], 280)
    config = ModelConfig(
        width=32, layers=2, heads=2, ffn=32, rotary=8, text_vocabulary=tokenizer.size, codes=16, grid=(2, 2),
        text_length=24, experts=2, top_k=1, expert_hidden=8, resampler=8, clip_width=16, face_width=12,
        noise_width=8, noise_tokens=2,
    )  # fmt: skip
    codec = Codec(CodecConfig(
        pixels=32, bits=4, encoder_widths=(8, 8, 16), encoder_depths=(1, 1, 1), decoder_widths=(16, 16, 8, 8),
        decoder_depths=(1, 1, 1, 1),
    ))  # fmt: skip
    clip = ClipEncoder(ClipConfig(pixels=32, widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), embed=8))
    parts: dict[str, Any] = {
        "transformer": UniF2ace(config).initialise(torch.Generator().manual_seed(0)),
        "codec": codec,
        "clip": clip,
    }  # fmt: skip
    for part in parts.values():
        part.eval().requires_grad_(False)
    return LoadedModel(
        name="tiny", directory=Path("."), config=config, tokenizer=tokenizer, device=torch.device("cpu"),
        version="0", generation=GenerationDefaults(steps=2, guidance=0.0), **parts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small judge that has learned nothing."""
    torch.manual_seed(1)
    folder, config = tmp_path_factory.mktemp("judge"), JudgeConfig(pixels=32, widths=(8, 8), depths=(1, 1))
    save_part(folder, "judge", Judge(config), config)
    return folder


@pytest.mark.slow
def test_every_suite_reports_plain_json_with_n_split_seed_and_versions(
    model: LoadedModel, data: Path, judge: Path, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    sheet = tmp_path / "sheet.png"
    found = run_suites(
        list(SUITES),
        model,
        data,
        limit=4,
        seed=1,
        on_progress=lambda *args: seen.append(args),
        judge=judge,
        sheet=sheet,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found["suites"]) == set(SUITES) == {suite for suite, _, _ in seen}
    assert all(part["n"] > 0 for part in found["suites"].values())
    assert (found["split"], found["seed"], found["model"]) == ("val", 1, "tiny")
    assert found["versions"]["torch"] and found["versions"]["unif2ace"]
    assert all(done <= total for _, done, total in seen)
    assert found["suites"]["generation"]["n"] == found["suites"]["answers"]["n"] == 4
    assert found["suites"]["conditions"]["n"] == 4 * len(found["suites"]["conditions"]["by_condition"])
    assert found["suites"]["descriptions"]["n"] == 4 and "reconstructed" in found["suites"]["generation"]
    assert "kid" in found["suites"]["generation"]["judged"] and found["suites"]["prompts"]["n"] == 4
    assert Image.open(sheet).size == (4 * 32, 64)
    nats = found["suites"]["likelihood"]["captions"]["nats_per_code"]
    assert 0 < nats < 2 * found["suites"]["likelihood"]["captions"]["uniform_nats_per_code"]


@pytest.mark.slow
def test_the_same_seed_reports_the_same(model: LoadedModel, data: Path) -> None:
    runs = [run_suites(["likelihood", "codec"], model, data, limit=6, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_reports_tell_judges_apart_and_only_where_one_looked(
    model: LoadedModel, data: Path, judge: Path, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    config = JudgeConfig(pixels=32, widths=(8, 8), depths=(1, 1))
    save_part(tmp_path, "judge", Judge(config), config)
    one, other = (run_suites(["prompts"], model, data, limit=2, judge=folder)["judge"] for folder in (judge, tmp_path))
    assert one != other and "judge" not in run_suites(["codec"], model, data, limit=6)


def test_judges_that_miss_visible_attributes_are_refused(model: LoadedModel, data: Path, tmp_path: Path) -> None:
    config = JudgeConfig(pixels=32, widths=(8, 8), depths=(1, 1), attributes=("Male",))
    save_part(tmp_path, "judge", Judge(config), config)
    with pytest.raises(UserError, match="does not know Young"):
        run_suites(["prompts"], model, data, limit=2, judge=tmp_path)


def test_training_photos_are_no_photos_to_look_for_copies_with(model: LoadedModel, data: Path, judge: Path) -> None:
    with pytest.raises(UserError, match="give --split val"):
        run_suites(["nearest"], model, data, split="train", judge=judge)
    report = run_suites(["prompts"], model, data, split="train", limit=2, judge=judge)["suites"]["prompts"]
    assert "photos" not in report  # of which the judge has learned


def test_a_model_agrees_with_itself(model: LoadedModel, data: Path) -> None:
    assert answers_agreement(model, model, data, n=10) == {"n": 10, "same_value": 1.0, "same_words": 1.0}


def test_an_unknown_suite_is_refused_before_anything_is_loaded(data: Path) -> None:
    with pytest.raises(UserError, match="no suite 'beauty'"):
        run_suites(["answers", "beauty"], "no such model", data)


def test_an_injected_extractor_is_used_and_named(model: LoadedModel, data: Path) -> None:
    found = run_suites(["codec"], model, data, limit=6, extractor=lambda images: images.mean((2, 3)))
    assert found["extractor"] == "injected" and "reconstruction" in found["suites"]["codec"]


class Published(ClipExpert):
    """A tower that knows no attributes, as those of open_clip."""

    def features(self, images: torch.Tensor) -> ClipFeatures:
        return ClipFeatures(images.flatten(2)[..., :5].mT.repeat(1, 1, 6)[..., :16], images.mean((2, 3)), None, None)


def test_a_tower_without_attributes_is_measured_without_them(
    model: LoadedModel, data: Path, judge: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    caplog.set_level(logging.INFO, "unif2ace_core")
    found = run_suites(list(SUITES), replace(model, clip=Published()), data, limit=4, judge=judge)
    assert found["suites"]["generation"]["fid"] >= 0 and "prompt_agreement" not in found["suites"]["generation"]
    assert found["extractor"] == "the model's CLIP tower: mean patch and embedding"
    assert "reads no attributes" in caplog.text


class OneFace:
    """A locator that sees a face in pictures brighter than `least`, where the whole picture is."""

    def __init__(self, least: float) -> None:
        self.least = least

    def find(self, image: Image.Image) -> list[Face]:
        there = sum(image.convert("L").tobytes()) / (image.width * image.height) >= self.least
        return [Face(whole_image(*image.size), 1.0)] if there else []


@pytest.mark.parametrize(("least", "share"), [(0.0, 1.0), (300.0, 0.0)])
def test_answers_are_also_measured_through_the_locator(
    model: LoadedModel, data: Path, least: float, share: float
) -> None:
    located = replace(model, locator=OneFace(least))
    found = run_suites(["answers"], located, data, limit=128)["suites"]["answers"]["located"]
    assert found["faces_found"] == share and found["gender"]["celebahq"]["n"] == found["n"] > 0
    if not share:
        assert found["unread"] == found["n"]
