"""The completion scripts are current, complete, and understood by their shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from unif2ace_cli.app import COMMANDS
from unif2ace_cli.completions import FILES, FOLDERS, SHELLS, VALUES, params_of

FOLDER = Path(__file__).resolve().parents[2] / "completions"


def bash(line, tmp_path):
    """What bash offers at the end of a command line."""
    words = line.split(" ")
    script = (
        f"source {FOLDER / 'unif2ace.bash'}; COMP_WORDS=({' '.join(repr(word) for word in words)});"
        f"COMP_CWORD={len(words) - 1}; _unif2ace; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_current(shell):
    path = FOLDER / SHELLS[shell].file
    assert path.read_text(encoding="utf-8") == SHELLS[shell].script(), "run python -m unif2ace_cli.completions"


def test_folder_holds_nothing_else():
    assert {path.name for path in FOLDER.iterdir()} == {shell.file for shell in SHELLS.values()}


@pytest.mark.parametrize("shell", SHELLS)
def test_command_prints_the_script(cli, shell):
    assert cli("completion", shell).out == SHELLS[shell].script()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_long_option_is_in_every_script(shell):
    script = SHELLS[shell].script()
    for name in COMMANDS:
        for param in params_of(name):
            for option in (*param.opts, *param.secondary_opts):
                if option.startswith("--"):
                    assert (option if shell != "fish" else f"-l {option[2:]} ") in script


def test_described_options_exist():
    options = {option for name in COMMANDS for param in params_of(name) for option in param.opts}
    assert {*VALUES, *FILES, *FOLDERS} <= options


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_shell_understands_the_script(shell, check):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, check, str(FOLDER / SHELLS[shell].file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unif2ace ge", {"generate"}),
        (
            "unif2ace ",
            {
                "generate",
                "ask",
                "describe",
                "train",
                "eval",
                "quantize",
                "data",
                "model",
                "--help",
                "--version",
                "--debug",
            },
        ),
        ("unif2ace generate --device ", {"auto", "cpu", "cuda", "mps"}),
        ("unif2ace generate x --sampler h", {"halton", "halton_centred"}),
        ("unif2ace generate --ste", {"--steps"}),
        ("unif2ace --debug quantize --bits ", {"8", "4"}),
        ("unif2ace train co", {"codec"}),
        ("unif2ace eval codec ans", {"answers"}),
        ("unif2ace generate --seed ", set()),
        ("unif2ace ask pho", {"photo.jpg", "photos"}),
        ("unif2ace train codec --data pho", {"photos"}),
    ],
)
def test_bash_offers(tmp_path, line, expected):
    (tmp_path / "photo.jpg").write_text("")
    (tmp_path / "photos").mkdir()
    assert set(bash(line, tmp_path)) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unif2ace ge", {"generate"}),
        ("unif2ace quantize --bits ", {"8", "4"}),
        ("unif2ace train co", {"codec"}),
    ],
)
def test_fish_offers(tmp_path, line, expected):
    script = f"source {FOLDER / 'unif2ace.fish'}; complete -C '{line}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert {offer.split("\t")[0] for offer in done.stdout.splitlines()} == expected
