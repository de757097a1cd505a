"""Questions and descriptions with the shipped model, through the command line: photos of all kinds, good and bad."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unif2ace_core.data.attributes import BY_NAME, SCHEMA
from unif2ace_core.model.sequence_moe import SequenceExperts
from unif2ace_core.tasks.understand import align_face, ask
from unif2ace_core.weights.resolve import LoadedModel, load_model

QUESTIONS = ("what emotion?", "is the person wearing glasses?", "what colour is the hair?")


def save(picture: Image.Image, path: Path, **options: Any) -> str:
    """Write a picture; its name in the current folder."""
    picture.save(path, **options)
    return path.name


def records(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines]


def assert_same_answers(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal words; probabilities equal up to the rounding of sums in another order."""
    assert [each["answer"] for each in found] == [each["answer"] for each in expected]
    for each, other in zip(found, expected, strict=True):
        assert each["confidence"] == pytest.approx(other["confidence"], abs=2e-3)


def sizes_of(portraits: list[Image.Image]) -> list[Image.Image]:
    """Four faces as photos of four sizes and shapes."""
    shapes = ((128, 128), (301, 200), (90, 160), (640, 640))
    return [face.resize(shape, Image.Resampling.BICUBIC) for face, shape in zip(portraits, shapes)]


# ----------------------------------------------------------------------------------------- the two commands


