"""Rewording at an endpoint: a text is taken only where it says the same, and faults are told plainly."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from unif2ace_core.data.attributes import SCHEMA
from unif2ace_core.data.dense import Caption, make_caption
from unif2ace_core.data.parse import parse
from unif2ace_core.data.rewrite import Answers, faithful, rewrite
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError

ORIGINAL = "She wears a hat but no glasses."
CAPTION = Caption("short", ORIGINAL, parse(ORIGINAL))
GOOD = "A woman in a hat, without glasses."


class Stub:
    """A local endpoint: answers each request with the next (status, body) and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.asked.append((self.path, dict(self.headers), body))
                status, content, headers = stub.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def say(self, *texts: str) -> Stub:
        for text in texts:
            self.answers.append((200, json.dumps({"choices": [{"message": {"content": text}}]}).encode(), {}))
        return self

    def fail(self, status: int, content: bytes = b"", **headers: str) -> Stub:
        self.answers.append((status, content, {name.replace("_", "-"): value for name, value in headers.items()}))
        return self


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(timeout=5)


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def sleep(waited: list[float]) -> Callable[[float], None]:
    return waited.append


def test_a_rewrite_that_says_the_same_is_taken(stub: Stub) -> None:
    done = rewrite([CAPTION], stub.say(f'"{GOOD}"\n').url, "a-model", "a-key")
    assert done.texts == (GOOD,) and done.captions[0].attributes == CAPTION.attributes
    assert (done.rewritten, done.refused, done.failed) == (1, 0, 0)
    path, headers, body = stub.asked[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer a-key"
    assert body["model"] == "a-model" and body["messages"][-1] == {"role": "user", "content": ORIGINAL}


def test_without_a_key_no_authorization_is_sent(stub: Stub) -> None:
    rewrite([CAPTION], stub.say(GOOD).url + "/", "m")
    assert stub.asked[0][0] == "/v1/chat/completions" and "Authorization" not in stub.asked[0][1]


@pytest.mark.parametrize(
    "text",
    [
        "A woman in a hat.",  # one is lost
        "A smiling woman in a hat, without glasses.",  # one is added
        "A woman in a hat, with glasses.",  # one is turned
        "A woman in a hat, without glasses. There is no hat.",  # contradicts itself
        "I cannot help with that.",
        "Sorry, she wears a hat but no glasses.",
        "A kind woman in a hat, without glasses.",  # a word beyond the schema
        "A woman in a straw hat, without glasses.",
        "A woman with a round face in a hat, without glasses.",
        "A woman in a black hat, without glasses.",  # a colour that no label gives
        "A woman in a hat, no glasses, aged.",
        "In this photo we can see that she is a woman who wears a hat but no glasses.",  # too long
        "Hat, no glasses",
    ],
)
def test_a_rewrite_that_says_something_else_is_refused(stub: Stub, text: str) -> None:
    done = rewrite([CAPTION], stub.say(text).url, "m")
    assert done.captions == (CAPTION,)
    assert (done.rewritten, done.refused, done.failed) == (0, 1, 0)


@pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": {}}]}'])
def test_an_answer_without_a_text_costs_only_its_caption(stub: Stub, content: bytes) -> None:
    done = rewrite([CAPTION, CAPTION], stub.fail(200, content).say(GOOD).url, "m")
    assert done.texts == (ORIGINAL, GOOD)
    assert (done.rewritten, done.refused, done.failed) == (1, 0, 1)


def test_an_overloaded_endpoint_is_asked_again(stub: Stub, sleep: Callable[[float], None], waited: list[float]) -> None:
    stub.fail(500).fail(429, Retry_After="7").fail(503).say(GOOD)
    done = rewrite([CAPTION], stub.url, "m", sleep=sleep)
    assert done.texts == (GOOD,) and done.rewritten == 1 and waited == [1.0, 7.0, 4.0]


def test_an_endpoint_that_stays_broken_is_named(stub: Stub, sleep: Callable[[float], None]) -> None:
    stub.fail(500, b"no memory").fail(500, b"no memory")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+/v1/chat/completions answered 500 .*no memory"):
        rewrite([CAPTION], stub.url, "m", retries=1, sleep=sleep)


def test_a_refused_key_is_told_at_once(stub: Stub, sleep: Callable[[float], None], waited: list[float]) -> None:
    with pytest.raises(UserError, match=r"answered 401 .*check the url, the model and the key"):
        rewrite([CAPTION], stub.fail(401, b"bad key").url, "m", "secret", sleep=sleep)
    assert waited == []


def test_a_server_that_is_not_there_is_named(sleep: Callable[[float], None], waited: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}/chat/completions cannot be reached \(.*refused"):
        rewrite([CAPTION], f"http://127.0.0.1:{port}", "m", retries=2, sleep=sleep)
    assert waited == [1.0, 2.0]


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "", "ftp://host/v1", "http://", "http://["])
def test_an_address_that_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is no endpoint"):
        rewrite([CAPTION], url, "m")


