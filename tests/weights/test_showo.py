"""Show-o's checkpoints become ours: names, sizes, exact start, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import showo_toys as toys
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unif2ace_core.config import PRESETS, Group
from unif2ace_core.diffusion.samplers import sample
from unif2ace_core.errors import UserError
from unif2ace_core.model.sequence_moe import Exploration, exploration_draws
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tasks import understand
from unif2ace_core.tasks.generate import PromptedSpan
from unif2ace_core.tokens.sequence import collate, mmu_row, question_ids, t2i_row
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.objectives import balance_terms
from unif2ace_core.weights import streams
from unif2ace_core.weights.resolve import LoadedModel, load_model, load_transformer, read_model_config
from unif2ace_core.weights.showo import ConvertReport, convert_showo, trunk_sources
from unif2ace_core.weights.streams import open_checkpoint

PROMPTS = ([11, 12, 13], [21, 22, 23, 24, 25])
POSITIONS = toys.SIDE**2


def convert(source: Path, output: Path, **options: Any) -> ConvertReport:
    """A conversion at the toy sizes."""
    return convert_showo(str(source), output, **{"dtype": "fp32", "preset": toys.PRESET, **options})


def load(folder: Path) -> UniF2ace:
    values, config = read_model_config(folder)
    return load_transformer(folder, values, config, torch.device("cpu"))


@pytest.fixture
def model(tmp_path: Path) -> UniF2ace:
    """The toy backbone as our model, in fp32."""
    convert(toys.save_backbone(tmp_path / "backbone"), tmp_path / "model")
    return load(tmp_path / "model")


def features(model: UniF2ace, rows: int) -> Features:
    config, g = model.config, torch.Generator().manual_seed(1)
    sizes = ((7, config.clip_width), (1, config.face_width), (config.noise_tokens, config.noise_width))
    return Features(*(torch.randn(rows, *size, generator=g) for size in sizes))


def logits(model: UniF2ace, ids: list[int], group: Group) -> Tensor:
    """All logits (L, vocabulary) of one sequence, with every expert present."""
    batch = torch.tensor([ids])
    positions = torch.arange(len(ids)).unsqueeze(0)
    span = torch.tensor([ids.index(toys.TEXT + 1) + 1])
    groups, mask = torch.full_like(batch, int(group)), toys.visible(ids)[None, None]
    with torch.no_grad():
        return model.head(model(batch, positions, mask, groups, span, features(model, 1)).hidden)[0]


def given_codes() -> tuple[Tensor, Tensor]:
    """Codes (2, N), and the same with about half of them masked."""
    g = torch.Generator().manual_seed(5)
    codes = torch.randint(0, toys.CODES, (2, POSITIONS), generator=g)
    return codes, torch.where(torch.rand(2, POSITIONS, generator=g) < 0.5, toys.CODES, codes)


# --- Names and sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("side", [16, 32])
def test_four_variants_import(tmp_path: Path, side: int, clip: bool) -> None:
    report = convert(toys.save_backbone(tmp_path / "in", clip, side), tmp_path / "out", dtype="fp16")
    pixels = side * 16
    assert report.variant == f"{pixels}x{pixels} {'with' if clip else 'without'} CLIP ViT"
    assert report.config.grid == (side, side) and report.config.sequence_rho == 0
    assert set(report.model.used) == set(toys.backbone())
    assert sorted(report.model.unused) == sorted(set(toys.backbone(clip=clip)) - set(toys.backbone()))
    assert report.model.missing == ()
    assert read_model_config(tmp_path / "out")[1] == report.config
    assert report.config.question_template == "USER: \n{question} ASSISTANT:" and not report.config.question_end
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert set(tensors) == set(report.model.used.values()) | set(report.model.fresh)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert report.parameters == sum(tensor.numel() for tensor in tensors.values())
    generation = json.loads((tmp_path / "out" / "config.json").read_text())["generation"]
    assert (generation["steps"], generation["guidance"]) == ((50, 5.0) if side == 32 else (16, 1.75))


def test_trunk_of_the_1_8b_preset_has_the_437_published_tensors() -> None:
    with torch.device("meta"):
        names = UniF2ace(PRESETS["1.8b"]).state_dict()
    published = [part for name in names for part in trunk_sources(name)]
    assert len(published) == len(set(published)) == 437


@pytest.mark.parametrize("form", ["shards", "bin", "ckpt"])
def test_every_form_of_a_checkpoint_gives_the_same_model(tmp_path: Path, form: str) -> None:
    tensors, folder = toys.backbone(), toys.save_backbone(tmp_path / "plain")
    other = tmp_path / form
    other.mkdir()
    (other / "config.json").write_text((folder / "config.json").read_text())
    if form == "shards":
        names = sorted(tensors)
        parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in parts.items():
            save_file({name: tensors[name] for name in part}, other / file)
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (other / "pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    elif form == "bin":
        torch.save(tensors, other / "pytorch_model.bin")
    else:
        torch.save({"state_dict": tensors, "step": 3}, other / "last.ckpt")
    for source in (folder, other):
        convert(source, tmp_path / f"from-{source.name}")
    first, second = (tmp_path / f"from-{name}" / "model.safetensors" for name in ("plain", form))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("most", "opened"), [(2**28, 1), (0, len(toys.codec()))])
def test_a_torch_file_is_opened_anew_only_when_much_of_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, opened: int
) -> None:
    tensors, calls = toys.codec(), []
    torch.save(tensors, tmp_path / "codec.bin")
    checkpoint = open_checkpoint(tmp_path / "codec.bin")
    load = streams.load_torch
    monkeypatch.setattr(streams, "MAPPED", most)
    monkeypatch.setattr(streams, "load_torch", lambda file: calls.append(file) or load(file))
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in tensors.items())
    assert len(calls) == opened


def test_size_of_pictures_is_asked_for_where_no_config_tells(tmp_path: Path) -> None:
    source = toys.save_backbone(tmp_path / "in")
    (source / "config.json").unlink()
    preset = replace(toys.PRESET, codes=toys.CODES)
    with pytest.raises(UserError, match="--pixels"):
        convert(source, tmp_path / "out", preset=preset)
    assert convert(source, tmp_path / "out", preset=preset, pixels=64).config.grid == (4, 4)


# --- The exact start -----------------------------------------------------------------------------------


def test_outputs_are_those_of_a_plain_dense_trunk(model: UniF2ace) -> None:
    state, (codes, masked) = toys.backbone(), given_codes()
    for prompt, row in zip(PROMPTS, masked.tolist()):
        ids = toys.t2i_ids(prompt, row)
        assert (logits(model, ids, Group.T2I) - toys.dense_logits(state, ids)).abs().max() < 1e-5
    ids = toys.mmu_ids(codes[0].tolist(), [31, 32, 33])
    assert (logits(model, ids, Group.MMU) - toys.dense_logits(state, ids)).abs().max() < 1e-5


def test_both_moe_levels_are_the_identity_bit_for_bit(model: UniF2ace) -> None:
    dense = UniF2ace(replace(model.config, moe_every=99)).eval()
    ours = {name.replace(".shared.", "."): value for name, value in model.state_dict().items()}
    dense.load_state_dict({name: ours[name] for name in dense.state_dict()})
    codes, masked = given_codes()
    rows = [
        *(t2i_row(prompt, row, toys.END, model.config) for prompt, row in zip(PROMPTS, masked.tolist())),
        mmu_row(codes[0].tolist(), [([31, 32], [33])], toys.END, model.config),
    ]
    batch = collate(rows, model.config)
    inputs = (batch.ids, batch.positions, batch.mask, batch.group, batch.span, features(model, len(rows)))
    with torch.no_grad():
        assert torch.equal(model(*inputs).hidden[batch.valid], dense(*inputs).hidden[batch.valid])


def test_experts_move_with_exploration_and_sequence_routers_not_without(model: UniF2ace) -> None:
    for probability in (1.0, 0.0):
        copy = UniF2ace(model.config)
        copy.load_state_dict(model.state_dict())
        train(copy, probability)
        before, after = model.state_dict(), copy.state_dict()
        still = {name for name in before if torch.equal(before[name], after[name])}
        routers = {name for name in before if ".sequence." in name and ".router." in name}
        assert routers
        if probability:
            # attention over the single face embedding is 1 whatever queries and keys are: they cannot learn, though on
            # some processors the fused kernel rounds their gradient to something other than 0
            assert still <= {f"resamplers.face.{name}" for name in ("queries", "q.weight", "k.weight")}
        else:
            assert routers <= still
            assert {name for name in before if ".rho." in name} <= still


def train(model: UniF2ace, probability: float, steps: int = 50) -> None:
    """Some steps on random targets; Zero is explored too, as after the warm-up of rho."""
    codes, masked = given_codes()
    rows = [t2i_row(prompt, row, toys.END, model.config) for prompt, row in zip(PROMPTS, masked.tolist())]
    rows += [mmu_row(row, [([31, 32], [33, 34])], toys.END, model.config) for row in codes.tolist()]
    batch, given = collate(rows, model.config), features(model, len(rows))
    targets = torch.randint(model.config.vocabulary, batch.ids.shape, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        exploring = Exploration(probability, True, exploration_draws(model.config, len(rows), generator))
        output = model(batch.ids, batch.positions, batch.mask, batch.group, batch.span, given, exploration=exploring)
        loss = torch.nn.functional.cross_entropy(model.head(output.hidden).flatten(0, 1), targets.flatten())
        (loss + 0.01 * sum(balance_terms(output).values())).backward()
        optimizer.step()
        optimizer.zero_grad()


# --- Numbers of Show-o's own program -------------------------------------------------------------------
# Computed by showlab/Show-o (commit 45a5a2d) with the toy weights in fp32.

FROZEN: dict[str, Any] = json.loads((Path(__file__).parent / "showo_numbers.json").read_text())


@pytest.fixture
def whole(tmp_path: Path) -> LoadedModel:
    """The toy backbone, codec and tokenizer as a model of ours, in fp32."""
    codec, tokenizer = toys.save_codec(tmp_path / "magvit"), toys.save_tokenizer(tmp_path / "phi")
    convert(toys.save_backbone(tmp_path / "backbone"), tmp_path / "whole", codec=str(codec), tokenizer=tokenizer)
    return load_model(str(tmp_path / "whole"), "cpu")


def test_logits_are_show_os(model: UniF2ace) -> None:
    codes, masked = given_codes()
    for number, (prompt, row) in enumerate(zip(PROMPTS, masked.tolist())):
        found = logits(model, toys.t2i_ids(prompt, row), Group.T2I)
        assert torch.allclose(found[-(POSITIONS + 1), :6], torch.tensor(FROZEN["t2i"]["logits"][number]), atol=1e-4)
        assert abs(float(found.double().sum()) - FROZEN["t2i"]["sum"][number]) < 2e-2
    for number, row in enumerate(codes.tolist()):
        found = logits(model, toys.mmu_ids(row, FROZEN["mmu_question"]), Group.MMU)
        assert torch.allclose(found[-1, :6], torch.tensor(FROZEN["mmu_logits"][number]), atol=1e-4)


def test_a_converted_model_is_asked_in_show_os_words(whole: LoadedModel) -> None:
    asked = question_ids(toys.QUESTION, whole.tokenizer, whole.config)
    assert asked == FROZEN["mmu_question"]
    row = given_codes()[0][0].tolist()
    assert mmu_row(row, [(asked, None)], whole.tokenizer.end, whole.config).ids == toys.mmu_ids(row, asked)


def test_masks_are_show_os(whole: LoadedModel) -> None:
    codes, masked = given_codes()
    end, config, turn = whole.tokenizer.end, whole.config, (FROZEN["mmu_question"], None)
    drawn = [t2i_row(prompt, row, end, config) for prompt, row in zip(PROMPTS, masked.tolist())]
    asked = [mmu_row(row, [turn], end, config) for row in codes.tolist()]
    for name, rows in (("t2i", drawn), ("mmu", asked)):
        batch = collate(rows, config)
        for mask, valid, row, pairs in zip(batch.mask[:, 0], batch.valid, rows, FROZEN["visible"][name], strict=True):
            assert torch.equal(mask[valid][:, valid], toys.visible(row.ids))
            assert int(mask[valid].sum()) == pairs


def test_greedy_answers_are_show_os(whole: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = FROZEN["mmu_tokens"]
    assert len(set(first)) > 5 and second[-1] == toys.END and len(set(second)) == len(second) < len(first)
    monkeypatch.setattr(understand, "LONGEST_ANSWER", len(first))
    said, decode = [], whole.tokenizer.decode
    monkeypatch.setattr(whole.tokenizer, "decode", lambda ids: said.append(list(ids)) or decode(ids))
    photos = understand.Photos(given_codes()[0], None, None, None)
    answers = understand.decode_answers(whole, photos, [0, 1], [toys.QUESTION] * 2)
    assert said == [first, second[:-1]]
    assert [answer for answer, _ in answers] == [text.strip() for text in FROZEN["mmu_texts"]]


@torch.no_grad()
def test_maskgit_makes_show_os_codes_from_the_same_random_numbers(whole: LoadedModel) -> None:
    noise = features(whole.transformer, 2).noise
    assert noise is not None
    prompted, seen = PromptedSpan(whole, PROMPTS, noise, 1.75), []

    def posterior(codes: Tensor) -> Tensor:
        seen.append(codes.clone())
        return prompted.posterior(codes)

    codes = sample(
        "maskgit",
        posterior,
        codes=toys.CODES,
        positions=POSITIONS,
        generators=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        steps=6,
        temperature=1.0,
        grid=whole.config.grid,
        options={"anneal": "showo", "greedy_draws": False},
    )
    assert torch.stack([*seen, codes], 1).tolist() == FROZEN["trajectory"]  # of every step


def test_capitals_are_put_only_where_a_tokenizer_has_none() -> None:
    assert understand._sentence(" yes. the hair is blond.") == "Yes. The hair is blond."
    assert understand._sentence(" no. iPhones are shown.\n") == "no. iPhones are shown."


def test_end_of_an_answer_is_the_tokenizers_end_mark(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.load(toys.save_tokenizer(tmp_path))
    assert (tokenizer.end, tokenizer.size) == (toys.END, toys.TEXT)
    assert tokenizer.decode(tokenizer.encode("Yes, She Is.")) == "Yes, She Is."  # cased, as CodeGen's


# --- Memory --------------------------------------------------------------------------------------------

MEASURE = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from unif2ace_core.config import PRESETS
from unif2ace_core.train.objectives import balance_terms
from unif2ace_core.weights.showo import convert_showo
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
preset = replace(PRESETS["1.8b"], codes=32, experts=4, expert_hidden=8, resampler=16)
small, large = (convert_showo, sys.argv[1], Path(sys.argv[2] + "0")), (convert_showo, sys.argv[3], Path(sys.argv[2]))
small[0](small[1], small[2], preset=preset, dtype="fp16")  # what the first run loads and allocates once
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
report = large[0](large[1], large[2], preset=preset, dtype="fp16")
print(status("VmHWM") - before, report.bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks are read from /proc")
def test_conversion_holds_a_few_tensors_not_the_model(tmp_path: Path) -> None:
    small = toys.save_backbone(tmp_path / "small")
    wide: dict[str, Tensor] = {}
    for layer in range(16):
        for name, tensor in toys.backbone().items():
            if "layers.0." in name:
                shape = [512 if size == toys.WIDTH else 2048 if size == toys.FFN else 64 for size in tensor.shape]
                wide[name.replace("layers.0.", f"layers.{layer}.")] = torch.zeros(shape)
    for name, tensor in toys.backbone().items():
        if "layers" not in name:
            wide[name] = torch.zeros([512 if size == toys.WIDTH else size for size in tensor.shape])
    (tmp_path / "large").mkdir()
    save_file(wide, tmp_path / "large" / "pytorch_model.safetensors")
    (tmp_path / "large" / "config.json").write_text((small / "config.json").read_text())
    arguments = [str(small), str(tmp_path / "out"), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    peak, size = map(int, done.stdout.split())
    assert size > 80e6  # 48 M parameters in two bytes
    assert peak < 0.5 * size, f"{peak / 1e6:.0f} MB for a result of {size / 1e6:.0f} MB"


# --- What is refused -----------------------------------------------------------------------------------


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/unif2ace-unpickled",)


def refused(tmp_path: Path, file: Path, words: str, **options: Any) -> None:
    """The conversion fails in one line and leaves nothing behind."""
    with pytest.raises(UserError, match=words) as error:
        convert(file, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-LFS pointer"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-LFS pointer"),
        ("a.safetensors", b"not at all", "not a readable checkpoint"),
        ("a.bin", b"\x80\x02}q\x00.", "old format"),
        ("a.txt", b"words", "no checkpoint"),
        ("a.index.json", b"{}", "weight_map"),
        ("a.index.json", b'{"weight_map": {"x": "b.safetensors"}}', "b.safetensors"),
        ("a.index.json", b'{"weight_map": {"x": "../b.safetensors"}}', "outside"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, tmp_path / name, words)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    source = toys.save_backbone(tmp_path / "in") / "pytorch_model.safetensors"
    source.write_bytes(source.read_bytes()[:-100])
    refused(tmp_path, source, "not a readable checkpoint")
    torch.save(toys.backbone(), tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes((tmp_path / "a.bin").read_bytes()[:-3000])
    refused(tmp_path, tmp_path / "a.bin", "truncated")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": toys.backbone(), "callbacks": Evil()}, tmp_path / "a.ckpt")
    refused(tmp_path, tmp_path / "a.ckpt", "could run code")
    assert not Path("/tmp/unif2ace-unpickled").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"showo.lm_head.bias": None}, "lacks 1 tensors .showo.lm_head.bias"),
        ({"showo.model.layers.2.mlp.fc1.bias": torch.zeros(5)}, r"layers.2.mlp.fc1.bias has shape \(5,\), expected"),
        ({"showo.model.embed_tokens.weight": torch.zeros(9)}, "embed_tokens.weight has shape"),
        ({"showo.model.layers.0.self_attn.q_layernorm.weight": torch.zeros(5)}, "heads of 5"),
        ({"showo.model.final_layernorm.bias": torch.full((toys.WIDTH,), torch.nan)}, "norm.bias holds infinite"),
        ({f"showo.model.layers.1.{n}": None for n in toys.backbone() if "layers.1." in n}, "layer 1"),
    ],
)
def test_damaged_backbones_are_named(tmp_path: Path, change: dict[str, Tensor | None], words: str) -> None:
    gone = {name: None for name in toys.backbone() if "layers.1." in name}
    source = toys.save_backbone(tmp_path / "in", **(gone if words == "layer 1" else change))
    refused(tmp_path, source, words)


def test_values_beyond_fp16_are_named(tmp_path: Path) -> None:
    large = {"showo.model.final_layernorm.bias": torch.full((toys.WIDTH,), 1e6)}
    source = toys.save_backbone(tmp_path / "in", **large)
    refused(tmp_path, source, "--dtype bf16", dtype="fp16")
    assert convert(source, tmp_path / "out", dtype="bf16").dtype == "bf16"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"text_model.embeddings.weight": torch.zeros(3)}, "no Show-o checkpoint"),
        (toys.codec(), "--codec"),
        ({"embedding.weight": torch.zeros(3), "blocks.0.norm.weight": torch.zeros(3)}, "unif2ace model already"),
    ],
)
def test_foreign_checkpoints_are_named(tmp_path: Path, tensors: dict[str, Tensor], words: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    refused(tmp_path, tmp_path / "a.safetensors", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_vq_tokens": 17}, "no square"),
        ({"vocab_size": 99}, "do not fit"),
        ({"codebook_size": 64}, "do not fit"),
        ({"codebook_size": "many"}, "codebook_size = 'many'"),
    ],
)
def test_configs_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    source = toys.save_backbone(tmp_path / "in")
    (source / "config.json").write_text(json.dumps({**toys.stated(), **change}))
    refused(tmp_path, source, words)


def test_output_in_the_way_is_kept(tmp_path: Path) -> None:
    source = toys.save_backbone(tmp_path / "in")
    convert(source, tmp_path / "out")
    with pytest.raises(UserError, match="--force"):
        convert(source, tmp_path / "out")
    assert convert(source, tmp_path / "out", force=True).dtype == "fp32"
    with pytest.raises(UserError, match="holds the checkpoint"):
        convert(source, source, force=True)
    assert open_checkpoint(source).shapes  # still there


def test_unknown_dtype_is_named(tmp_path: Path) -> None:
    refused(tmp_path, toys.save_backbone(tmp_path / "in"), "fp16, fp32, bf16", dtype="int3")
