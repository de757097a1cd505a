"""`unif2ace quantize` and `--quantize` on the shipped model: the size promised, the same results, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, generate
from unif2ace_core.weights.quantized import quantize_model
from unif2ace_core.weights.resolve import LoadedModel, load_model


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden and temporary ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module", params=[8, 4], ids=["int8", "nf4"])
def small(request: pytest.FixtureRequest, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model quantized to 8 or 4 bits."""
    folder = tmp_path_factory.mktemp("quantized") / f"mini-{request.param}"
    quantize_model("mini", request.param, folder)
    return folder


def test_eight_bits_take_at_most_six_tenths(run: Any, embedded: Path, tmp_path: Path) -> None:
    result = run("quantize", "mini", "--bits", 8, "-o", "small", "--json")
    assert (result.code, result.err) == (0, "")
    (record,) = [json.loads(line) for line in result.lines]
    before, after = ((folder / "model.safetensors").stat().st_size for folder in (embedded, tmp_path / "small"))
    assert after <= 0.6 * before
    assert (record["transformer_before"], record["transformer_after"]) == (before, after)
    assert record["after_bytes"] < record["before_bytes"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small"]


def test_plain_output_names_both_sizes(run: Any, tmp_path: Path) -> None:
    result = run("quantize", "mini", "--bits", 8, "-o", "small")
    assert result.code == 0 and "MB ->" in result.out and "small" in result.out


def test_other_parts_are_copied_unchanged(small: Path, embedded: Path) -> None:
    for file in embedded.iterdir():
        if file.is_file() and not file.name.startswith(".") and file.name not in ("config.json", "model.safetensors"):
            assert (small / file.name).read_bytes() == file.read_bytes()


def test_quantized_weights_are_near_the_original(small: Path, loaded: LoadedModel) -> None:
    # a rounded matrix differs by half a step of 127 (int8) or of about 8 (nf4) of its largest values
    bound = 0.02 if "8" in small.name else 0.2
    state, original = load_model(str(small), "cpu", parts=()).transformer.state_dict(), loaded.transformer.state_dict()
    for name, tensor in original.items():
        difference = float((state[name] - tensor).norm())
        assert difference <= bound * float(tensor.norm()) + 1e-6, name


def test_quantized_model_generates_and_answers(
    run: Any, small: Path, tmp_path: Path, portraits: list[Image.Image]
) -> None:
    result = run("generate", "a man", "--seed", 1, "--steps", 3, "--model", small, "-o", "a.png")
    assert (result.code, result.err) == (0, "")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (128, 128) and image.text["model"] == str(small)  # type: ignore[attr-defined]
    portraits[0].save(tmp_path / "b.png")
    result = run("ask", "b.png", "what emotion?", "--no-align", "--model", small)
    assert (result.code, result.err) == (0, "") and len(result.lines) == 1


def test_quantized_model_gives_the_same_pixels_again(small: Path) -> None:
    model = load_model(str(small), "cpu", parts=())
    requests = [GenerateRequest("a man", 1)]
    first, second = (next(generate(model, requests, GenerateOptions(steps=2))).image for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_quantized_on_load_draws_and_answers_as_from_disk(
    run: Any, small: Path, tmp_path: Path, portraits: list[Image.Image]
) -> None:
    scheme = {"8": "int8", "4": "nf4"}[small.name[-1]]
    portraits[0].save(tmp_path / "b.png")
    found = []
    for name, options in (("disk", ("--model", small)), ("memory", ("--quantize", scheme))):
        result = run("generate", "a man", "--seed", 1, "--steps", 3, "-o", f"{name}.png", *options)
        assert (result.code, result.err) == (0, "")
        said = run("ask", "b.png", "what emotion?", "--no-align", "--json", *options)
        (record,) = [json.loads(line) for line in said.lines]
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.text["quantization"] == scheme  # type: ignore[attr-defined]
            found.append((np.asarray(image).tobytes(), record["answer"], record["confidence"]))
    assert found[0] == found[1]


def test_quantize_of_a_quantized_model_is_refused_in_words(run: Any, small: Path) -> None:
    result = run("generate", "a man", "--seed", 1, "--model", small, "--quantize", "int8")
    assert (result.code, result.out) == (1, "") and "quantized already" in result.error and str(small) in result.error


def test_other_schemes_end_with_two(run: Any) -> None:
    result = run("generate", "a man", "--quantize", "int3")
    assert (result.code, result.out) == (2, "") and "int8" in result.error


def test_neither_quantize_imports_bitsandbytes(python: Callable[..., Any], tmp_path: Path) -> None:
    script = """
import sys
sys.modules["bitsandbytes"] = None  # an import of it fails
from unif2ace_cli.app import main
code = main(["quantize", "mini", "--bits", "4", "-o", "small", "-q"])
sys.exit(code or main(["generate", "a man", "--seed", "1", "--steps", "2", "--quantize", "int8", "-o", "a.png"]))
"""
    done = python("-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_existing_output_is_kept_without_force(run: Any, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text("mine")
    result = run("quantize", "mini", "--bits", 8, "-o", "small")
    assert (result.code, result.out) == (1, "") and "--force" in result.error
    assert names(tmp_path) == ["small", "small/config.json"]
    assert (tmp_path / "small" / "config.json").read_text() == "mine"


def test_force_replaces_a_model(run: Any, tmp_path: Path) -> None:
    assert run("quantize", "mini", "--bits", 8, "-o", "small").code == 0
    assert run("quantize", "mini", "--bits", 4, "-o", "small", "--force").code == 0
    assert json.loads((tmp_path / "small" / "config.json").read_text())["quantization"]["bits"] == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small"]


def test_force_does_not_replace_what_is_no_model(run: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    result = run("quantize", "mini", "--bits", 8, "-o", "photos", "--force")
    assert result.code == 1 and "another folder" in result.error
    assert names(tmp_path) == ["photos", "photos/a.jpg"]


def test_quantized_model_is_not_quantized_again(run: Any, small: Path, tmp_path: Path) -> None:
    result = run("quantize", small, "--bits", 8, "-o", "twice")
    assert result.code == 1 and "quantized already" in result.error and "original" in result.error
    assert names(tmp_path) == []


def test_output_that_is_the_model_itself_is_refused(
    run: Any, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model_folder()
    before = names(tmp_path)
    result = run("quantize", folder, "--bits", 8, "-o", folder, "--force")
    assert result.code == 1 and "another" in result.error
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "arguments", [("--bits", 3, "-o", "small"), ("--bits", "x", "-o", "small"), ("--bits", 8), ("-o", "small"), ()]
)
def test_wrong_usage_ends_with_two(run: Any, tmp_path: Path, arguments: tuple[object, ...]) -> None:
    result = run("quantize", "mini", *arguments)
    assert (result.code, result.out) == (2, "") and "--help" in result.error
    assert names(tmp_path) == []


@pytest.mark.parametrize("output", ["file", "file/small", "/proc/small"])
def test_output_that_cannot_be_written_is_one_line(run: Any, tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("")
    result = run("quantize", "mini", "--bits", 8, "-o", output)
    assert result.code == 1 and "choose" in result.error
    assert names(tmp_path) == ["file"]


def test_full_disk_leaves_no_half_model(run: Any, full_disk: Any, tmp_path: Path) -> None:
    with full_disk(1_000_000):
        result = run("quantize", "mini", "--bits", 8, "-o", "small")
    assert result.code == 1 and "small" in result.error
    assert names(tmp_path) == []


def test_damaged_quantized_weights_are_one_line(run: Any, small: Path, model_folder: Callable[..., Path]) -> None:
    from safetensors.torch import save

    tensors = load_file(small / "model.safetensors")
    tensors["head.weight.absmax"] = tensors["head.weight.absmax"][:-1].contiguous()
    config = (small / "config.json").read_bytes()
    folder = model_folder({"config.json": config, "model.safetensors": save(tensors)})
    result = run("generate", "a man", "--seed", 1, "--model", folder)
    assert result.code == 1 and "model.safetensors is damaged" in result.error
