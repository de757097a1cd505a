"""Rewording captions with a language model behind an OpenAI-compatible endpoint, without changing what they say.

    POST {url}/chat/completions  {"model": ..., "messages": [...]}

A rewritten text is taken only where `parse` reads exactly the attributes of the caption from it; a text that
lost or gained one is refused and the original stays. Nothing here runs unless an endpoint is given.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from unif2ace_core.data.dense import Caption
from unif2ace_core.data.parse import parse
from unif2ace_core.errors import UserError

INSTRUCTION = (
    "Rewrite this description of a face in your own words, as natural English. Keep every stated fact, including "
    "what is said to be absent, and add none. Answer with the rewritten text alone."
)
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # what a later try may mend
_LONGEST_WAIT = 30.0  # seconds


@dataclass(frozen=True)
class Rewrites:
    """The captions in their order, reworded where that was possible, and how often it was."""

    captions: tuple[Caption, ...]
    rewritten: int
    refused: int  # the new text said more, less or something else
    failed: int  # the answer had no text in it

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts alone."""
        return tuple(caption.text for caption in self.captions)


@dataclass(frozen=True)
class _Endpoint:
    """Where and how to ask."""

    url: str
    model: str
    key: str | None
    timeout: float
    retries: int
    sleep: Callable[[float], None]


class _Unreadable(Exception):
    """An answer without a text; it costs its caption the rewording, not the run."""


def rewrite(
    captions: Iterable[Caption],
    url: str,
    model: str,
    key: str | None = None,
    *,
    instruction: str = INSTRUCTION,
    temperature: float = 0.8,
    timeout: float = 60.0,
    retries: int = 3,
    sleep: Callable[[float], None] = time.sleep,
) -> Rewrites:
    """Each caption reworded by `model` at `url` ("http://localhost:8000/v1"), or as it was.

    An overloaded endpoint is asked again up to `retries` times after 1, 2, 4 ... seconds, or as long as it asks
    for. Raises `UserError` for an address that is none, an endpoint that can't be reached or refuses the request.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url!r} is no endpoint; give an address such as http://localhost:8000/v1")
    endpoint = _Endpoint(f"{url.rstrip('/')}/chat/completions", model, key, timeout, retries, sleep)
    kept: list[Caption] = []
    counts = {"rewritten": 0, "refused": 0, "failed": 0}
    for caption in captions:
        try:
            text = _ask(endpoint, instruction, caption.text, temperature)
            outcome = "rewritten" if parse(text) == caption.attributes else "refused"
        except _Unreadable:
            outcome = "failed"
        counts[outcome] += 1
        kept.append(replace(caption, text=text) if outcome == "rewritten" else caption)
    return Rewrites(tuple(kept), **counts)


def _ask(endpoint: _Endpoint, instruction: str, text: str, temperature: float) -> str:
    """The model's answer to the text, on one line. Raises `_Unreadable` where there is none."""
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
    body = {"model": endpoint.model, "messages": messages, "temperature": temperature}
    try:
        answer = json.loads(_post(endpoint, json.dumps(body).encode()))
        content: Any = answer["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise _Unreadable from error
    if not isinstance(content, str) or not content.strip():
        raise _Unreadable
    return " ".join(content.strip().strip('"“”').split())


def _post(endpoint: _Endpoint, body: bytes) -> bytes:
    """The body of the answer; asks again where that may help."""
    for attempt in range(endpoint.retries + 1):
        wait = min(2.0**attempt, _LONGEST_WAIT)
        try:
            with urllib.request.urlopen(_request(endpoint, body), timeout=endpoint.timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            cause = f"answered {error.code} {error.reason}: {_excerpt(error)}"
            if error.code not in _AGAIN:
                raise UserError(f"{endpoint.url} {cause}; check the url, the model and the key") from error
            wait = _asked_wait(error.headers.get("Retry-After"), wait)
        except (OSError, http.client.HTTPException) as error:  # URLError, a time-out and a reset are OSErrors
            cause = f"cannot be reached ({getattr(error, 'reason', None) or error!r})"
        if attempt < endpoint.retries:
            endpoint.sleep(wait)
    tries = endpoint.retries + 1
    raise UserError(f"{endpoint.url} {cause}, {tries} times; is the server running and the url right?")


def _request(endpoint: _Endpoint, body: bytes) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    return urllib.request.Request(endpoint.url, data=body, headers=headers, method="POST")


def _excerpt(error: urllib.error.HTTPError) -> str:
    """The start of what the server said, on one line."""
    try:
        return " ".join(error.read(300).decode("utf-8", "replace").split()) or "no details"
    except (OSError, http.client.HTTPException):
        return "no details"


def _asked_wait(header: str | None, otherwise: float) -> float:
    """Seconds of a Retry-After header, within bounds."""
    return min(float(header), _LONGEST_WAIT) if header and header.isdigit() else otherwise