def test_a_run_that_broke_off_asks_only_for_the_rest(stub: Stub, tmp_path: Path) -> None:
    other = Caption("short", "a smiling woman", parse("a smiling woman"))
    stub.say(GOOD, "nothing of it").fail(401)
    with pytest.raises(UserError, match="401"):
        rewrite([CAPTION, CAPTION, other], stub.url, "m", answers=Answers(tmp_path / "a" / "x.jsonl"))
    with (tmp_path / "a" / "x.jsonl").open("a") as file:
        file.write('["half a li')  # killed in the middle
    stub.say("she is a smiling woman").asked.clear()
    done = rewrite([CAPTION, CAPTION, other], stub.url, "m", answers=Answers(tmp_path / "a" / "x.jsonl"))
    assert done.texts == (GOOD, ORIGINAL, "she is a smiling woman") and (done.rewritten, done.refused) == (2, 1)
    assert [body["messages"][-1]["content"] for _, _, body in stub.asked] == [other.text]
    again = rewrite([other, CAPTION, CAPTION], "http://127.0.0.1:1", "m", answers=Answers(tmp_path / "a" / "x.jsonl"))
    assert again.texts == ("she is a smiling woman", GOOD, ORIGINAL)


def test_answers_of_another_model_and_answers_without_a_text_are_asked_for_again(stub: Stub, tmp_path: Path) -> None:
    stub.fail(200, b"[]").say(GOOD, GOOD)
    for model, outcome in (("m", (0, 1)), ("m", (1, 0)), ("n", (1, 0)), ("n", (1, 0))):
        done = rewrite([CAPTION], stub.url, model, answers=Answers(tmp_path / "x.jsonl"))
        assert (done.rewritten, done.failed) == outcome
    assert len(stub.asked) == 3


def test_nothing_is_written_where_nothing_is_asked(tmp_path: Path) -> None:
    rewrite([Caption("short", "a person", {})], "http://127.0.0.1:1", "m", answers=Answers(tmp_path / "x.jsonl"))
    assert not (tmp_path / "x.jsonl").exists()


def test_tags_and_captions_that_say_nothing_are_not_sent(stub: Stub) -> None:
    tags = Caption("tags", "woman, hat", parse("woman, hat"))
    nothing = Caption("short", "a person", {})
    done = rewrite([tags, nothing, CAPTION], stub.say(GOOD).url, "m")
    assert done.texts == (tags.text, nothing.text, GOOD) and len(stub.asked) == 1
    assert (done.rewritten, done.refused, done.failed) == (1, 0, 0)


def test_every_caption_is_faithful_to_itself() -> None:
    rng = random.Random(0)
    for _ in range(150):
        labels = {a.name: rng.choice(a.values) for a in SCHEMA if rng.random() < 0.6}
        record = FaceRecord("mine", "a.png", "train", labels, rng.uniform(2, 90), None)
        caption = make_caption(record, rng.choice(("short", "medium", "dense")), rng)
        assert faithful(caption.text, caption), caption


def test_an_age_is_not_changed() -> None:
    caption = Caption("short", "a woman aged 45", parse("a woman aged 45"))
    assert faithful("a 45-year-old woman", caption) and not faithful("a 47-year-old woman", caption)


def test_captions_keep_their_order_and_are_counted(stub: Stub) -> None:
    record = FaceRecord("mine", "a.png", "train", {"Male": "yes", "Smiling": "yes", "Bald": "yes"}, None, None)
    captions = [make_caption(record, "dense", random.Random(seed)) for seed in range(3)]
    stub.say(captions[0].text, "nothing", captions[2].text)
    done = rewrite(captions, stub.url, "m")
    assert done.captions == tuple(captions) and (done.rewritten, done.refused, done.failed) == (2, 1, 0)
