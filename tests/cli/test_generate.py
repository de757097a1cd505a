"""`unif2ace generate`: names, seeds, metadata, files that appear whole or not at all."""

import json
import os
import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unif2ace_cli import options
from unif2ace_cli.outputs import slug


def test_default_name_is_prompt_and_seed_in_the_current_folder(cli, tmp_path):
    result = cli("generate", "Rosy cheeks, hoop earrings", "--seed", 7)
    assert (result.code, result.out) == (0, "rosy-cheeks-hoop-earrings_s7.png\n")
    assert Image.open(tmp_path / result.lines[0]).size == (32, 32)


def test_image_carries_its_settings(cli, tmp_path):
    cli("generate", "rosy cheeks 🙂", "--seed", 7, "--steps", 4, "--guidance", 1.5, "-o", "a.png")
    text = Image.open(tmp_path / "a.png").text
    assert {"prompt": "rosy cheeks 🙂", "seed": "7", "steps": "4", "guidance": "1.5"}.items() <= text.items()
    assert {"sampler": "maskgit", "temperature": "1.0", "model": "mini"}.items() <= text.items()
    assert text["version"] and text["software"].startswith("unif2ace")


def test_json_is_one_object_a_line_with_the_promised_keys(cli):
    result = cli("generate", "smile", "-n", 2, "--seed", 3, "--json", "--sampler", "halton")
    records = [json.loads(line) for line in result.lines]
    names = (
        "prompt path seed steps guidance guidance_schedule guidance_rescale negative sampler temperature cooling repair"
    )
    assert [list(record) for record in records] == [[*names.split(), "best_of", "model", "seconds"]] * 2
    assert [record["seed"] for record in records] == [3, 4]
    assert records[0] | {"seconds": 0} == {
        "prompt": "smile", "path": "smile_s3.png", "seed": 3, "steps": 16, "guidance": 2.0,
        "guidance_schedule": "constant", "guidance_rescale": 0.0, "negative": "", "sampler": "halton",
        "temperature": 1.0, "cooling": 0.0, "repair": 0.0, "best_of": 1, "model": "mini", "seconds": 0,
    }  # fmt: skip


@pytest.mark.parametrize("schedule", ["linear", "window:0.2-0.8"])
def test_guidance_schedule_is_in_the_image_and_in_the_json(cli, tmp_path, schedule):
    result = cli("generate", "smile", "--guidance-schedule", schedule, "--json", "-o", "a.png")
    assert json.loads(result.out)["guidance_schedule"] == schedule
    assert Image.open(tmp_path / "a.png").text["guidance_schedule"] == schedule


def test_what_a_face_shall_not_be_and_the_choice_are_in_the_image_and_in_the_json(cli, tmp_path):
    result = cli("generate", "smile", "--negative", "a hat", "--best-of", 3, "--json", "-o", "a.png")
    record = json.loads(result.out)
    assert (record["negative"], record["best_of"]) == ("a hat", 3)
    text = Image.open(tmp_path / "a.png").text
    assert (text["negative"], text["best_of"]) == ("a hat", "3")


def test_a_negative_prompt_without_guidance_is_refused_before_the_model_is_loaded(cli, core):
    result = cli("generate", "smile", "--negative", "a hat", "--guidance", 0)
    assert (result.code, core.loads) == (2, []) and "--negative acts through guidance" in result.error


@pytest.mark.parametrize(
    ("schedule", "words"), [("best", "use constant, linear, cosine or window"), ("window:0.8-0.2", "is no window")]
)
def test_unknown_guidance_schedule_is_found_before_the_model_is_loaded(cli, core, schedule, words):
    result = cli("generate", "smile", "--guidance-schedule", schedule)
    assert (result.code, core.loads) == (2, []) and words in result.error


@pytest.mark.parametrize("option", ["--guidance-rescale", "--cooling", "--repair"])
@pytest.mark.parametrize("share", [-0.1, 1.5, "nan"])
def test_a_rescale_cooling_or_repair_that_is_no_share_is_refused(cli, core, option, share):
    result = cli("generate", "smile", option, share)
    assert (result.code, core.loads) == (2, []) and option in result.error


def test_help_names_every_guidance_schedule(cli):
    said = cli("generate", "--help").out
    assert all(name in said for name in ("--guidance-schedule", "constant", "linear", "cosine", "window:0.2-0.8"))


def test_nothing_is_ever_overwritten_without_force(cli, tmp_path):
    names = [cli("generate", "smile", "--seed", 1).out.strip() for _ in range(3)]
    assert names == ["smile_s1.png", "smile_s1_1.png", "smile_s1_2.png"]
    before = (tmp_path / names[0]).stat().st_ino
    assert cli("generate", "smile", "--seed", 1, "--force").out.strip() == names[0]
    assert (tmp_path / names[0]).stat().st_ino != before
    assert len(list(tmp_path.iterdir())) == 3


