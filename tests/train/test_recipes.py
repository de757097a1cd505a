"""What recipes derive from exports and tables, and what they refuse before any long work."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unif2ace_core.config import PRESETS, ModelConfig
from unif2ace_core.data.labels import label_matrix
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.diffusion.samplers import fixed_rank
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ATTRIBUTE_LOGITS, ClipConfig, ClipEncoder
from unif2ace_core.experts.face import FaceConfig, FaceEncoder
from unif2ace_core.experts.locate import Locator
from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.train.encode import _encode_all
from unif2ace_core.train.mixture import MixtureConfig, check_labels
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.clip import attribute_report
from unif2ace_core.train.recipes.codec import CodecTask, CodecTrainConfig
from unif2ace_core.train.recipes.face import FaceTask, FaceTrainConfig
from unif2ace_core.train.recipes.locate import LocateTask, LocateTrainConfig
from unif2ace_core.train.recipes.model import ModelTask, ModelTrainConfig, check_start, model_sizes
from unif2ace_core.train.run import run
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.parts import save_part

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = {"steps": "2", "batch_size": "4", "threads": "1", "eval_every": "0", "warmup": "1"}


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Small exports of codec, clip and face with sizes that no preset has."""
    codec = CodecConfig(bits=14, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    save_part(tmp_path / "parts", "codec", Codec(codec), codec)
    clip = ClipConfig(widths=(8, 8, 8, 48), neck=4, embed=8)
    save_part(tmp_path / "parts", "clip", ClipEncoder(clip), clip)
    face = FaceConfig(widths=(8, 8, 8), neck=4, dimension=24)
    save_part(tmp_path / "parts", "face", FaceEncoder(face), face)
    return tmp_path / "parts"


def edited(folder: Path, target: Path, change: dict[str, str]) -> Path:
    """A copy of a data folder whose rows all have the changed columns."""
    shutil.copytree(folder, target)
    with (folder / "mine.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row | {name: value for name, value in change.items() if name in row} for row in csv.DictReader(stream)]
    with (target / "mine.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return target


def test_a_decoder_that_learns_whole_codes_again_no_longer_says_that_it_repairs(
    made_up_faces: Path, tmp_path: Path
) -> None:
    sizes = CodecConfig(encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8), grain=2, repair=0.4)
    save_part(tmp_path / "start", "codec", Codec(sizes), sizes)
    CodecTask(CodecTrainConfig(init=str(tmp_path / "start")), made_up_faces).export(tmp_path / "end", {})
    assert read_config(tmp_path / "end" / "codec.json", CodecConfig) == replace(sizes, repair=0.0)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_takes_its_codebook_grid_and_widths_from_the_exports(exports: Path, preset: str) -> None:
    sizes = model_sizes(PRESETS[preset], exports, exports, exports)
    assert (sizes.codes, sizes.grid, sizes.clip_width, sizes.face_width) == (2**14, (8, 8), 48, 24)
    assert sizes.width == PRESETS[preset].width
    assert model_sizes(PRESETS[preset], exports, exports, None).face_width == PRESETS[preset].face_width


def test_a_start_of_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": vars(ModelConfig())}))
    check_start(tmp_path, replace(ModelConfig(), code_bits=13))
    with pytest.raises(UserError, match=r"codes 8192, preset and exports give 16384"):
        check_start(tmp_path, replace(ModelConfig(), codes=16384))


def test_a_codec_of_fourteen_bits_makes_a_model_that_learns_its_codes(
    made_up_faces: Path, exports: Path, tmp_path: Path
) -> None:
    parts = {name: str(exports) for name in ("codec", "clip", "face")}
    task = ModelTask(ModelTrainConfig(batch_size=4, **parts), made_up_faces)
    loss, _ = task.loss(task.batch(0, step_part(0, 0, 0, 1)), torch.Generator().manual_seed(1))
    loss.backward()
    assert task.model.head_bits.weight.grad is not None and len(task.model.head_bits.weight.grad) == 14
    assert task.model.config.codes == 2**14 and loss.isfinite()


def test_masks_in_order_follow_the_sampler_of_the_settings_and_held_out_ones_none(
    made_up_faces: Path, exports: Path
) -> None:
    parts = {name: str(exports) for name in ("codec", "clip", "face")}
    settings = ModelTrainConfig(batch_size=4, sampler="halton_centred", ordered_share=1.0, **parts)
    task = ModelTask(settings, made_up_faces)
    masked = task.batch(0, step_part(0, 0, 0, 1)).masked.mask
    rank = fixed_rank("halton_centred", (8, 8))
    assert rank is not None and all(rank[mask].min() == len(rank) - mask.sum() for mask in masked)
    assert task.held_out.rank is None


@pytest.mark.parametrize("settings", [{}, {"sampler": "maskgit"}, {"sampler": "halton", "t2i_share": 0.0}])
def test_masks_in_order_need_pictures_and_an_order(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give sampler=halton or"):
        ModelTrainConfig(ordered_share=0.5, **settings)


@pytest.mark.parametrize("recipe", ["codec", "clip", "locate", "model"])
def test_a_table_without_val_rows_is_refused_before_training(
    made_up_faces: Path, exports: Path, tmp_path: Path, recipe: str
) -> None:
    data = edited(made_up_faces, tmp_path / "data", {"split": "train"})
    parts = {"codec": str(exports), "clip": str(exports)} if recipe == "model" else {}
    with pytest.raises(UserError, match=r"holds no photos.* of split 'val'; mark some rows val"):
        run(recipe, data, tmp_path / "run", QUICK | parts)
    assert not (tmp_path / "run").exists()


def test_photos_without_labels_can_only_be_drawn() -> None:
    bare = [FaceRecord("mine", "a.png", "train", {}, None, None)]
    with pytest.raises(UserError, match="no train photo has labels to ask about"):
        check_labels(bare, MixtureConfig())
    with pytest.raises(UserError, match="labels"):
        check_labels(bare, MixtureConfig(t2i_share=1.0, t2i_sources=("other",)))
    check_labels(bare, MixtureConfig(t2i_share=1.0))
    check_labels([replace(bare[0], labels={"Male": "no"})], MixtureConfig())


def test_encoding_no_photos_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no photos to encode"):
        _encode_all(np.zeros((0, 8, 8, 3), np.uint8), lambda images: images, tmp_path / "codes.npy")
    assert not list(tmp_path.iterdir())


def test_any_labelled_photos_are_reported_on_and_unknown_metrics_left_out(made_up_faces: Path) -> None:
    records = read_records(made_up_faces)
    logits, age = torch.zeros(len(records), ATTRIBUTE_LOGITS), torch.full((len(records),), 30.0)
    report = attribute_report(logits, age, records, *label_matrix(records))
    assert report.keys() == {"visible_20", "happiness_neutral", "gender", "age_mae"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    bare = [replace(record, labels={"Male": "no"}, age=None) for record in records]
    assert attribute_report(logits, age, bare, *label_matrix(bare)) == {}


def test_face_and_locate_start_from_the_weights_of_init(made_up_faces: Path, tmp_path: Path) -> None:
    FaceEncoder(FaceConfig(scale=0.5, widths=(8, 8, 8), neck=4)).save(tmp_path / "face")
    face = FaceTask(FaceTrainConfig(init=str(tmp_path / "face")), made_up_faces)
    assert torch.equal(face.encoder.head.weight.half(), FaceEncoder.load(tmp_path / "face").head.weight.half())
    assert face.encoder.config.scale == face.scale and face.encoder.head.weight.requires_grad
    Locator().save(tmp_path / "locate")
    locate = LocateTask(LocateTrainConfig(init=str(tmp_path / "locate"), photos=4), made_up_faces)
    started, saved = locate.locator.state_dict(), Locator.load(tmp_path / "locate").state_dict()
    assert all(torch.equal(started[name], saved[name]) for name in saved)
    assert all(parameter.requires_grad for parameter in locate.locator.parameters())


def test_resuming_a_finished_face_run_exports_the_same_files(made_up_faces: Path, tmp_path: Path) -> None:
    run("face", made_up_faces, tmp_path / "run", QUICK)
    first = {file.name: file.read_bytes() for file in (tmp_path / "run" / "export").iterdir()}
    run("face", made_up_faces, tmp_path / "run", QUICK, resume=True)
    assert first == {file.name: file.read_bytes() for file in (tmp_path / "run" / "export").iterdir()}
    assert json.loads(first["face.json"])["threshold"] != FaceConfig().threshold


def test_long_preparations_are_announced(
    made_up_faces: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unif2ace_core"), "propagate", True)  # the command line turns it off
    caplog.set_level(logging.INFO, "unif2ace_core")
    CodecTask(CodecTrainConfig(), made_up_faces)
    assert "bringing 10 photos to the training frame" in caplog.text
