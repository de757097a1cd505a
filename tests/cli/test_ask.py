"""`unif2ace ask` and `describe`: arguments, plain and JSON forms, going on past a bad photo."""

import io
import json

import pytest
from PIL import Image


def png(size=(40, 40)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def test_one_photo_prints_just_the_answer(cli, core, photo):
    result = cli("ask", photo(), "what emotion?")
    assert (result.code, result.out, result.err) == (0, "yes, what emotion?\n", "")
    assert core.faces == [0] and core.asked[0][0].size == (128, 128)


def test_several_photos_print_path_and_answer(cli, photo):
    result = cli("ask", photo("b.png"), photo("a.png"), "glasses?")
    assert result.lines == ["b.png\tyes, glasses?", "a.png\tyes, glasses?"]


def test_folder_and_glob_print_path_and_answer(cli, photo):
    photo("d/2.jpg"), photo("d/1.png"), photo("d/.hidden.png"), photo("d/deep/3.png")
    expected = ["d/1.png\tyes, q", "d/2.jpg\tyes, q"]
    assert cli("ask", "d", "q").lines == cli("ask", "d/*.*", "q").lines == expected
    assert cli("ask", "d/**/*.png", "q").lines == ["d/1.png\tyes, q", "d/deep/3.png\tyes, q"]


@pytest.mark.parametrize("name", ["./photo.png", "d//photo.png", "d/../photo.png", "{tmp}/photo.png", "~/photo.png"])
def test_one_photo_prints_just_the_answer_and_keeps_its_name(cli, photo, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo(), photo("d/photo.png")
    name = name.format(tmp=tmp_path)
    assert cli("ask", name, "q").out == "yes, q\n"
    assert json.loads(cli("ask", name, "q", "--json").out)["image"] == name
    assert cli("describe", name).out == "A smiling person. About 30.\n"
    assert json.loads(cli("describe", name, "--json").out)["image"] == name


@pytest.mark.parametrize("argument", ["d", "./d", "d/*.png", "d//*"])
def test_folder_and_pattern_of_one_photo_still_name_it(cli, photo, argument):
    photo("d/a.png")
    assert cli("ask", argument, "q").lines == ["d/a.png\tyes, q"]


def test_json_is_one_object_a_line_with_the_promised_keys(cli, photo):
    result = cli("ask", photo(), "what emotion?", "--json")
    assert json.loads(result.out) == {
        "image": "photo.png", "question": "what emotion?", "answer": "yes, what emotion?",
        "confidence": 0.8765, "seconds": 0.123,
    }  # fmt: skip
    assert list(json.loads(result.out)) == ["image", "question", "answer", "confidence", "seconds"]


def test_photo_from_stdin(cli):
    result = cli("ask", "-", "glasses?", "--json", stdin=png())
    assert result.code == 0 and json.loads(result.out)["image"] == "-"
    assert (
        cli("ask", "-", "glasses?", stdin=b"").err
        == "error: stdin: empty, 0 bytes; copy or download the picture again\n"
    )


def test_bad_photo_is_reported_and_the_others_go_on(cli, photo, tmp_path):
    (tmp_path / "b.png").write_text("no picture")
    result = cli("ask", photo("a.png"), "b.png", "gone.png", photo("c.png"), "q")
    assert result.code == 1
    assert result.lines == ["a.png\tyes, q", "c.png\tyes, q"]
    assert [line.split(":")[:2] for line in result.err.splitlines()] == [
        ["error", " gone.png"],
        ["error", " b.png"],
    ]


def test_wrong_path_fails_before_the_model_is_loaded(cli, core):
    result = cli("ask", "gone.png", "q")
    assert result.code == 1 and result.err == "error: gone.png: no such file; check the path\n"
    assert core.loads == []


def test_photo_without_a_face_is_named_and_the_others_go_on(cli, core, photo):
    core.faceless = 50
    result = cli("ask", photo("a.png"), photo("b.png", (50, 50)), photo("c.png"), "q")
    assert result.code == 1 and len(result.lines) == 2
    assert result.err.startswith("error: b.png: no face found") and result.err.count("\n") == 1


def test_no_align_takes_the_picture_as_it_is(cli, core, photo):
    core.faceless = 64
    assert cli("ask", photo(), "q", "--no-align").code == 0
    assert core.faces == [] and core.asked[0][0].size == (64, 48)


def test_face_number_reaches_the_core(cli, core, photo):
    cli("ask", photo(), "q", "--face", 2)
    assert core.faces == [2]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "missing IMAGE and QUESTION"),
        (("what emotion?",), "at least one IMAGE"),
        (("photo.png",), "question seems to be missing"),
        (("photo.png", "photo.png"), "question seems to be missing"),
        (("photo.png", "gone.jpg"), "question seems to be missing"),
        (("photo.png", "folder"), "question seems to be missing"),
        (("photo.png", "-"), "question seems to be missing"),
        (("photo.png", " "), "question is empty"),
        (("-", "-", "q"), "once"),
        (("photo.png", "q", "--requests", "r"), "not both"),
        (("photo.png", "q", "--face", "-1"), "--face"),
    ],
)
def test_wrong_usage_says_what_is_missing(cli, core, photo, tmp_path, args, words):
    photo()
    (tmp_path / "folder").mkdir()
    result = cli("ask", *args)
    assert result.code == 2 and words in result.err and result.err.count("\n") == 1 and core.loads == []


