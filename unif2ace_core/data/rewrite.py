"""Rewording captions with a language model behind an OpenAI-compatible endpoint, without changing what they say.

    POST {url}/chat/completions  {"model": ..., "messages": [...]}

A rewritten text is taken only where `parse` reads exactly the attributes of the caption from it and where it
uses no word beyond those of captions (see `faithful`): a text that lost or gained a fact, or is no caption at
all, is refused and the original stays. Tags and captions that say nothing are not sent.
Nothing here runs unless an endpoint is given.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from unif2ace_core.data import parse as reader
from unif2ace_core.data import plans, synonyms
from unif2ace_core.data.dense import Caption
from unif2ace_core.data.parse import parse
from unif2ace_core.data.phrases import PHRASES
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
    refused: int  # the new text said more, less or something else; what is not sent counts nowhere
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


class Answers:
    """What a model answered, in a file of one line each, so that a run that broke off need not ask again.

    An answer is given back once: the same caption of two photos is reworded twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[str]] = {}
        self._file: TextIO | None = None
        content = path.read_bytes() if path.is_file() else b""
        self._torn = bool(content) and not content.endswith(b"\n")  # killed while it wrote
        for line in content.decode("utf-8", "replace").splitlines():
            with suppress(ValueError, TypeError):
                key, text = json.loads(line)
                self._known.setdefault(str(key), []).append(str(text))

    @staticmethod
    def key(model: str, instruction: str, text: str) -> str:
        """What an answer depends on."""
        return hashlib.sha256(json.dumps([model, instruction, text]).encode()).hexdigest()[:32]

    def take(self, key: str) -> str | None:
        """An answer of an earlier run."""
        left = self._known.get(key)
        return left.pop(0) if left else None

    def keep(self, key: str, text: str) -> None:
        """Write an answer down at once."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
            self._file.write("\n" if self._torn else "")
        self._file.write(json.dumps([key, text]) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Unreadable(Exception):
    """An answer without a text; it costs its caption the rewording, not the run."""


def rewrite(
    captions: Iterable[Caption],
    url: str,
    model: str,
    key: str | None = None,
    *,
    answers: Answers | None = None,
    instruction: str = INSTRUCTION,
    temperature: float = 0.8,
    timeout: float = 60.0,
    retries: int = 3,
    sleep: Callable[[float], None] = time.sleep,
) -> Rewrites:
    """Each caption reworded by `model` at `url` ("http://localhost:8000/v1"), or as it was.

    Tags and captions without attributes are left alone and count neither as rewritten nor as refused.

    `answers` are taken before the model is asked, and get what it says.
    An overloaded endpoint is asked again up to `retries` times after 1, 2, 4 ... seconds, or as long as it asks
    for. Raises `UserError` for an address that is none, an endpoint that can't be reached or refuses the request.
    """
    check_url(url)
    endpoint = _Endpoint(f"{url.rstrip('/')}/chat/completions", model, key, timeout, retries, sleep)
    kept: list[Caption] = []
    counts = {"rewritten": 0, "refused": 0, "failed": 0}
    for caption in captions:
        if caption.style == "tags" or not caption.attributes:
            kept.append(caption)
            continue
        try:
            text = _recalled(endpoint, instruction, caption.text, temperature, answers)
            outcome = "rewritten" if faithful(text, caption) else "refused"
        except _Unreadable:
            outcome = "failed"
        counts[outcome] += 1
        kept.append(replace(caption, text=text) if outcome == "rewritten" else caption)
    return Rewrites(tuple(kept), **counts)


def check_url(url: str) -> None:
    """Raises `UserError` for what is no http or https address."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise UserError(f"{url!r} is no endpoint; give an http or https address such as http://localhost:8000/v1")


# --- What a rewrite may say -------------------------------------------------------------------------------------

