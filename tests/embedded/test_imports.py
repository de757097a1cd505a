"""What the commands import and reach for: help without torch, the core without its optional packages, no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Python = Callable[..., subprocess.CompletedProcess[str]]

OPTIONAL = ("open_clip", "insightface", "onnxruntime", "bitsandbytes", "accelerate", "datasets", "transformers", "timm")

LOADED_BY_COMMAND = """
import sys
from unif2ace_cli.app import main
code = main({arguments!r})
found = [name for name in {watched!r} if name in sys.modules]
sys.exit(f"imported {{found}}" if found else code)
"""

LOADED_BY_IMPORT = """
import sys
import {module}
found = [name for name in {watched!r} if name in sys.modules]
sys.exit(f"imported {{found}}" if found else 0)
"""

WITHOUT_NETWORK = """
import socket, sys

def refuse(*args, **options):
    raise SystemExit("a socket was opened")

for name in ("create_connection", "create_server", "getaddrinfo", "gethostbyname", "socketpair"):
    setattr(socket, name, refuse)

class Refused(socket.socket):
    __init__ = refuse

socket.socket = Refused
from unif2ace_cli.app import main
code = main(["generate", "a man", "--seed", "1", "--steps", "2", "-o", "a.png"])
code = code or main(["ask", "face.png", "what emotion?", "--no-align"])
sys.exit(code or main(["describe", "face.png", "--no-align"]))
"""

WITHOUT_OPTIONAL = """
import sys

sys.modules.update(dict.fromkeys({absent!r}))  # None: an import of it fails
from unif2ace_cli.app import main
code = main(["generate", "a man", "--seed", "1", "--steps", "2", "-o", "a.png"])
sys.exit(code or main(["ask", "face.png", "what emotion?", "--no-align"]))
"""


@pytest.fixture
def face(portraits: list[Image.Image], tmp_path: Path) -> None:
    """A face as face.png in the current folder of the other process."""
    portraits[0].save(tmp_path / "face.png")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["generate", "--help"], ["ask", "--help"], ["train", "--help"], ["completion", "bash"]],
    ids=" ".join,
)
def test_help_imports_no_torch(python: Python, arguments: list[str]) -> None:
    watched = ("torch", "numpy", "PIL", "safetensors", "tokenizers", *OPTIONAL)
    done = python("-c", LOADED_BY_COMMAND.format(arguments=arguments, watched=watched))
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


@pytest.mark.parametrize("arguments", [[], ["generate"], ["ask"], ["nonsense"], ["generate", "x", "--steps", "0"]])
def test_wrong_usage_imports_no_torch(python: Python, arguments: list[str]) -> None:
    done = python("-c", LOADED_BY_COMMAND.format(arguments=arguments, watched=("torch", *OPTIONAL)))
    assert done.returncode == 2 and "imported" not in done.stderr


@pytest.mark.parametrize("module", ["tasks.generate", "tasks.understand", "weights.quantized"])
def test_core_imports_no_optional_package(python: Python, module: str) -> None:
    done = python("-c", LOADED_BY_IMPORT.format(module=f"unif2ace_core.{module}", watched=OPTIONAL))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_generate_and_ask_open_no_socket(python: Python, face: None, tmp_path: Path) -> None:
    done = python("-c", WITHOUT_NETWORK)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3 and (tmp_path / "a.png").is_file()


@pytest.mark.slow
def test_generate_and_ask_need_no_optional_package(python: Python, face: None, tmp_path: Path) -> None:
    absent = (*OPTIONAL, "huggingface_hub", "torchvision", "tqdm", "platformdirs")
    done = python("-c", WITHOUT_OPTIONAL.format(absent=absent))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2 and (tmp_path / "a.png").is_file()


@pytest.mark.slow
def test_command_does_not_import_what_it_does_not_use(python: Python) -> None:
    arguments = ["generate", "a man", "--seed", "1", "--steps", "2", "-o", "a.png"]
    watched = (*OPTIONAL, "huggingface_hub", "torchvision", "scipy", "matplotlib", "unif2ace_core.train.loop")
    done = python("-c", LOADED_BY_COMMAND.format(arguments=arguments, watched=watched))
    assert (done.returncode, done.stderr) == (0, "")


def test_socket_guard_works() -> None:
    guard = WITHOUT_NETWORK.split("from unif2ace_cli")[0]
    done = subprocess.run([sys.executable, "-c", guard + "socket.socket()"], capture_output=True, text=True)
    assert done.returncode == 1 and "a socket was opened" in done.stderr
