"""Options of `unif2ace data`: rewording that broke off goes on, shares that do nothing are refused, torch stays out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

WITHOUT_TORCH = """
import sys
from unif2ace_cli.app import main
for arguments in {commands!r}:
    assert main(arguments) == 0
sys.exit("imported torch" if "torch" in sys.modules else 0)
"""


class Echo:
    """An endpoint that gives each text back, until it has answered often enough."""

    def __init__(self) -> None:
        self.asked, self.limit = 0, 10**9
        echo = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                echo.asked += 1
                text = body["messages"][-1]["content"]
                content = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
                self.send_response(200 if echo.asked <= echo.limit else 403)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(timeout=5)


@pytest.fixture
def raw(command_line: Callable[..., Any], made_up_faces: Path) -> str:
    assert command_line("data", "import", "packed", str(made_up_faces), "-o", "raw").code == 0
    return "raw"


def test_rewording_that_breaks_off_goes_on_with_the_rest(
    command_line: Callable[..., Any], raw: str, echo: Echo
) -> None:
    args = ("data", "caption", raw, "--styles", "short", "--rewriter-url", echo.url)
    assert command_line(*args, "-o", "whole").code == 0
    whole, echo.asked, echo.limit = echo.asked, 0, 4
    broken = command_line(*args, "-o", "said")
    assert broken.code == 1 and "answered 403" in broken.error and not list(Path("said/data").glob("*"))
    assert len(Path("said/.rewrites/train-00000.jsonl").read_text().splitlines()) == 4
    echo.asked, echo.limit = 0, 10**9
    assert command_line(*args, "-o", "said").code == 0 and echo.asked == whole - 4
    assert not Path("said/.rewrites").exists()
    for path in sorted(Path("whole").rglob("*")):
        assert path.is_dir() or path.read_bytes() == (Path("said") / path.relative_to("whole")).read_bytes()


@pytest.mark.parametrize("url", ["localhost:80", "", "ftp://host"])
def test_an_address_that_is_none_is_told_before_anything_is_written(
    command_line: Callable[..., Any], raw: str, url: str
) -> None:
    done = command_line("data", "caption", raw, "-o", "x", "--rewriter-url", url)
    assert done.code == 1 and "is no endpoint" in done.error and not Path("x").exists()


@pytest.mark.parametrize("kind", ["packed", "webdataset"])
def test_a_share_of_splits_that_are_given_is_refused(
    command_line: Callable[..., Any], made_up_faces: Path, kind: str
) -> None:
    done = command_line("data", "import", kind, str(made_up_faces), "-o", "x", "--val-share", "0.2")
    assert done.code == 2 and "--val-share 0.2 has no effect" in done.error and not Path("x").exists()


def test_labels_become_texts_without_torch(made_up_faces: Path, tmp_path: Path) -> None:
    commands = [
        ["data", "import", "packed", str(made_up_faces), "-o", "raw"],
        ["data", "caption", "raw", "-o", "said"],
        ["data", "questions", "said", "-o", "asked"],
        ["data", "--help"],
    ]
    code = WITHOUT_TORCH.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
