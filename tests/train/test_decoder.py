"""Recipe `decoder`: what it decodes for whom, and which models it refuses before any work.

pytest tests/train/test_decoder.py
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from unif2ace_core.errors import UserError
from unif2ace_core.experts.open_clip_tower import OpenClipConfig
from unif2ace_core.tokens.codec import Codec, CodecConfig, entries
from unif2ace_core.tokens.magvit import MagvitConfig
from unif2ace_core.train import material
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.decoder import DecoderTask, DecoderTrainConfig, check_model, with_grain

SETTINGS = {"photos": 8, "drawn": 4, "sampling_steps": 1, "batch_size": 12, "drawn_share": 0.25}


@pytest.fixture(scope="module")
def task(embedded: Path, made_up_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> DecoderTask:
    """The recipe on the embedded model and made-up faces, in lots of four rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(material, "LOT", 4)
        patch.setattr(material, "BATCH", 4)
        return DecoderTask(DecoderTrainConfig(init=str(embedded), plain_share=1.0, **SETTINGS), made_up_faces)


def test_photos_of_their_own_codes_are_decoded_from_these_alone_and_count_fully(task: DecoderTask) -> None:
    batch = task.batch(0, step_part(0, 0, 0, 1))
    rows = {"photos": 9, "real": 9, "restored": 9, "counts": 9, "drawn": 3, "kept": 3}
    assert {name: len(values) for name, values in batch.items()} == rows
    own = batch["counts"] == 1
    assert own.any() and not own.all()
    assert (batch["restored"][own].abs() == 1).all()
    assert (batch["restored"][~own].abs() < 1).any()


def test_what_is_decoded_has_the_share_of_expected_entries_that_is_asked_for(task: DecoderTask) -> None:
    codes, expected = task.drawn["codes"][:1], task.drawn["expected"][:1].float()
    own = entries(codes.long(), 13)
    for share in (0.25, 0.5):
        found = task.mixed(task.drawn, torch.tensor([0]), torch.tensor([share])).flatten(2).transpose(1, 2)
        torch.testing.assert_close(found, (1 - share) * own + share * expected)


def test_only_the_decoder_and_the_critic_learn(task: DecoderTask) -> None:
    loss, metrics = task.loss(task.batch(0, step_part(0, 0, 0, 1)), torch.Generator().manual_seed(0))
    loss.backward()
    learned = {name for name, p in task.modules().named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[0] for name in learned} == {"codec", "critic"}
    assert {f"codec.decoder.grains.{i}.amounts.weight" for i in (1, 2, 3)} <= learned
    assert all(name.startswith("codec.decoder.") for name in learned if name.startswith("codec."))
    assert set(metrics) == {"l1", "edge", "perceptual", "excess", "critic", "adversarial", "keep"}


def test_grain_changes_nothing_until_it_is_learned() -> None:
    plain = Codec(CodecConfig(pixels=64, bits=5, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8)))
    found = with_grain(plain, 4)
    codes = torch.arange(32).reshape(2, 16)
    assert found.config.grain and torch.equal(found.decode(codes), plain.decode(codes))
    assert with_grain(found, 2) is found and with_grain(plain, 0) is plain


@pytest.mark.parametrize(
    ("part", "config", "said"),
    [
        ("codec", MagvitConfig(), "is MAGVIT-v2"),
        (
            "clip",
            OpenClipConfig("open_clip", "a", "b", 8, 4, 32, (0.5,) * 3, (0.5,) * 3, "bicubic", 8, False, {}),
            "open_clip tower",
        ),
    ],
)
def test_parts_of_other_kinds_are_refused(embedded: Path, tmp_path: Path, part: str, config: Any, said: str) -> None:
    for name in ("codec", "clip"):
        shutil.copyfile(embedded / f"{name}.json", tmp_path / f"{name}.json")
    check_model(tmp_path)
    (tmp_path / f"{part}.json").write_text(json.dumps(asdict(config)))
    with pytest.raises(UserError, match=said):
        check_model(tmp_path)
