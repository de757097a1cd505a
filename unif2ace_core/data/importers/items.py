"""The JSON of a photo in a WebDataset tar, checked: a tar may come from anywhere, and what follows trusts the types.

A value of a wrong type is refused; a label that the schema does not have is left out and counted. "", -1 and null are
unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.importers.splits import split_name
from unif2ace_core.data.sources import read_value
from unif2ace_core.data.stages.export import UNKNOWN
from unif2ace_core.errors import UserError

POINTS = 5
SHOWN = 60  # characters of a value that is wrong


@dataclass(frozen=True)
class Item:
    """What is known of a photo."""

    source: str
    file: str
    split: str
    person: str | None
    age: float | None
    labels: dict[str, str]
    probabilities: dict[str, float]  # of labels that a model filled in
    landmarks: list[tuple[float, float]]  # five, or none
    captions: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    unread: int  # labels that the schema does not have


def read_item(content: bytes, where: str) -> Item:
    """The item of a JSON file. Raises `UserError` that names `where` for what is not as `data export` writes it."""
    try:
        given = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be read ({error}); fetch it again") from error
    if not isinstance(given, dict):
        raise UserError(f"{where} is no JSON object; it is not of 'unif2ace data export'")
    if missing := [name for name in ("source", "file", "split", "labels") if name not in given]:
        raise UserError(f"{where} has no {missing[0]!r}; it is not of 'unif2ace data export'")
    try:
        return _item(given, where)
    except _WrongType as error:
        raise UserError(f"{where}: {error}; mend it, or export the set again") from error


def _item(given: Mapping[str, Any], where: str) -> Item:
    source, file, split = (_name(given[name], name) for name in ("source", "file", "split"))
    labels, unread = _labels(given["labels"])
    return Item(
        source,
        file,
        split_name(split, where),
        _person(given.get("person")),
        _number(given.get("age"), "age"),
        labels,
        _probabilities(given.get("probabilities") or {}, labels),
        _landmarks(given.get("landmarks")),
        tuple(_text(each, "a source caption") for each in _list(given.get("source_captions"), "source_captions")),
        tuple(map(_question, _list(given.get("source_questions"), "source_questions"))),
        unread,
    )


class _WrongType(Exception):
    """A value is not what belongs in its place."""

    def __init__(self, what: str, value: Any, wanted: str) -> None:
        shown = repr(value)
        super().__init__(f"{what} is {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'}, not {wanted}")


def _person(given: Any) -> str | None:
    return None if given is None else _text(given, "person") or None


def _labels(given: Any) -> tuple[dict[str, str], int]:
    """Labels of the schema, and how many there are that are not."""
    labels, unread = dict[str, str](), 0
    for name, each in _object(given, "labels").items():
        text = _text("" if each is None else each, f"label {name!r:.40}")
        value = read_value(BY_NAME[name], text) if name in BY_NAME else None
        if value is not None:
            labels[name] = value
        unread += bool(text) and value is None
    return labels, unread


def _probabilities(given: Any, labels: Mapping[str, str]) -> dict[str, float]:
    """Those of labels that are taken."""
    found = _object(given, "probabilities").items()
    numbers = {name: _number(each, f"probability {name!r:.40}") for name, each in found}
    return {name: each for name, each in numbers.items() if each is not None and name in labels}


def _landmarks(given: Any) -> list[tuple[float, float]]:
    points = _list(given, "landmarks")
    pairs = all(isinstance(point, list) and len(point) == 2 for point in points)
    if points and (not pairs or len(points) != POINTS):
        raise _WrongType("landmarks", given, f"{POINTS} points [x, y]")
    return [(_finite(x, "a landmark"), _finite(y, "a landmark")) for x, y in points]


def _question(given: Any) -> tuple[str, str]:
    pair = _object(given, "a source question")
    return _text(pair.get("question"), "a source question"), _text(pair.get("answer"), "a source answer")


# --- Types ---------------------------------------------------------------------------------------------------


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongType(what, value, "an object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    """A list; an empty one of nothing."""
    if value is not None and not isinstance(value, list):
        raise _WrongType(what, value, "a list")
    return value or []


def _text(value: Any, what: str) -> str:
    """A text that UTF-8 can hold; JSON may have halves of characters."""
    if not isinstance(value, str) or any("\ud800" <= mark <= "\udfff" for mark in value):
        raise _WrongType(what, value, "a text")
    return value


def _name(value: Any, what: str) -> str:
    if not _text(value, what).strip():
        raise _WrongType(what, value, "a name")
    return value


def _number(value: Any, what: str) -> float | None:
    """A number that may be unknown."""
    return None if value is None or value == UNKNOWN else _finite(value, what)


def _finite(value: Any, what: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number beyond all floats
        pass
    raise _WrongType(what, value, "a number")