_LENGTHS = (0.5, 1.6)  # of a rewrite, as a share of the original
_REFUSAL = re.compile(r"\b(?:sorry|cannot|can't|as an ai)\b")
_WORD = re.compile(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*")
# Words that can say more than the schema ("a round face"); a rewrite may have them where its caption does.
_STRANGE = frozenset({"dark", "light", "round", "hoop", "dangling", "suit"})
# Words that hold a sentence together and say nothing of a face.
_FUNCTION = frozenset(
    "a an the this that these those there here it its it's is are was were be been being am has have had having "  # noqa: SIM905
    "do does did can could may might he she they him her his them their hers theirs himself herself themselves "
    "years year old aged age "
    "he's she's they're there's who who's whose whom which what one ones we us our you your i and or nor but yet so "
    "as if while whereas though although because since when where both either neither not no none never without "
    "with within of on in at to into onto from for by about around over under above below beneath between across "
    "along against toward towards upon near through than then too also just only even still quite rather very "
    "fairly slightly somewhat softly gently lightly overall altogether moreover additionally further furthermore "
    "however instead any some each every all more most much many few lot bit pair set isn't aren't doesn't don't "
    "hasn't haven't wasn't weren't person individual someone somebody subject face facial feature features look "
    "looks looking looked appear appears appearing appearance seem seems see seen sees seeing visible visibly show "
    "shows showing shown display displays displaying displayed present presents depict depicts depicting depicted "
    "photo photograph picture image portrait shot view camera viewer frame frames framed framing wear wears wearing "
    "worn sport sports sporting feature featuring bear bears bearing include includes including noticeable notable "
    "evident apparent clear clearly noticeably absent absence lack lacks lacking free devoid give gives giving "
    "given keep keeps keeping kept hold holds holding held complete completes completed accompanied paired "
    "combined together expression mouth lips eyes nose hair head".split()
)
_COLORS = "black|brown|blonde?|gr[ae]y|red|ginger|golden|silver|brunette"
_OTHERS = (
    "eyes?|hats?|caps?|glasses|eyeglasses|spectacles|sunglasses|earrings?|necklaces?|neckties?|ties?|lipstick|makeup|"
    "beard|stubble|mustache|moustache|goatee|sideburns|eyebrows?|brows?|lips|skin|complexion|cheeks"
)
# "brown eyes", "the hat is black": words of the hair on what no label gives a colour
_COLORED = re.compile(
    rf"\b(?:{_COLORS})(?:,? (?:and |or )?(?:{_COLORS}|big|large|thick|bushy|arched|narrow|full|open))* (?:{_OTHERS})\b|"
    rf"\b(?:{_OTHERS}) (?:is|are|looks?|appears?) (?:{_COLORS})\b"
)


def faithful(text: str, caption: Caption) -> bool:
    """Whether the text says what the caption says, in words that can say nothing else, at about its length."""
    low = text.lower().replace("\u2019", "'")
    least, most = (share * len(caption.text) for share in _LENGTHS)
    if not least <= len(text) <= most or _REFUSAL.search(low) or _COLORED.search(low):
        return False
    allowed = _vocabulary() | set(_words(caption.text.lower()))  # an age must be the same one
    return all(word in allowed for word in _words(low)) and parse(text) == caption.attributes


def _words(text: str) -> list[str]:
    """The words; the apostrophe of a possessive ends one."""
    return [re.sub(r"'s?$", "", word) if word not in _FUNCTION else word for word in _WORD.findall(text)]


@cache
def _vocabulary() -> frozenset[str]:
    """The words of captions, of what reads them, and of grammar."""
    read = [phrase for spec, phrase in reader._PHRASES if spec]
    named = [pair for module in (plans, synonyms) for pair in vars(module).items()]
    tables = [value for name, value in named if not name.startswith("__") and name != "annotations"]
    texts = [*_strings(tables), *_strings(read), *_strings(reader._MODIFIERS)]
    texts += [
        text for values in PHRASES.values() for phrase in values.values() for text in (*phrase.texts, *phrase.tags)
    ]
    words = {word for text in texts for word in _words(re.sub(r"\{\w*(?::\w*)?\}|\S*=\S*", " ", text.lower()))}
    words = {word for word in words if not word.isdigit()} | {word for pair in synonyms.VERBS.items() for word in pair}
    return frozenset(words | _FUNCTION | reader._MEN | reader._WOMEN | reader._MINORS) - _STRANGE


def _strings(value: Any) -> Iterator[str]:
    """All texts in nested tuples and tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _strings(key)
            yield from _strings(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _strings(entry)


def _recalled(endpoint: _Endpoint, instruction: str, text: str, temperature: float, answers: Answers | None) -> str:
    """An earlier answer, else the model's, which is kept. Raises `_Unreadable` where there is none."""
    if answers is None:
        return _ask(endpoint, instruction, text, temperature)
    key = answers.key(endpoint.model, instruction, text)
    found = answers.take(key)
    if found is None:
        found = _ask(endpoint, instruction, text, temperature)
        answers.keep(key, found)
    return found


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
