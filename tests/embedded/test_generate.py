"""Generation with the shipped model: a picture depends on its prompt, seed and options alone, and unusual prompts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unif2ace_core.data.opposite import OPPOSITE
from unif2ace_core.data.parse import parse
from unif2ace_core.diffusion.samplers import SAMPLERS
from unif2ace_core.errors import UserError
from unif2ace_core.tasks.choose import candidate_seed, scores
from unif2ace_core.tasks.generate import (
    GenerateOptions,
    GenerateRequest,
    SampledCodes,
    generate,
    resolve_options,
)
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.weights.resolve import LoadedModel, load_model

REQUESTS = [
    GenerateRequest("a man", 1),
    GenerateRequest("rosy cheeks, hoop earrings, blond hair and a wide smile under a straw hat", 2),
    GenerateRequest("glasses " * 200, 3),  # longer than the model's text length
    GenerateRequest("an old woman with grey hair", 2**63 - 1),
    GenerateRequest("🙂", 5),
]
FEW = GenerateOptions(steps=4)


def pixels(
    model: LoadedModel, requests: Sequence[GenerateRequest], options: GenerateOptions = FEW, batch_size: int = 1
) -> list[np.ndarray]:
    return [np.asarray(made.image) for made in generate(model, requests, options, batch_size=batch_size)]


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[np.ndarray]:
    """The pictures of REQUESTS, each in a batch of its own."""
    return pixels(loaded, REQUESTS)


@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_same_seed_gives_the_same_pixels_whatever_the_batch_size(
    loaded: LoadedModel, alone: list[np.ndarray], batch_size: int
) -> None:
    together = pixels(loaded, REQUESTS, batch_size=batch_size)
    different = [int((one != other).sum()) for one, other in zip(alone, together, strict=True)]
    assert different == [0] * len(REQUESTS)


@pytest.mark.slow
def test_no_pixel_of_many_pictures_depends_on_the_batch(loaded: LoadedModel) -> None:
    # sums in another order shift the odds by a millionth, enough to flip a draw in one picture of ten
    requests = [GenerateRequest(REQUESTS[seed % 2].prompt, seed) for seed in range(24)]
    alone, together = (np.stack(pixels(loaded, requests, batch_size=size)) for size in (1, 8))
    assert np.array_equal(alone, together)


def test_place_in_the_batch_does_not_matter(loaded: LoadedModel, alone: list[np.ndarray]) -> None:
    backwards = pixels(loaded, REQUESTS[::-1], batch_size=5)[::-1]
    assert all(np.array_equal(one, other) for one, other in zip(alone, backwards, strict=True))


def test_without_guidance_the_batch_does_not_matter_either(loaded: LoadedModel) -> None:
    options = GenerateOptions(steps=4, guidance=0.0)
    one, many = pixels(loaded, REQUESTS[:3], options), pixels(loaded, REQUESTS[:3], options, batch_size=3)
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_the_command_line_gives_the_same_pixels_whatever_the_batch_size(run: Any, tmp_path: Path) -> None:
    for name, batch_size in (("one", 1), ("all", 3)):
        result = run("generate", "a man", "-n", 3, "--seed", 7, "--steps", 3, "--batch-size", batch_size, "-o", name)
        assert result.code == 0 and len(result.lines) == 3
    for file in (tmp_path / "one").iterdir():
        assert np.array_equal(read_pixels(file), read_pixels(tmp_path / "all" / file.name))


def test_another_seed_or_another_prompt_gives_another_picture(loaded: LoadedModel) -> None:
    requests = [GenerateRequest("a man", 1), GenerateRequest("a man", 2), GenerateRequest("a woman with a hat", 1)]
    first, reseeded, reworded = pixels(loaded, requests, batch_size=3)
    assert not np.array_equal(first, reseeded)
    assert not np.array_equal(first, reworded)


def test_equal_requests_in_one_batch_give_equal_pictures(loaded: LoadedModel) -> None:
    first, second = pixels(loaded, [REQUESTS[0]] * 2, batch_size=2)
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "sampler",
    # first_hitting makes a step for each code
    [pytest.param(name, marks=pytest.mark.slow) if name == "first_hitting" else name for name in SAMPLERS],
)
def test_every_sampler_runs_and_repeats_itself(loaded: LoadedModel, sampler: str) -> None:
    options = GenerateOptions(steps=3, sampler=sampler)
    (made,) = generate(loaded, REQUESTS[:1], options)
    assert made.options.sampler == sampler and made.image.mode == "RGB"
    assert made.image.size == (loaded.codec.config.pixels,) * 2
    (again,) = pixels(loaded, REQUESTS[:1], options)
    assert np.array_equal(np.asarray(made.image), again)


@pytest.mark.parametrize("change", [{"steps": 12}, {"guidance": 2.0}, {"guidance": 0.0}, {"temperature": 0.1}])
def test_each_option_changes_the_picture(
    loaded: LoadedModel, alone: list[np.ndarray], change: dict[str, float]
) -> None:
    (changed,) = pixels(loaded, REQUESTS[1:2], GenerateOptions(**{"steps": FEW.steps, **change}))
    assert not np.array_equal(changed, alone[1])


def test_temperature_zero_is_a_picture_too(loaded: LoadedModel) -> None:
    (picture,) = pixels(loaded, REQUESTS[:1], GenerateOptions(steps=2, temperature=0.0))
    assert picture.std() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"guidance": -1.0},
        {"temperature": -0.5},
        {"guidance": 1e9},
        {"guidance_rescale": 1.5},
        {"cooling": 1.5},
        {"repair": -0.5},
    ],
)
def test_options_out_of_range_are_named(loaded: LoadedModel, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(options)).replace('_', '-')} "):
        list(generate(loaded, REQUESTS[:1], GenerateOptions(**options)))


def test_each_guidance_schedule_gives_its_own_picture(loaded: LoadedModel) -> None:
    names = ("constant", "linear", "cosine", "window:0.25-0.75")
    made = [pixels(loaded, REQUESTS[:1], replace(FEW, guidance=5.0, guidance_schedule=name))[0] for name in names]
    assert len({picture.tobytes() for picture in made}) == len(names)


def test_rescaled_guidance_gives_its_own_picture(loaded: LoadedModel) -> None:
    plain, half, whole = (
        pixels(loaded, REQUESTS[:1], replace(FEW, guidance=5.0, guidance_rescale=share))[0] for share in (0.0, 0.5, 1.0)
    )
    assert len({picture.tobytes() for picture in (plain, half, whole)}) == 3


def test_cooling_gives_its_own_picture(loaded: LoadedModel) -> None:
    made = [pixels(loaded, REQUESTS[:1], replace(FEW, temperature=0.9, cooling=share))[0] for share in (0.0, 0.3)]
    assert len({picture.tobytes() for picture in made}) == 2


def test_repair_changes_a_picture_a_little(loaded: LoadedModel) -> None:
    plain, mended = (pixels(loaded, REQUESTS[:1], replace(FEW, repair=share))[0] for share in (0.0, 0.6))
    assert 0 < np.abs(plain.astype(float) - mended).mean() < 30


def test_what_is_decoded_lies_between_what_was_drawn_and_what_was_expected(loaded: LoadedModel) -> None:
    codes, expected = torch.zeros(1, 64, dtype=torch.long), torch.full((1, 64, 13), 0.5)
    drawn = SampledCodes(codes, expected, [False])
    assert (drawn.entries(loaded, 0.0) == -1).all() and (drawn.entries(loaded, 1.0) == 0.5).all()
    assert (drawn.entries(loaded, 0.5) == -0.25).all()
    assert (drawn._replace(expected=None).entries(loaded, 0.5) == -1).all()


def test_repair_by_a_decoder_that_has_not_learned_it_is_warned_of(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = replace(loaded.codec.config, repair=0.0)
    codec = copy(loaded.codec)
    codec.config = sizes
    unlearned = replace(loaded, codec=codec)
    assert resolve_options(unlearned, GenerateOptions()).repair == 0
    assert not caplog.records
    resolve_options(unlearned, GenerateOptions(repair=0.5))
    assert "has not learned" in caplog.text


def test_a_schedule_gives_the_same_pixels_whatever_the_batch_size(loaded: LoadedModel) -> None:
    options = GenerateOptions(steps=4, guidance_schedule="window:0.25-0.75")
    one, many = pixels(loaded, REQUESTS[:3], options), pixels(loaded, REQUESTS[:3], options, batch_size=3)
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_a_window_over_all_steps_is_constant_guidance(loaded: LoadedModel) -> None:
    constant, window = (
        pixels(loaded, REQUESTS[:1], GenerateOptions(steps=4, guidance_schedule=name))[0]
        for name in ("constant", "window:0-1")
    )
    assert np.array_equal(constant, window)


def with_schedule(config: bytes, schedule: str | None) -> bytes:
    """A model's config.json with another default guidance schedule, or as written before there were any."""
    values = json.loads(config)
    values["generation"].pop("guidance_schedule", None)
    values["generation"] |= {} if schedule is None else {"guidance_schedule": schedule}
    return json.dumps(values).encode()