def test_ask_prints_the_answer_alone(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    result = run("ask", save(face_photo, tmp_path / "a.png"), QUESTIONS[0])
    assert (result.code, result.err) == (0, "")
    assert len(result.lines) == 1 and result.lines[0].strip()


def test_ask_json_has_the_promised_keys(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    result = run("ask", save(face_photo, tmp_path / "a.jpg", quality=95), QUESTIONS[1], "--json")
    (record,) = records(result)
    assert result.code == 0 and list(record) == ["image", "question", "answer", "confidence", "seconds"]
    assert (record["image"], record["question"]) == ("a.jpg", QUESTIONS[1])
    assert isinstance(record["answer"], str) and record["answer"]
    assert 0 <= record["confidence"] <= 1 and record["seconds"] > 0


def test_photo_on_stdin_gives_the_answer_of_the_file(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    name = save(face_photo, tmp_path / "a.png")
    piped = run("ask", "-", QUESTIONS[0], stdin=(tmp_path / name).read_bytes())
    assert piped.code == 0 and piped.out == run("ask", name, QUESTIONS[0]).out


def test_describe_prints_one_paragraph(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    result = run("describe", save(face_photo, tmp_path / "a.png"))
    assert (result.code, result.err) == (0, "")
    assert len(result.lines) == 1 and result.lines[0].strip()


def test_describe_json_reads_every_category(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    (record,) = records(run("describe", save(face_photo, tmp_path / "a.png"), "--json"))
    assert list(record) == ["image", "description", "attributes", "seconds"]
    assert [each["name"] for each in record["attributes"]] == [attribute.name for attribute in SCHEMA]
    for each in record["attributes"]:
        values = BY_NAME[each["name"]].values
        assert list(each) == ["name", "value", "probability"] and each["value"] in values
        assert 1 / len(values) - 1e-3 <= each["probability"] <= 1


def test_photos_of_mixed_sizes_are_answered_as_one_at_a_time(
    run: Any, tmp_path: Path, portraits: list[Image.Image]
) -> None:
    names = [save(photo, tmp_path / f"{i}.png") for i, photo in enumerate(sizes_of(portraits))]
    together = run("ask", *names, QUESTIONS[2], "--no-align", "--json", "--batch-size", 4)
    alone = run("ask", *names, QUESTIONS[2], "--no-align", "--json", "--batch-size", 1)
    assert (together.code, alone.code) == (0, 0)
    assert [each["image"] for each in records(together)] == names
    assert_same_answers(records(together), records(alone))


def test_several_questions_about_several_photos_are_answered_as_one_at_a_time(
    run: Any, tmp_path: Path, portraits: list[Image.Image]
) -> None:
    names = [save(photo, tmp_path / f"{i}.png") for i, photo in enumerate(sizes_of(portraits)[:2])]
    wanted = [{"image": name, "question": question} for name in names for question in QUESTIONS[:2]]
    (tmp_path / "wanted.jsonl").write_text("".join(json.dumps(each) + "\n" for each in wanted))
    result = run("ask", "--requests", "wanted.jsonl", "--no-align", "--json", "--batch-size", 4)
    assert result.code == 0
    assert [{key: each[key] for key in ("image", "question")} for each in records(result)] == wanted
    alone = [
        record
        for question in QUESTIONS[:2]
        for record in records(run("ask", *names, question, "--no-align", "--json", "--batch-size", 1))
    ]
    order = {(each["image"], each["question"]): each for each in alone}
    assert_same_answers(records(result), [order[each["image"], each["question"]] for each in wanted])


def test_answers_are_one_printable_line(loaded: LoadedModel, run: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    names = [save(Image.fromarray(each), tmp_path / f"{i}.png") for i, each in enumerate(noise)]
    result = run("ask", *names, "what colour is the sky?", "--no-align")
    assert result.code == 0 and len(result.lines) == 3
    assert all(line.count("\t") == 1 and line.replace("\t", "").isprintable() for line in result.lines)


@pytest.mark.parametrize("question", ["🙂?", "は?", "what " * 10_000, "<|endoftext|>"])
def test_any_question_gets_an_answer(run: Any, tmp_path: Path, portraits: list[Image.Image], question: str) -> None:
    result = run("ask", save(portraits[0], tmp_path / "a.png"), "--no-align", "--", question)
    assert result.code == 0 and len(result.lines) == 1
    notes = result.err.splitlines()
    assert len(notes) == (len(question) > 1000) and all("too long" in note for note in notes)


def test_same_photo_gives_the_same_answer_again(loaded: LoadedModel, portraits: list[Image.Image]) -> None:
    pairs = [(portraits[0], QUESTIONS[0])]
    (first,), (second,) = ask(loaded, pairs), ask(loaded, pairs)
    assert first.answer == second.answer
    assert first.confidence == pytest.approx(second.confidence, rel=1e-6)  # a BLAS rounds by where its inputs lie


# ------------------------------------------------------------------------------------------- which face


def test_photo_without_a_face_is_one_line_with_the_remedy(run: Any, tmp_path: Path) -> None:
    result = run("ask", save(Image.new("RGB", (320, 240), "grey"), tmp_path / "a.png"), QUESTIONS[0])
    assert (result.code, result.out) == (1, "")
    assert "a.png: no face found" in result.error and "use a photo" in result.error


def test_face_out_of_range_says_how_many_there_are(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    result = run("ask", save(face_photo, tmp_path / "a.png"), QUESTIONS[0], "--face", 7)
    assert (result.code, result.out) == (1, "")
    assert "a.png: --face 7" in result.error and "1 found" in result.error


def test_face_is_brought_to_the_frame_it_was_made_in(loaded: LoadedModel, face_photo: Image.Image) -> None:
    assert loaded.locator is not None
    (face,) = loaded.locator.find(face_photo)
    middle, side = ((480 - 224) // 3 + 112, 180), 224  # where the conftest puts it
    assert abs(face.frame.cx - middle[0]) < 0.12 * side and abs(face.frame.cy - middle[1]) < 0.12 * side
    assert 0.75 < face.frame.size / side < 1.33
    assert align_face(loaded, face_photo).size == (loaded.codec.config.pixels,) * 2


def test_faces_are_counted_from_the_largest(loaded: LoadedModel, run: Any, tmp_path: Path, faces: list) -> None:
    photo = Image.new("RGB", (640, 320), (128, 132, 140))
    photo.paste(faces[0].resize((120, 120)), (40, 100))
    photo.paste(faces[1].resize((256, 256)), (330, 30))
    assert loaded.locator is not None
    found = loaded.locator.find(photo)
    assert [face.frame.cx > 320 for face in found] == [True, False]
    name = save(photo, tmp_path / "two.png")
    assert [run("ask", name, QUESTIONS[0], "--face", n).code for n in (0, 1, 2)] == [0, 0, 1]


# ------------------------------------------------------------------------------------- without the experts


@pytest.mark.parametrize(
    "missing", [("clip",), ("face",), ("locator",), ("clip", "face", "locator")], ids=lambda names: "+".join(names)
)
def test_model_answers_without_its_experts(
    run: Any, tmp_path: Path, model_folder: Callable[..., Path], portraits: list[Image.Image], missing: tuple[str, ...]
) -> None:
    folder = model_folder({f"{name}.{kind}": None for name in missing for kind in ("json", "safetensors")})
    name = save(portraits[0], tmp_path / "a.png")
    options = () if "locator" in missing else ("--no-align",)
    result = run("ask", name, QUESTIONS[0], "--model", folder, *options)
    assert (result.code, result.err) == (0, "") and len(result.lines) == 1
    result = run("describe", name, "--model", folder, "--json", *options)
    (record,) = records(result)
    assert result.code == 0 and record["description"]
    assert len(record["attributes"]) == (0 if "clip" in missing else len(SCHEMA))


@pytest.mark.parametrize("missing", ["clip", "face"])
def test_absent_experts_are_never_routed_to(
    model_folder: Callable[..., Path],
    portraits: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    gates: list[tuple[tuple[str, ...], torch.Tensor]] = []
    route = SequenceExperts.route

    def record(self: SequenceExperts, *args: Any) -> torch.Tensor:
        gates.append((self.names, route(self, *args)))
        return gates[-1][1]

    monkeypatch.setattr(SequenceExperts, "route", record)
    model = load_model(str(model_folder({f"{missing}.safetensors": None})), "cpu")
    list(ask(model, [(face, QUESTIONS[0]) for face in portraits[:3]]))
    assert len(gates) == sum(model.config.is_moe(layer) for layer in range(model.config.layers))
    for names, values in gates:
        assert bool((values[:, names.index(missing)] == 0).all())
        assert torch.allclose(values.sum(1), torch.ones(len(values)))


def test_experts_change_the_probabilities(
    loaded: LoadedModel, portraits: list[Image.Image], model_folder: Callable[..., Path]
) -> None:
    bare = load_model(str(model_folder()), "cpu", parts=())
    assert bare.clip is None and bare.face is None
    pairs = [(face, "how old is this person?") for face in portraits]
    both = zip(ask(loaded, pairs), ask(bare, pairs), strict=True)
    assert any((one.answer, one.confidence) != (other.answer, other.confidence) for one, other in both)


# --------------------------------------------------------------------------------------- kinds of pictures


def test_photo_turned_by_exif_is_handled_as_upright(run: Any, tmp_path: Path, face_photo: Image.Image) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    names = [save(face_photo, tmp_path / "upright.png")]
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        names.append(save(face_photo.transpose(turn), tmp_path / f"exif{orientation}.png", exif=exif))
    result = run("ask", *names, QUESTIONS[0], "--json")
    assert result.code == 0
    upright, *turned = records(result)
    assert len(turned) == len(turns)
    assert_same_answers(turned, [upright] * len(turned))


def test_lossless_formats_and_modes_do_not_matter(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    face = portraits[0]
    opaque = face.copy()
    opaque.putalpha(255)
    names = [
        save(face, tmp_path / "rgb.png"),
        save(opaque, tmp_path / "rgba.png"),
        save(face, tmp_path / "a.bmp"),
        save(face, tmp_path / "a.tif", compression="tiff_lzw"),
        save(face, tmp_path / "a.webp", lossless=True),
        save(face, tmp_path / "a.ppm"),
        save(face, tmp_path / "wrong_suffix.jpg", format="PNG"),
    ]
    result = run("ask", *names, QUESTIONS[0], "--no-align", "--json")
    assert (result.code, result.err) == (0, "")
    first, *others = records(result)
    assert_same_answers(others, [first] * (len(names) - 1))


def test_grey_pictures_of_any_depth_are_one_picture(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    grey = portraits[0].convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    layered = grey.copy()
    layered.putalpha(255)
    names = [
        save(grey, tmp_path / "8bit.png"),
        save(deep, tmp_path / "16bit.png"),
        save(deep, tmp_path / "16bit.tif"),
        save(layered, tmp_path / "alpha.png"),
        save(grey.convert("RGB"), tmp_path / "rgb.png"),
    ]
    result = run("ask", *names, QUESTIONS[0], "--no-align", "--json")
    assert (result.code, result.err) == (0, "")
    first, *others = records(result)
    assert_same_answers(others, [first] * (len(names) - 1))


def test_animation_counts_as_its_first_frame(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    frames = [face.convert("P", palette=Image.Palette.ADAPTIVE) for face in portraits[:3]]
    names = [
        save(frames[0], tmp_path / "still.gif"),
        save(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=50),
    ]
    result = run("ask", *names, QUESTIONS[0], "--no-align", "--json")
    assert (result.code, result.err) == (0, "")
    still, moving = records(result)
    assert_same_answers([moving], [still])


def test_unusual_pictures_are_answered(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    face = portraits[0]
    clear = face.copy()
    clear.putalpha(0)
    names = [
        save(face.convert("CMYK"), tmp_path / "cmyk.jpg"),
        save(face.convert("CMYK"), tmp_path / "cmyk.tif"),
        save(face.convert("1"), tmp_path / "1bit.png"),
        save(face.convert("P"), tmp_path / "palette.png"),
        save(face.convert("LA"), tmp_path / "grey_alpha.png"),
        save(Image.fromarray(np.asarray(face.convert("L"), dtype=np.float32)), tmp_path / "float.tif"),
        save(face.convert("LAB"), tmp_path / "lab.tif"),
        save(clear, tmp_path / "clear.png"),
        save(face.resize((2000, 20)), tmp_path / "strip.png"),
        save(face.resize((16, 16)), tmp_path / "tiny.png"),
    ]
    result = run("ask", *names, QUESTIONS[0], "--no-align", "--json")
    assert (result.code, result.err) == (0, "")
    assert [each["image"] for each in records(result)] == names


# -------------------------------------------------------------------------------------------- bad pictures


def encoded(kind: str, **options: Any) -> bytes:
    """A small noisy picture as a file's bytes."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def one_pixel() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


BAD_PICTURES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty.png": (lambda: b"", "0 bytes", "download"),
    "text.jpg": (lambda: b"this is no picture\n" * 20, "not an image", "use PNG, JPEG"),
    "noise.png": (lambda: np.random.default_rng(2).bytes(5000), "not an image", "use PNG, JPEG"),
    "page.pdf": (lambda: b"%PDF-1.7\n%abc\n", "not an image", "use PNG, JPEG"),
    "cut.jpg": (lambda: encoded("JPEG")[:1500], "truncated", "download it again"),
    "cut.png": (lambda: encoded("PNG")[:3000], "truncated", "download it again"),
    "cut.gif": (lambda: encoded("GIF")[:1200], "truncated", "download it again"),
    "cut.webp": (lambda: encoded("WEBP")[:500], "", ""),  # decoders differ in what they call it
    "pixel.png": (one_pixel, "1 x 1 pixels", "at least 16 x 16"),
    "bomb.png": (bomb, "decompression bomb", "scale it down"),
    "pointer.jpg": (lambda: b"version https://git-lfs.github.com/spec/v1\noid x\n", "git-LFS pointer", "git lfs pull"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
@pytest.mark.parametrize("command", ["ask", "describe"])
def test_bad_picture_is_one_line_with_the_remedy(run: Any, tmp_path: Path, name: str, command: str) -> None:
    make, problem, remedy = BAD_PICTURES[name]
    (tmp_path / name).write_bytes(make())
    result = run(command, name, *([QUESTIONS[0]] if command == "ask" else []))
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"error: {name}: ")
    assert problem in result.error and remedy in result.error
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_bad_pictures_do_not_stop_the_good_ones(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    for name, (make, _, _) in BAD_PICTURES.items():
        (tmp_path / name).write_bytes(make())
    good = [save(face, tmp_path / f"good{i}.png") for i, face in enumerate(portraits[:2])]
    names = [good[0], *BAD_PICTURES, "missing.png", good[1]]
    result = run("ask", *names, QUESTIONS[0], "--no-align", "--json", "--batch-size", 3)
    assert result.code == 1 and "Traceback" not in result.err
    assert [each["image"] for each in records(result)] == good
    complaints = result.err.splitlines()
    assert len(complaints) == len(BAD_PICTURES) + 1
    assert all(line.startswith("error: ") for line in complaints)
    assert {line.split(": ")[1] for line in complaints} == {*BAD_PICTURES, "missing.png"}


def test_folder_is_answered_file_by_file(run: Any, tmp_path: Path, portraits: list[Image.Image]) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("b.png", "a.jpg"):
        save(portraits[0], tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    result = run("ask", "photos", QUESTIONS[0], "--no-align")
    assert result.code == 0
    assert [line.split("\t")[0] for line in result.lines] == ["photos/a.jpg", "photos/b.png"]
