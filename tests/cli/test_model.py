"""`unif2ace model` with the real core on made-up checkpoints and experts: files, report, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import expert_toys
import pytest
import showo_toys as toys

from unif2ace_core.errors import UserError
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights import showo
from unif2ace_core.weights.resolve import load_model


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """New experts at toy sizes: the preset's would be most of the model."""
    real = showo.convert_showo
    monkeypatch.setattr(showo, "convert_showo", lambda *a, **k: real(*a, **k, preset=toys.PRESET))


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """A backbone and its codec."""
    return [
        str(toys.save_backbone(tmp_path / "showo", clip=True)),
        "--codec",
        str(toys.save_codec(tmp_path / "magvit")),
    ]


def test_report_counts_tensors_and_names_the_folder(command_line: Callable[..., Any], sources: list[str]) -> None:
    result = command_line("model", "convert", *sources, "-o", "made")
    assert result.code == 0 and result.lines[-1] == "made"
    assert "Show-o 64x64 with CLIP ViT: 4 layers of 32, 16 codes" in result.lines
    assert any(line.startswith("backbone: 4 unused: mm_projector.0.bias") for line in result.lines)
    assert "mm_projector is left out" in result.err and "no tokenizer" in result.err
    names = {file.name for file in Path("made").iterdir()}
    assert names == {"config.json", "model.safetensors", "codec.json", "codec.safetensors"}


def test_json_lists_every_tensor(command_line: Callable[..., Any], sources: list[str]) -> None:
    result = command_line("model", "convert", *sources, "-o", "made", "--json", "--dtype", "bf16", "--quiet")
    report = json.loads(result.out)
    assert result.err == "" and report["dtype"] == "bf16" and report["output"] == "made"
    assert set(report["model"]["used"]) | set(report["model"]["unused"]) == set(toys.backbone(clip=True))
    assert set(report["codec"]["used"]) | set(report["codec"]["unused"]) == set(toys.codec())
    assert report["model"]["missing"] == [] and report["model"]["fresh"]


def test_tokenizer_larger_than_the_vocabulary_is_refused(command_line: Callable[..., Any], sources: list[str]) -> None:
    TextTokenizer.train(["rosy cheeks, bushy eyebrows, a pointy nose, wavy hair, an oval face"], 300).save(
        "tokenizer.json"
    )
    too_large = command_line("model", "convert", *sources, "-o", "made", "--tokenizer", "tokenizer.json")
    assert too_large.code == 1 and f"has 300 entries, the model {toys.TEXT};" in too_large.error
    assert not Path("made").exists()


def test_model_with_codec_and_tokenizer_loads(
    command_line: Callable[..., Any], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = TextTokenizer.train(["rosy cheeks"], 300)
    tokenizer.save("tokenizer.json")
    monkeypatch.setattr(showo, "check_tokenizer", lambda path, config: None)
    assert command_line("model", "convert", *sources, "-o", "made", "--tokenizer", "tokenizer.json").code == 0
    monkeypatch.setattr(TextTokenizer, "load", classmethod(lambda cls, path: SimpleNamespace(size=40, end=7)))
    model = load_model("made", device="cpu")
    assert model.codec.config.grid == model.config.grid == (4, 4)
    assert (model.generation.sampler, model.generation.guidance) == ("maskgit", 1.75)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("model",), 2, "needs a command: convert"),
        (("model", "conver"), 2, "did you mean 'convert'"),
        (("model", "convert"), 2, "SRC"),
        (("model", "convert", "x"), 2, "needs -o DIR"),
        (("model", "convert", "x", "-o", "y", "--dtype", "int3"), 2, "--dtype"),
        (("model", "convert", "x", "-o", "y", "--pixels", "7"), 2, "--pixels"),
        (("model", "convert", "./nowhere", "-o", "y"), 1, "does not exist"),
        (("model", "convert", ".", "-o", "y"), 1, "no checkpoint"),
    ],
)
def test_wrong_usage_is_one_line(
    command_line: Callable[..., Any], args: tuple[str, ...], code: int, words: str
) -> None:
    result = command_line(*args)
    assert result.code == code and words in result.error and result.out == ""


def test_full_folder_needs_force(command_line: Callable[..., Any], sources: list[str]) -> None:
    assert command_line("model", "convert", *sources, "-o", "made").code == 0
    refused = command_line("model", "convert", *sources, "-o", "made")
    assert refused.code == 1 and "--force" in refused.error
    assert command_line("model", "convert", *sources, "-o", "made", "--force").code == 0


