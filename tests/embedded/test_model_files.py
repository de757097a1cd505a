"""Model folders that are incomplete, damaged or foreign, and places that cannot be written: one line, nothing left.

Each case goes through the real command line: exit code 1, one `error:` line that names the file and says what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

Change = Callable[[bytes], bytes | None]
"""The bytes of a file of the model -> what stands in its place; None: nothing."""


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden and temporary ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def absent(_: bytes) -> None:
    return None


def empty(_: bytes) -> bytes:
    return b""


def noise(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(min(len(content), 20_000))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def lfs_pointer(_: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 29101714\n"


def pickled(_: bytes) -> bytes:
    return b"PK\x03\x04" + bytes(300)


def foreign_tensors(_: bytes) -> bytes:
    return save({"bert.embeddings.weight": torch.zeros(4, 4)})


def one_tensor_less(content: bytes) -> bytes:
    tensors = read(content)
    del tensors[min(tensors)]
    return save(tensors)


def one_shape_wrong(content: bytes) -> bytes:
    tensors = read(content)
    name = max(tensors, key=lambda key: tensors[key].ndim)
    tensors[name] = tensors[name][:-1].contiguous()
    return save(tensors)


def not_numbers(content: bytes) -> bytes:
    return save({name: torch.full_like(tensor, torch.nan) for name, tensor in read(content).items()})


def read(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(content)


def text(value: str) -> Change:
    return lambda _: value.encode()


def fields(**changes: Any) -> Change:
    """The config with some fields of its top level changed."""
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def sizes(**changes: Any) -> Change:
    """The config with some sizes of the model changed."""

    def change(content: bytes) -> bytes:
        values = json.loads(content)
        return json.dumps({**values, "model": {**values["model"], **changes}}).encode()

    return change


WEIGHTS: dict[str, tuple[Change, str]] = {
    "absent": (absent, "download it again"),
    "empty": (empty, "download it again"),
    "noise": (noise, "download it again"),
    "half": (half, "download it again"),
    "pickle": (pickled, "download it again"),
    "lfs": (lfs_pointer, "git lfs pull"),
    "foreign": (foreign_tensors, "another model"),
    "tensor missing": (one_tensor_less, "another model"),
    "other shape": (one_shape_wrong, "another model"),
}
CONFIGS: dict[str, tuple[Change, str]] = {
    "absent": (absent, ""),
    "empty": (empty, "restore"),
    "noise": (noise, "restore"),
    "lfs": (lfs_pointer, ""),
    "half": (half, "restore"),
    "list": (text("[1, 2]"), "restore"),
    "number": (text("3"), "restore"),
    "another program's": (text('{"model_type": "bert", "hidden_size": 768}'), "convert"),
    "later format": (fields(format="unif2ace-9"), ""),
    "sizes are a list": (fields(model=[1, 2]), ""),
    "sizes are null": (fields(model=None), ""),
    "unknown size": (sizes(colour="red"), "newer version"),
    "size is a word": (sizes(width="large"), ""),
    "size is null": (sizes(layers=None), ""),
    "size is zero": (sizes(heads=0), ""),
    "size is negative": (sizes(width=-256), ""),
    "size does not divide": (sizes(heads=7), ""),
    "grid is a number": (sizes(grid=8), ""),
    "other width": (sizes(width=128), "another model"),
    "fewer layers": (sizes(layers=2), "another model"),
    "unknown expert": (sizes(sequence_t2i=["copy", "zero", "noise", "dream"]), ""),
    "more chosen than there are": (sizes(top_k=9), ""),
    "defaults are a list": (fields(generation=[1, 2]), ""),
    "default is a word": (fields(generation={"guidance": "strong"}), ""),
    "unknown sampler": (fields(generation={"sampler": "best"}), ""),
    "unknown quantization": (fields(quantization={"bits": 3}), "newer version"),
    "not quantized": (fields(quantization={"bits": 8, "scheme": "int8"}), "restore"),
}
TOKENIZERS: dict[str, tuple[Change, str]] = {
    "absent": (absent, "complete"),
    "empty": (empty, "fetch the model again"),
    "noise": (noise, "complete"),
    "lfs": (lfs_pointer, "git lfs pull"),
    "half": (half, "fetch the model again"),
    "another object": (text('{"a": 1}'), "fetch the model again"),
    "another program's": (
        text('{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'),
        "another model",
    ),
}


@pytest.fixture
def fails(run: Any, model_folder: Callable[..., Path], embedded: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a command on a model with one file changed; checks all that bad files have in common, gives the error."""

    def call(name: str, change: Change, command: str = "generate") -> str:
        Image.new("RGB", (64, 64), "tan").save(tmp_path / "photo.png")
        folder = model_folder({name: change((embedded / name).read_bytes())})
        before = names(tmp_path)
        arguments = {
            "generate": ("generate", "a man", "--seed", 1, "--steps", 2),
            "ask": ("ask", "photo.png", "what emotion?", "--no-align"),
        }[command]
        result = run(*arguments, "--model", folder)
        assert (result.code, result.out) == (1, "")
        assert names(tmp_path) == before
        return result.error

    return call