def test_requests_are_batched_with_one_load(cli, core, photo, tmp_path):
    photo("a.png"), photo("b.png")
    rows = [{"image": name, "question": f"{name}{n}?"} for name in ("a.png", "b.png") for n in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = cli("ask", "--requests", "r.jsonl", "--batch-size", 4)
    assert result.lines == [f"{row['image']}\t{row['question']}\tyes, {row['question']}" for row in rows]
    assert len(core.loads) == 1 and core.batches == [4, 2]
    assert cli("ask", "--requests", "-", stdin=(tmp_path / "r.jsonl").read_bytes()).out == result.out


def test_photo_with_several_questions_is_aligned_once(cli, core, photo, tmp_path):
    photo("a.png")
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "question": "q"}\n' * 5)
    assert cli("ask", "--requests", "r.jsonl").code == 0
    assert len(core.faces) == 1 and len(core.asked) == 5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("what?", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"image": "a.png"}', "line 2: 'question' is missing"),
        ('{"question": "q", "image": 3}', "line 2: 'image' is missing, empty or not a text"),
    ],
)
def test_bad_requests_are_reported_by_line_and_the_others_go_on(cli, photo, tmp_path, line, words):
    good = json.dumps({"image": photo("a.png"), "question": "q"})
    (tmp_path / "r.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    result = cli("ask", "--requests", "r.jsonl")
    assert result.code == 1 and words in result.err and result.err.count("\n") == 1
    assert result.lines == ["a.png\tq\tyes, q"] * 2


def test_requests_without_a_good_line_fail_before_the_model_is_loaded(cli, core):
    result = cli("ask", "--requests", "-", stdin=b'what?\n{"image": "-", "question": "q"}\n')
    assert (result.code, result.out, result.err.count("\n"), core.loads) == (1, "", 2, [])
    assert "stdin, line 2: stdin holds the requests" in result.err


def test_request_with_a_bad_photo_is_reported_and_the_others_go_on(cli, photo, tmp_path):
    photo("a.png")
    (tmp_path / "r.jsonl").write_text('{"image": "gone.png", "question": "q"}\n{"image": "a.png", "question": "q"}\n')
    result = cli("ask", "--requests", "r.jsonl")
    assert result.code == 1 and result.lines == ["a.png\tq\tyes, q"] and "gone.png" in result.err


def test_answers_stay_on_one_line(cli, photo):
    assert cli("ask", photo(), "two\nlines\tand a tab").out == "yes, two lines and a tab\n"


def test_describe_prints_a_paragraph(cli, photo):
    assert cli("describe", photo()).out == "A smiling person. About 30.\n"


def test_describe_of_several_photos_is_a_line_each(cli, photo):
    photo("d/a.png"), photo("d/b.png")
    assert cli("describe", "d").lines == [f"d/{name}.png\tA smiling person. About 30." for name in "ab"]


def test_describe_json_has_the_attributes(cli, photo):
    record = json.loads(cli("describe", photo(), "--json").out)
    assert record == {
        "image": "photo.png", "description": "A smiling person. About 30.",
        "attributes": [{"name": "Smiling", "value": "yes", "probability": 0.9123}], "seconds": 0.5,
    }  # fmt: skip


def test_describe_goes_on_past_a_bad_photo(cli, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    result = cli("describe", "bad.jpg", photo())
    assert result.code == 1 and len(result.lines) == 1 and "bad.jpg: empty" in result.err
