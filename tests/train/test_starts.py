"""What a run may do with the model it starts from: untie the shared experts, freeze the dense trunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_toys import settings, tiny_task

from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.train.loop import train
from unif2ace_core.train.options import with_overrides
from unif2ace_core.train.processes import step_part
from unif2ace_core.train.recipes.model import (
    ModelTrainConfig,
    blended,
    copy_parts,
    generation_defaults,
    is_trunk,
    reads_clip,
    untied,
)
from unif2ace_core.weights.resolve import GenerationDefaults


def test_a_start_with_one_shared_expert_computes_the_same_with_a_copy_for_each_group(tiny_config: ModelConfig) -> None:
    tied, own = tiny_task(tiny_config), tiny_task(replace(tiny_config, shared_per_group=True))
    own.model.load_state_dict(untied(tied.model.state_dict(), own.model.config))
    batch = tied.batch(0, step_part(0, 0, 0, 1))
    with torch.no_grad():
        first, second = (float(task.loss(batch, torch.Generator())[0]) for task in (tied, own))
    assert first == pytest.approx(second, abs=1e-5)


def test_copies_that_a_start_has_already_are_kept(tiny_config: ModelConfig) -> None:
    config = replace(tiny_config, shared_per_group=True)
    state = UniF2ace(config).initialise(torch.Generator().manual_seed(0)).state_dict()
    kept = untied(state, config)
    assert kept.keys() == state.keys() and all(torch.equal(kept[name], state[name]) for name in state)
    one = {name: value for name, value in state.items() if "shared_mmu" not in name}
    assert untied(one, replace(config, shared_per_group=False)).keys() == one.keys()


def test_an_export_lies_between_a_run_and_its_start_where_both_have_a_tensor() -> None:
    own = {"a": torch.full((2,), 4.0), "b": torch.ones(2), "c": torch.ones(2), "steps": torch.tensor(3)}
    start = {"a": torch.zeros(2).half(), "b": torch.zeros(3).half(), "steps": torch.tensor(1)}
    found = blended(own, start, 0.25)
    assert torch.equal(found.pop("a"), torch.full((2,), 3.0))
    assert all(found[name] is own[name] for name in found) and found.keys() == own.keys() - {"a"}


def test_what_reads_the_clip_expert_is_told_by_name(tiny_config: ModelConfig) -> None:
    found = {name for name in UniF2ace(tiny_config).state_dict() if reads_clip(name)}
    assert {"resamplers.clip.k.weight"} < found
    assert all(name.startswith("resamplers.clip.") or ".sequence.groups.mmu." in name for name in found)


def test_a_share_of_no_start_is_refused() -> None:
    with pytest.raises(UserError, match="give init"):
        ModelTrainConfig(start_share=0.5)
    with pytest.raises(UserError, match="leave it or train_experts out"):
        ModelTrainConfig(start_share=0.5, init="old", train_experts=("clip",))
    with pytest.raises(UserError, match="out of range"):
        ModelTrainConfig(start_share=1.5, init="old")


def test_only_what_was_added_to_a_frozen_trunk_learns(tiny_config: ModelConfig, tmp_path: Path) -> None:
    task = tiny_task(tiny_config)
    before = {name: value.detach().clone() for name, value in task.model.named_parameters()}
    for name, parameter in task.model.named_parameters():
        parameter.requires_grad_(not is_trunk(name))
    train(task, settings(steps=12, learning_rate=3e-3), tmp_path)
    moved = {name for name, value in task.model.named_parameters() if not torch.equal(before[name], value)}
    assert moved and not {name for name in moved if is_trunk(name)}
    assert {"routers", "experts", "resamplers"} == {kind for kind in map(kind_of, moved) if kind}


def kind_of(name: str) -> str:
    """The part of the added model that a parameter belongs to."""
    return "resamplers" if name.startswith("resamplers") else "routers" if "router" in name else "experts"


def test_show_os_dense_model_is_the_trunk(tiny_config: ModelConfig) -> None:
    dense = UniF2ace(replace(tiny_config, moe_every=tiny_config.layers + 1))
    names = {name.replace(".mlp.", ".mlp.shared.") for name, _ in dense.named_parameters() if "resamplers" not in name}
    whole = {name.replace(".mlp.fc", ".mlp.shared.fc") for name, _ in UniF2ace(tiny_config).named_parameters()}
    assert {name for name in whole if is_trunk(name)} == names


def test_a_plan_says_what_a_run_still_needs() -> None:
    assert ModelTrainConfig(clip="here").missing() == ["codec"]
    assert ModelTrainConfig(clip="here", codec="there").missing() == []


def test_a_model_samples_as_set_else_as_its_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"generation": {"steps": 50, "guidance": 1.75, "sampler": "maskgit"}}')
    set_here = with_overrides(ModelTrainConfig(init=str(tmp_path)), {"guidance": "3"})
    assert generation_defaults(set_here) == GenerationDefaults(50, 3.0, GenerationDefaults.temperature, "maskgit")
    assert generation_defaults(ModelTrainConfig()) == GenerationDefaults()


def test_a_guidance_schedule_that_does_not_exist_is_refused_before_training() -> None:
    with pytest.raises(UserError, match="no guidance schedule 'never'"):
        ModelTrainConfig(guidance_schedule="never")


def test_an_export_takes_of_each_folder_the_part_that_it_was_given_for(tmp_path: Path) -> None:
    for folder in ("model", "better"):  # a whole model, and a clip expert that learned on
        (tmp_path / folder).mkdir()
        for name in ("codec.json", "clip.json", "clip.safetensors", "face.json"):
            (tmp_path / folder / name).write_text(folder)
    model, better = tmp_path / "model", tmp_path / "better"
    (tmp_path / "export").mkdir()
    copy_parts({"codec": model, "clip": better, "face": model, "locate": None}, tmp_path / "export")
    found = {path.name: path.read_text() for path in (tmp_path / "export").iterdir()}
    assert found == {"codec.json": "model", "clip.json": "better", "clip.safetensors": "better", "face.json": "model"}
