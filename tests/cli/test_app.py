"""The command line as a whole: help, laziness, exit codes, one-line errors."""

import os
import signal
import subprocess
import sys

import pytest

from unif2ace_cli import __version__
from unif2ace_cli.app import COMMANDS
from unif2ace_core.errors import UserError

SIX = ("generate", "ask", "describe", "train", "eval", "quantize")


def is_one_error(text, kind="error: "):
    return text.startswith(kind) and text.count("\n") == 1 and "Traceback" not in text


def test_help_lists_the_six_commands(cli):
    result = cli("--help")
    assert result.code == 0
    assert all(name in result.out for name in SIX)
    assert "completion " not in result.out.split("Commands")[1].split("╰")[0]


@pytest.mark.parametrize("command", [*SIX, "completion"])
def test_every_command_has_help_with_an_example(cli, command):
    result = cli(command, "--help")
    assert result.code == 0
    assert f"unif2ace {command}" in result.out
    assert "--debug" in result.out and "<bool>" not in result.out


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("generate", "--help"), ("train", "--help"), ("x",)])
def test_help_version_and_usage_errors_import_neither_torch_nor_numpy(shell, args):
    code = (
        "import sys; from unif2ace_cli.app import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'numpy', 'PIL', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    assert shell("-c", code, *args).stderr.splitlines()[-1] == "[]"


def test_overview_imports_no_command(shell):
    code = (
        "import sys; from unif2ace_cli.app import main; main(['--help']);"
        "print([m for m in sys.modules if m.startswith('unif2ace_cli.commands')], file=sys.stderr)"
    )
    assert shell("-c", code).stderr.strip() == "[]"


def test_version(cli):
    result = cli("--version")
    assert (result.code, result.out) == (0, f"unif2ace {__version__}\n")


def test_version_is_that_of_the_package_metadata():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text


def test_module_runs_as_program(shell):
    done = shell("-m", "unif2ace_cli", "--version")
    assert (done.returncode, done.stdout) == (0, f"unif2ace {__version__}\n")


def test_no_command_shows_help_and_is_a_usage_error(cli):
    result = cli()
    assert result.code == 2 and "Usage: unif2ace" in result.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("genrate",), "did you mean 'generate'"),
        (("wibble",), "choose from generate"),
        (("--wibble",), "--wibble"),
        (("generate", "--wibble", "x"), "see 'unif2ace generate --help'"),
        (("generate", "x", "--steps", "many"), "--steps"),
        (("generate", "x", "--steps", "0"), "--steps"),
        (("generate", "x", "--seed", "-1"), "--seed"),
        (("generate", "x", "-n", "0"), "-n"),
        (("generate", "x", "--device", "tpu"), "--device"),
        (("describe",), "IMAGE"),
        (("train", "wibble", "--data", ".", "--output", "x"), "RECIPE"),
        (("quantize", "mini", "--bits", "3", "-o", "x"), "--bits"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli, core, args, words):
    result = cli(*args)
    assert result.code == 2 and result.out == ""
    assert is_one_error(result.err) and words in result.err
    assert core.loads == []


def test_user_errors_are_one_line_and_exit_code_1(cli, core):
    core.fail = UserError("weights are corrupt;\n download them again")
    result = cli("generate", "x")
    assert (result.code, result.err) == (1, "error: weights are corrupt; download them again\n")


def test_unexpected_errors_are_one_line_that_names_debug(cli, core):
    core.fail = KeyError("layers.0")
    result = cli("generate", "x")
    assert result.code == 1
    assert is_one_error(result.err, "internal error: ") and "KeyError" in result.err and "--debug" in result.err


@pytest.mark.parametrize("error", [UserError("weights are corrupt"), KeyError("layers.0")])
def test_debug_adds_the_traceback(cli, core, error):
    core.fail = error
    result = cli("generate", "x", "--debug")
    assert result.code == 1 and "Traceback" in result.err
    assert "Traceback" not in cli("generate", "x").err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory"),
        (ModuleNotFoundError("No module named 'open_clip'", name="open_clip"), "pip install open_clip"),
        (OSError(28, "No space left on device", "/tmp/x"), "/tmp/x: no space left on device"),
    ],
)
def test_known_failures_of_the_machine_say_what_to_do(cli, core, error, words):
    core.fail = error
    result = cli("generate", "x")
    assert result.code == 1 and is_one_error(result.err) and words in result.err


def test_ctrl_c_is_exit_code_130(cli, core):
    core.fail = KeyboardInterrupt()
    result = cli("generate", "x")
    assert result.code == 130 and is_one_error(result.err, "interrupted: ")


def test_interrupt_signal_ends_the_process_with_130(shell, tmp_path):
    code = (
        "import signal, sys, time, types; m = types.ModuleType('unif2ace_core.weights.resolve');"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background job's is ignored
        "m.load_model = lambda *a, **k: (print('up', flush=True), time.sleep(30));"
        "m.LoadedModel = object; sys.modules[m.__name__] = m;"
        "from unif2ace_cli.app import main; sys.exit(main(['generate', 'x']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err


def test_closed_pipe_ends_quietly(tmp_path):
    command = f"{sys.executable} -m unif2ace_cli generate --help | head -c 1 >/dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""


def test_help_is_fast(shell):
    shell("-m", "unif2ace_cli", "--help")  # writes the byte code
    best = min(processor_time(shell) for _ in range(3))
    assert best < 1.2  # of the processor's time, 0.15 s usually: only an import of torch is this slow


def processor_time(shell):
    began = sum(os.times()[2:4])
    shell("-m", "unif2ace_cli", "--help")
    return sum(os.times()[2:4]) - began


def test_every_command_module_states_its_usage():
    import importlib

    for name in COMMANDS:
        module = importlib.import_module(f"unif2ace_cli.commands.{name}")
        assert module.USAGE and module.run.__doc__