def test_hub_ids_are_fetched(command_line: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(name: str) -> Path:
        asked.append(name)
        raise UserError("no network; try again")

    monkeypatch.setattr(showo, "fetch_from_hub", fetch)
    result = command_line("model", "convert", "showlab/show-o", "-o", "made")
    assert result.code == 1 and result.error == "error: no network; try again" and asked == ["showlab/show-o"]


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from unif2ace_cli.app import main; main(['model', 'convert', '--help']);"
        "print({'torch', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()" and "--codec" in done.stdout


# --- Experts -------------------------------------------------------------------------------------------


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[str]:
    """An architecture of open_clip, and a checkpoint of it in the current folder."""
    name = expert_toys.architecture(tmp_path / "architectures")
    expert_toys.save_clip(tmp_path / "tiny.safetensors", name)
    yield name
    expert_toys.forget()


def test_a_clip_tower_becomes_a_folder(command_line: Callable[..., Any], tower: str) -> None:
    result = command_line("model", "expert", "open_clip", tower, "--weights", "tiny.safetensors", "-o", "clip")
    size = Path("clip/clip.safetensors").stat().st_size / 1e6
    expected = [f"tiny-vit (tiny.safetensors): 16 patches of 12 from 32 pixels, {size:.2f} MB", "clip"]
    assert (result.code, result.lines, result.err) == (0, expected, "")
    assert {file.name for file in Path("clip").iterdir()} == {"clip.json", "clip.safetensors"}
    again = ("model", "expert", "open_clip", tower, "--weights", "tiny.safetensors", "-o", "clip")
    refused = command_line(*again)
    assert refused.code == 1 and "clip/clip.json exists; add --force" in refused.error
    forced = command_line(*again, "--force", "--json")
    found = json.loads(forced.out)
    assert (found["kind"], found["width"], found["tokens"], found["output"]) == ("open_clip", 12, 16, "clip")
    assert found["bytes"] == Path("clip/clip.safetensors").stat().st_size


def test_a_face_model_stays_where_it_is_under_its_licence(command_line: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("insightface")
    expert_toys.save_recognition(tmp_path / "tiny.onnx")
    result = command_line("model", "expert", "insightface", "tiny.onnx", "-o", "face")
    assert result.code == 0 and result.lines == ["tiny.onnx: descriptors of 10 from 112 pixels", "face"]
    assert "non-commercial research only" in result.err and len(result.err.splitlines()) == 1
    assert [file.name for file in Path("face").iterdir()] == ["face.json"]
    quiet = command_line("model", "expert", "insightface", "tiny.onnx", "-o", "face", "-f", "--json", "--quiet")
    found = json.loads(quiet.out)
    assert quiet.err == "" and (found["dimension"], found["path"]) == (10, str(tmp_path / "tiny.onnx"))
    assert "non-commercial" in found["licence"]


def test_both_experts_may_share_a_folder(command_line: Callable[..., Any], tower: str, tmp_path: Path) -> None:
    pytest.importorskip("insightface")
    expert_toys.save_recognition(tmp_path / "tiny.onnx")
    clip = ("open_clip", tower, "--weights", "tiny.safetensors")
    for arguments in (clip, ("insightface", "tiny.onnx")):
        assert command_line("model", "expert", *arguments, "-o", "experts").code == 0
    assert {file.name for file in Path("experts").iterdir()} == {"clip.json", "clip.safetensors", "face.json"}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "KIND"),
        (("siglip", "x", "-o", "y"), 2, "'open_clip', 'insightface'"),
        (("open_clip", "ViT-S-32", "-o", "y"), 2, "open_clip needs -o DIR and --weights FILE|TAG"),
        (("open_clip", "ViT-S-32", "--weights", "w.pt"), 2, "open_clip needs -o DIR and --weights FILE|TAG"),
        (("insightface", "a.onnx", "-o", "y", "--weights", "w"), 2, "insightface needs -o DIR, and no --weights"),
        (("open_clip", "ViT-S32", "--weights", "w.pt", "-o", "y"), 1, "it has for example ViT-S-32,"),
        (("open_clip", "ViT-S-32", "--weights", "w.pt", "-o", "y"), 1, "neither a file nor a tag"),
        (("insightface", "a.onnx", "-o", "y"), 1, "a.onnx does not exist; give an .onnx file"),
    ],
)
def test_wrong_experts_are_one_line(
    command_line: Callable[..., Any], args: tuple[str, ...], code: int, words: str
) -> None:
    result = command_line("model", "expert", *args)
    assert result.code == code and words in result.error and result.out == ""
    assert not Path("y").exists()