def test_equal_images_of_one_run_get_their_own_files(cli, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "smile", "seed": 5}\n' * 3)
    assert cli("generate", "--prompts", "p.jsonl").lines == [
        "smile_s5.png",
        "smile_s5_1.png",
        "smile_s5_2.png",
    ]


def test_force_never_replaces_an_image_of_the_same_run(cli, tmp_path):
    prompts = [f"{'a very long prompt ' * 5}{end}" for end in ("one", "two")]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": text, "seed": 5}) for text in prompts))
    runs = [cli("generate", "--prompts", "p.jsonl", "--force", "-o", "faces/").lines for _ in range(2)]
    assert runs[0] == runs[1] and len(set(runs[0])) == 2
    assert [Image.open(tmp_path / name).text["prompt"] for name in runs[0]] == prompts
    assert len(list((tmp_path / "faces").iterdir())) == 2


@pytest.mark.parametrize(
    ("output", "count", "expected"),
    [
        ("a.png", 1, ["a.png"]),
        ("plain", 1, ["plain"]),
        ("a.png", 3, ["a_1.png", "a_2.png", "a_3.png"]),
        ("new/", 1, ["new/smile_s1.png"]),
        ("new/deep/", 2, ["new/deep/smile_s1.png", "new/deep/smile_s2.png"]),
        ("new", 2, ["new/smile_s1.png", "new/smile_s2.png"]),
        ("there", 1, ["there/smile_s1.png"]),
    ],
)
def test_output_is_a_file_or_a_folder(cli, tmp_path, output, count, expected):
    (tmp_path / "there").mkdir()
    result = cli("generate", "smile", "--seed", 1, "-n", count, "-o", output)
    assert (result.code, result.lines) == (0, expected)
    assert all((tmp_path / name).is_file() for name in expected)


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".webp", "WEBP"), (".PNG", "PNG")])
def test_suffix_chooses_the_format(cli, tmp_path, suffix, kind):
    assert cli("generate", "smile", "-o", f"a{suffix}").code == 0
    assert Image.open(tmp_path / f"a{suffix}").format == kind


@pytest.mark.parametrize("output", ["a.gif", "a.txt", "-"])
def test_other_formats_are_refused(cli, core, output):
    result = cli("generate", "smile", "-o", output)
    assert result.code == 2 and result.err.count("\n") == 1 and core.loads == []


def test_random_seed_is_reported_and_differs(cli):
    first, second = cli("generate", "smile"), cli("generate", "smile")
    seeds = [int(re.search(r"note: seed (\d+)", result.err)[1]) for result in (first, second)]
    assert seeds[0] != seeds[1]
    assert first.out == f"smile_s{seeds[0]}.png\n"


def test_help_says_when_pictures_are_computed_together(cli):
    assert "on CPU each is computed alone" in " ".join(cli("generate", "--help").out.replace("│", " ").split())


def test_quiet_says_nothing_on_stderr(cli):
    assert cli("generate", "smile", "--quiet").err == ""


def test_prompts_file_takes_lines_and_jsonl(cli, tmp_path):
    (tmp_path / "p.txt").write_text('\ufeffa hat\n\n  {"prompt": "a beard", "seed": 50, "extra": 1}\n\nglasses 🙂\n')
    result = cli("generate", "--prompts", "p.txt", "-n", 2, "--seed", 10, "--json")
    made = [(record["prompt"], record["seed"]) for record in map(json.loads, result.lines)]
    assert made == [("a hat", 10), ("a hat", 11), ("a beard", 50), ("a beard", 51), ("glasses 🙂", 12),
                    ("glasses 🙂", 13)]  # fmt: skip


def test_prompts_from_stdin_are_one_batch_with_one_load(cli, core):
    result = cli("generate", "--prompts", "-", "--batch-size", 4, stdin=b"a hat\na beard\n")
    assert result.code == 0 and len(result.lines) == 2
    assert core.loads == [("mini", "auto")] and core.batches == [4]


def test_json_output_can_be_prompts_again(cli, tmp_path):
    first = cli("generate", "smile", "-n", 2, "--seed", 3, "--json").out
    (tmp_path / "again.jsonl").write_text(first)
    again = cli("generate", "--prompts", "again.jsonl", "--json", "--force").out
    assert again == first


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "x"', "line 2: not JSON"),
        ('{"seed": 1}', "line 2: 'prompt' is missing"),
        ('{"prompt": " "}', "line 2: 'prompt' is missing, empty"),
        ('{"prompt": "x", "seed": -1}', "line 2: seed -1"),
        ('{"prompt": "x", "seed": true}', "line 2: seed True"),
        ('{"prompt": "x", "seed": 1.5}', "line 2: seed 1.5"),
        ("{" * 20000, "line 2: not JSON"),
        ("\x01", "line 2: 'prompt' is missing, empty"),
    ],
)
def test_bad_prompts_are_reported_by_line_and_the_others_go_on(cli, tmp_path, line, words):
    (tmp_path / "p.jsonl").write_text("fine\n" + line + "\nalso fine\n")
    result = cli("generate", "--prompts", "p.jsonl", "--seed", 1)
    assert result.code == 1 and words in result.err and result.err.count("\n") == 1
    assert result.lines == ["fine_s1.png", "also-fine_s2.png"]