@pytest.mark.parametrize(("schedule", "used"), [(None, "constant"), ("linear", "linear")])
def test_a_model_may_have_a_guidance_schedule_and_older_ones_are_constant(
    embedded: Path, model_folder: Callable[..., Path], schedule: str | None, used: str
) -> None:
    config = with_schedule((embedded / "config.json").read_bytes(), schedule)
    model = load_model(str(model_folder({"config.json": config})), device="cpu", parts=())
    (made,) = generate(model, REQUESTS[:1], GenerateOptions(steps=2))
    assert made.options.guidance_schedule == used


def test_an_unknown_guidance_schedule_of_a_model_is_one_line(
    run: Any, embedded: Path, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder({"config.json": with_schedule((embedded / "config.json").read_bytes(), "best")})
    result = run("generate", "a man", "--model", folder)
    assert result.code == 1 and "no guidance schedule 'best'" in result.error


def test_what_guidance_leads_away_from_changes_the_picture_and_is_told(loaded: LoadedModel) -> None:
    request = [GenerateRequest("a woman without bangs", 1)]
    made = [
        next(generate(loaded, request, replace(FEW, guidance=3.0, negative=text))) for text in ("", "a hat", OPPOSITE)
    ]
    assert len({each.image.tobytes() for each in made}) == 3
    assert [each.negative for each in made[:2]] == ["", "a hat"]
    assert parse(made[2].negative)["Bangs"] == "yes"
    assert next(generate(loaded, request, replace(FEW, guidance=0.0))).negative == ""  # whatever the model's own is
    with pytest.raises(UserError, match="--negative acts through guidance"):
        next(generate(loaded, request, replace(FEW, guidance=0.0, negative="a hat")))


def test_the_best_of_several_is_the_one_that_is_read_as_the_prompt(loaded: LoadedModel) -> None:
    prompt = "a woman with blond hair wearing a hat"
    each = [GenerateRequest(prompt, candidate_seed(5, number)) for number in range(3)]
    alone = pixels(loaded, each)
    read = scores(loaded, [prompt] * 3, to_image_tensor(torch.from_numpy(np.stack(alone))))
    (best,) = pixels(loaded, each[:1], replace(FEW, best_of=3))
    assert np.array_equal(best, alone[read.index(max(read))])


def test_a_model_that_reads_no_attributes_cannot_choose(model_folder: Callable[..., Path]) -> None:
    model = load_model(str(model_folder({})), device="cpu", parts=())
    with pytest.raises(UserError, match="leave --best-of out"):
        list(generate(model, REQUESTS[:1], replace(FEW, best_of=2)))


def test_what_the_file_says_makes_the_same_picture_again(run: Any, tmp_path: Path) -> None:
    settings = ("--steps", 5, "--guidance", 3.5, "--temperature", 0.7, "--sampler", "halton")
    settings += (
        "--guidance-schedule",
        "window:0.25-1",
        "--guidance-rescale",
        0.6,
        "--cooling",
        0.1,
        "--repair",
        0.6,
        "--best-of",
        2,
    )
    assert run("generate", "a woman, straw hat 🙂", "--seed", 11, *settings, "-o", "first.png").code == 0
    with Image.open(tmp_path / "first.png") as image:
        said = dict(image.text)  # type: ignore[attr-defined]
    names = ("seed", "steps", "guidance", "guidance_schedule", "guidance_rescale", "negative", "temperature", "sampler")
    options = [f"--{name.replace('_', '-')}={said[name]}" for name in (*names, "cooling", "repair", "best_of", "model")]
    assert run("generate", said["prompt"], *options, "-o", "again.png").code == 0
    assert np.array_equal(read_pixels(tmp_path / "first.png"), read_pixels(tmp_path / "again.png"))


def test_json_says_what_the_file_says(run: Any, tmp_path: Path) -> None:
    result = run("generate", "a man", "--seed", 3, "--steps", 2, "--json")
    record = json.loads(result.out)
    names = (
        "prompt path seed steps guidance guidance_schedule guidance_rescale negative sampler temperature cooling repair"
    )
    assert list(record) == [*names.split(), "best_of", "model", "seconds"]
    with Image.open(tmp_path / record["path"]) as image:
        said = dict(image.text)  # type: ignore[attr-defined]
    keys = set(record) - {"path", "seconds"}
    assert {key: said[key] for key in keys} == {key: str(record[key]) for key in keys}
    assert said["version"]


@pytest.mark.slow
def test_another_process_gives_the_same_pixels(
    run: Any, python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    command = ["generate", "rosy cheeks, hoop earrings", "--seed", "7", "--steps", "5"]
    assert run(*command, "-o", "here.png").code == 0
    there = python("-m", "unif2ace_cli", *command, "-o", "there.png")
    assert (there.returncode, there.stdout) == (0, "there.png\n")
    assert np.array_equal(read_pixels(tmp_path / "here.png"), read_pixels(tmp_path / "there.png"))


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
def test_empty_prompt_is_a_usage_error_that_leaves_nothing(run: Any, tmp_path: Path, prompt: str) -> None:
    result = run("generate", prompt)
    assert result.code == 2 and "empty" in result.error and "for example" in result.error
    assert list(tmp_path.iterdir()) == []


def test_prompt_of_ten_thousand_words_makes_a_picture_with_a_note(run: Any, tmp_path: Path) -> None:
    words = " ".join(["a woman with very long brown hair"] * 1430)
    for name, ending in (("a", "and a hat"), ("b", "and a beard")):
        result = run("generate", f"{words} {ending}", "--seed", 1, "--steps", 3, "-o", f"{name}.png")
        assert result.code == 0
        assert result.err.startswith("note: ") and "too long" in result.err and result.err.count("\n") == 1
        assert len(result.err) < 200
    with Image.open(tmp_path / "b.png") as image:
        assert image.text["prompt"] == f"{words} and a beard"  # type: ignore[attr-defined]
    # only the beginning is read
    assert np.array_equal(read_pixels(tmp_path / "a.png"), read_pixels(tmp_path / "b.png"))


@pytest.mark.parametrize("prompt", ["🙂👩🏽‍🦰", "日本の女性", "a\x00b\x1b[31m", "\udcff", "<|endoftext|>", "../x"])
def test_any_text_makes_one_picture_with_a_safe_name(run: Any, tmp_path: Path, prompt: str) -> None:
    result = run("generate", "--seed", 1, "--steps", 2, "--", prompt)
    assert (result.code, result.err) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == result.lines


def test_end_mark_in_a_prompt_is_ordinary_text(loaded: LoadedModel) -> None:
    assert loaded.tokenizer.end not in loaded.tokenizer.encode("a man <|endoftext|> a hat")


def test_prompts_from_a_file_are_those_from_the_command_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a hat", "seed": 4}\n{"prompt": "a beard", "seed": 4}\n')
    assert run("generate", "--prompts", "p.jsonl", "--steps", 3, "-o", "many").code == 0
    for prompt in ("a hat", "a beard"):
        (path,) = run("generate", prompt, "--seed", 4, "--steps", 3).lines
        assert np.array_equal(read_pixels(tmp_path / path), read_pixels(tmp_path / "many" / path))