@pytest.mark.parametrize("case", WEIGHTS)
@pytest.mark.parametrize("name", ["model.safetensors", "codec.safetensors"])
def test_bad_weights_are_named_with_the_remedy(fails: Any, name: str, case: str) -> None:
    change, remedy = WEIGHTS[case]
    error = fails(name, change)
    assert name in error and remedy in error


@pytest.mark.parametrize("case", [case for case in WEIGHTS if case != "absent"])
@pytest.mark.parametrize("part", ["clip", "face", "locator"])
def test_bad_experts_are_named_with_the_remedy(fails: Any, part: str, case: str) -> None:
    change, remedy = WEIGHTS[case]
    error = fails(f"{part}.safetensors", change, "ask")
    assert f"{part}.safetensors" in error and remedy in error


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_config_is_named(fails: Any, case: str) -> None:
    change, remedy = CONFIGS[case]
    error = fails("config.json", change)
    assert any(word in error for word in ("config.json", "model.safetensors", "quantization", "sampler"))
    assert remedy in error


@pytest.mark.parametrize("part", ["codec", "clip", "face", "locator"])
@pytest.mark.parametrize("case", ["absent", "empty", "noise", "list", "unknown field", "word"])
def test_bad_config_of_a_part_is_named(fails: Any, part: str, case: str) -> None:
    changes: dict[str, Change] = {
        "absent": absent,
        "empty": empty,
        "noise": noise,
        "list": text("[]"),
        "unknown field": fields(colour="red"),
        "word": fields(pixels="many", widths="wide"),
    }
    if case == "word" and part == "codec":
        changes["word"] = fields(bits="many")
    error = fails(f"{part}.json", changes[case], "generate" if part == "codec" else "ask")
    assert f"{part}.json" in error


@pytest.mark.parametrize("case", TOKENIZERS)
def test_bad_tokenizer_is_named_with_the_remedy(fails: Any, case: str) -> None:
    change, remedy = TOKENIZERS[case]
    error = fails("tokenizer.json", change)
    assert "tokenizer" in error and remedy in error


def test_larger_vocabulary_than_the_model_has_is_named(fails: Any) -> None:
    def add_words(content: bytes) -> bytes:
        values = json.loads(content)
        vocabulary = values["model"]["vocab"]
        for number in range(20_000):
            vocabulary[f"word{number}"] = len(vocabulary)
        return json.dumps(values).encode()

    assert "tokenizer.json" in fails("tokenizer.json", add_words)


@pytest.mark.parametrize("command", ["generate", "ask"])
def test_weights_that_are_no_numbers_are_noticed(fails: Any, command: str) -> None:
    assert "finite" in fails("model.safetensors", not_numbers, command)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("file.safetensors", "give the directory"),
        ("nothing", "give 'mini', a directory, or a hub id"),
        ("./nothing/here", "give 'mini', a directory, or a hub id"),
        ("", ""),
        ("a\x00b", ""),
        ("x" * 5000, ""),
        ("empty", "config.json does not exist"),
    ],
    ids=["file", "nothing", "path", "no name", "nul", "long", "empty folder"],
)
def test_model_that_is_not_there_is_one_line(run: Any, tmp_path: Path, model: str, words: str) -> None:
    (tmp_path / "file.safetensors").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    before = names(tmp_path)
    result = run("generate", "a man", "--model", model)
    assert result.code == 1 and words in result.error
    assert names(tmp_path) == before


def test_hub_that_cannot_be_reached_is_one_line(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(*args: Any, **options: Any) -> None:
        raise hub.errors.LocalEntryNotFoundError("no connection\nand more lines")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    result = run("generate", "a man", "--model", "someone/something")
    assert result.code == 1 and "someone/something" in result.error and "check the id and the network" in result.error
    assert names(tmp_path) == []


# ------------------------------------------------------------------------------------------------- writing


def test_picture_that_cannot_be_written_to_the_end_leaves_nothing(run: Any, full_disk: Any, tmp_path: Path) -> None:
    with full_disk(4096):
        result = run("generate", "a man", "--seed", 1, "--steps", 2, "-o", "a.png")
    assert result.code == 1 and "a.png" in result.error and "cannot be written" in result.error
    assert names(tmp_path) == []


def test_failed_write_keeps_the_old_picture(run: Any, full_disk: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with full_disk(4096):
        result = run("generate", "a man", "--seed", 1, "--steps", 2, "-o", "a.png", "--force")
    assert result.code == 1 and result.error
    assert names(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize("output", ["file/a.png", "nowhere/a.png", "/proc/nothing/", "/proc/a.png", "/dev/full"])
def test_output_that_cannot_be_written_is_one_line_with_the_remedy(run: Any, tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("")
    result = run("generate", "a man", "--seed", 1, "--steps", 2, "-o", output)
    assert (result.code, result.out) == (1, "")
    assert "choose another" in result.error or "mkdir" in result.error
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_one_line_with_the_remedy(run: Any, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("generate", "a man", "--seed", 1, "-o", "locked/")
    assert result.code == 1 and "choose another" in result.error
    assert names(tmp_path) == ["locked"]


def test_embedded_files_are_half_precision_and_complete(embedded: Path) -> None:
    for name in ("model", "codec", "clip", "face", "locator"):
        tensors = load_file(embedded / f"{name}.safetensors")
        assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
        assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    assert sum(file.stat().st_size for file in embedded.rglob("*") if file.is_file()) <= 60_000_000