def test_prompts_without_a_good_line_fail_before_the_model_is_loaded(cli, core):
    result = cli("generate", "--prompts", "-", "-o", "new/", stdin=b'{"prompt": 1}\n\x01\n')
    assert (result.code, result.out, result.err.count("\n"), core.loads) == (1, "", 2, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no line"), (b" \n\n", "no line"), (b"\xff\xfe", "not UTF-8"), (None, "no such file")],
)
def test_unusable_prompts_files_are_one_line(cli, tmp_path, content, words):
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    result = cli("generate", "--prompts", "p.txt")
    assert result.code == 1 and words in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("args", [(), ("x", "--prompts", "-"), ("",), ("  \n ",), ("x", "--guidance", "nan"),
                                  ("x", "--sampler", "best"), ("x", "--seed", 2**63)])  # fmt: skip
def test_usage_errors_are_one_line(cli, core, args, monkeypatch):
    import types

    module = types.SimpleNamespace(SAMPLERS=dict.fromkeys(options.SAMPLERS))
    monkeypatch.setitem(__import__("sys").modules, "unif2ace_core.diffusion.samplers", module)
    result = cli("generate", *args)
    assert result.code == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1
    assert core.loads == []


def test_long_prompts_work_with_a_note(cli):
    result = cli("generate", "word " * 10_000, "--seed", 1)
    assert result.code == 0 and len(result.lines[0]) < 80
    assert "too long" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("prompt", ["🙂👩🏽‍🦰", "日本の女性", "../../etc/passwd", "a\x00b\x1b[31m", "-", "\udcff"])
def test_unusual_prompts_make_safe_names(cli, tmp_path, prompt):
    result = cli("generate", "--seed", 1, "--", prompt)
    assert result.code == 0 and (tmp_path / result.lines[0]).is_file()
    assert "/" not in result.lines[0]


@given(st.text())
def test_slug_is_a_short_portable_file_name(text):
    name = slug(text)
    assert 0 < len(name) <= 60 and len(name.encode()) <= 160
    assert not set(name) & set("/\\\0\n .") and not name.startswith("-") and not name.endswith("-")


def test_slug_ends_on_a_whole_word():
    assert slug("one two " * 20) == "one-two-one-two-one-two-one-two-one-two-one-two-one-two-one"
    assert slug("x" * 100) == "x" * 60


def test_missing_folder_is_found_before_the_model_is_loaded(cli, core):
    result = cli("generate", "smile", "-o", "nowhere/a.png")
    assert result.code == 1 and "mkdir" in result.err and result.err.count("\n") == 1
    assert core.loads == []


@pytest.mark.parametrize(
    "output", ["file/a.png", "file/", "x" * 300 + ".png", "fifo.png", "/proc/nothing/", "/proc/a.png"]
)
def test_unwritable_output_is_found_before_the_model_is_loaded(cli, core, tmp_path, output):
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo.png")
    result = cli("generate", "smile", "-o", output)
    assert result.code == 1 and result.err.startswith("error: ") and result.err.count("\n") == 1
    assert core.loads == [] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_found_before_the_model_is_loaded(cli, core, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    result = cli("generate", "smile", "-o", "locked/")
    assert result.code == 1 and "permission denied" in result.err and core.loads == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
def test_failed_write_leaves_no_file(cli, core, tmp_path, monkeypatch, error):
    def broken(self, file, *args, **options):
        file.write(b"half")
        raise error

    monkeypatch.setattr(Image.Image, "save", broken)
    result = cli("generate", "smile", "-o", "a.png")
    assert result.code in (1, 130) and result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_usual_permissions(cli, tmp_path):
    mask = os.umask(0o022)
    try:
        cli("generate", "smile", "-o", "a.png")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o644


def test_model_and_device_reach_the_core(cli, core):
    cli("generate", "smile", "--model", "some/dir", "--device", "cpu")
    assert core.loads == [("some/dir", "cpu")]


def test_names_that_complete_are_those_of_the_core():
    from unif2ace_core.config import PRESETS
    from unif2ace_core.data.importers import KINDS
    from unif2ace_core.data.stages.texts import STYLES
    from unif2ace_core.diffusion import guidance, samplers

    assert tuple(samplers.SAMPLERS) == options.SAMPLERS
    assert tuple(PRESETS) == options.PRESETS
    assert (tuple(KINDS), STYLES) == (options.KINDS, options.CAPTION_STYLES)
    assert (
        tuple(str(guidance.parse_schedule(name)) for name in options.GUIDANCE_SCHEDULES) == options.GUIDANCE_SCHEDULES
    )
    assert {name.partition(":")[0] for name in options.GUIDANCE_SCHEDULES} == set(guidance.SCHEDULES)
