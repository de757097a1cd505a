"""Mapping files: which columns and values of a source say what on the 46-category schema. JSON, checked on load.

    {"about": "who made it and what for",
     "file": "name", "split": "part", "person": "id", "age": "years",       columns, where not called so
     "plain": true,                       columns with the schema's own names are read as they are, too
     "attributes": {
       "Male": {"column": "sex", "values": {"m": "yes", "f": "no"}},        a value that is not listed: unknown
       "Smiling": {"column": "smile", "at_least": {"yes": 0.8}, "at_most": {"no": 0.1}},    between: unknown
       "No_Beard": [{"column": "beard", "at_most": {"yes": 0.0}},           several: the last that says
                    {"column": "goatee", "at_least": {"no": 0.5}}],         something counts
       "Wearing_Lipstick": {"column": "lips", "from_age": 18, "when": {"mouth_hidden": ["0"]}}},
     "rules": ["unlikely"]}               see rules.py

A blank cell is unknown. An attribute that no line mentions stays absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unif2ace_core.data.attributes import BY_NAME, Attribute, age_group, derive
from unif2ace_core.data.importers.rules import RULES, Reading
from unif2ace_core.data.sources import plain_labels, read_value
from unif2ace_core.errors import UserError

_FOLDER = Path(__file__).parents[2] / "assets" / "mappings"
_COLUMNS = ("file", "split", "person", "age")
_KEYS = ("about", "plain", "attributes", "rules", *_COLUMNS)
_SPEC_KEYS = ("column", "values", "at_least", "at_most", "when", "from_age")


@dataclass(frozen=True)
class Spec:
    """How one column states one attribute."""

    attribute: Attribute
    column: str
    values: Mapping[str, str] = field(default_factory=dict)
    at_least: tuple[str, float] | None = None  # (value, limit)
    at_most: tuple[str, float] | None = None
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    from_age: float = -math.inf

    def value(self, row: Mapping[str, str], age: float | None) -> str | None:
        """The attribute's value in this row; None for unknown."""
        text = (row.get(self.column) or "").strip()
        if not text or any(row.get(name) not in allowed for name, allowed in self.when.items()):
            return None
        if self.from_age > -math.inf and (age is None or age < self.from_age):
            return None
        if self.values:
            return self.values.get(text, self.values.get(text.lower()))
        if self.at_least is None and self.at_most is None:
            return read_value(self.attribute, text)
        return self._beyond(number(text, self.column))

    def _beyond(self, chance: float) -> str | None:
        if self.at_least is not None and chance >= self.at_least[1]:
            return self.at_least[0]
        return self.at_most[0] if self.at_most is not None and chance <= self.at_most[1] else None


@dataclass(frozen=True)
class LabelMap:
    """A mapping file, checked."""

    names: Mapping[str, str] = field(default_factory=dict)  # what for -> column
    plain: bool = True
    specs: tuple[Spec, ...] = ()
    rules: tuple[str, ...] = ()

    def column(self, what: str) -> str:
        """The column of file, split, person or age."""
        return self.names.get(what, what)

    def columns(self) -> list[str]:
        """All columns that the file names, in its order."""
        return list(dict.fromkeys([*self.names.values(), *(c for s in self.specs for c in (s.column, *s.when))]))

    def read(self, row: Mapping[str, str], where: str) -> tuple[dict[str, str], float | None]:
        """Labels and age of a row. Raises `UserError` that names `where` for a cell that is no number."""
        try:
            text = (row.get(self.column("age")) or "").strip()
            age = number(text, self.column("age")) if text else None
            reading = Reading(row, plain_labels(row) if self.plain else {}, age)
            for spec in self.specs:
                value = spec.value(row, age)
                if value is not None:
                    reading.labels[spec.attribute.name] = value
            for rule in self.rules:
                RULES[rule](reading)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except (ValueError, KeyError, IndexError) as error:
            raise UserError(f"{where} cannot be read ({error}); mend its labels") from error
        if reading.age is not None:
            reading.labels.setdefault("Age_Group", age_group(reading.age))
        return derive(reading.labels), reading.age


def number(text: str, column: str) -> float:
    """A cell as a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{column} is {text!r}, not a number; mend the table")
    return value


# --- Loading and checking --------------------------------------------------------------------------


def shipped() -> tuple[str, ...]:
    """Names of the mappings that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load_mapping(path: Path) -> LabelMap:
    """A mapping file, or by its name one of those that come with the package. Raises `UserError` for what is wrong."""
    if not path.is_file() and str(path) in shipped():
        path = _FOLDER / f"{path}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"mapping {path} does not exist; name a file or one of {', '.join(shipped())}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"mapping {path} cannot be read ({error}); it must be JSON") from error
    try:
        return _label_map(content)
    except UserError as error:
        raise UserError(f"mapping {path}: {error}") from error


def _label_map(content: Any) -> LabelMap:
    _known(_object(content, "the file"), _KEYS, "key")
    plain, rules = content.get("plain", False), content.get("rules", [])
    if not isinstance(plain, bool):
        raise UserError(f"plain is {plain!r}; write true or false")
    if not isinstance(rules, list):
        raise UserError(f"rules is {rules!r}; write a list of {', '.join(RULES)}")
    _known(rules, tuple(RULES), "rule")
    names = {what: _text(content[what], what) for what in _COLUMNS if what in content}
    attributes = _object(content.get("attributes", {}), "attributes")
    _known(attributes, tuple(BY_NAME), "attribute")
    specs = [
        _spec(BY_NAME[name], spec)
        for name, given in attributes.items()
        for spec in (given if isinstance(given, list) else [given])
    ]
    if not specs and not plain:
        raise UserError('it says nothing: give "attributes", or "plain": true')
    return LabelMap(names, plain, tuple(specs), tuple(rules))


def _spec(attribute: Attribute, given: Any) -> Spec:
    name = attribute.name
    _known(_object(given, name), _SPEC_KEYS, f"key of {name}")
    if "column" not in given:
        raise UserError(f'{name} has no "column"; name the source\'s column')
    values, when = _object(given.get("values", {}), f"values of {name}"), _object(given.get("when", {}), "when")
    for value in values.values():
        _known_value(attribute, value)
    least, most = (_cut(attribute, given, key) for key in ("at_least", "at_most"))
    if values and (least or most):
        raise UserError(f"{name} has both values and cut-offs; give one of them (a list holds several)")
    if least and most and least[1] <= most[1]:
        raise UserError(f"{name} has overlapping cut-offs: at least {least[1]:g} and at most {most[1]:g}")
    allowed = {column: tuple(_text(v, "when") for v in _list(items, "when")) for column, items in when.items()}
    age = _limit(given["from_age"], name) if "from_age" in given else -math.inf
    return Spec(attribute, _text(given["column"], f"column of {name}"), dict(values), least, most, allowed, age)


def _cut(attribute: Attribute, given: Mapping[str, Any], key: str) -> tuple[str, float] | None:
    if key not in given:
        return None
    pairs = _object(given[key], f"{key} of {attribute.name}")
    if len(pairs) != 1:
        raise UserError(f'{key} of {attribute.name} needs one value and its limit, like {{"yes": 0.8}}')
    ((value, limit),) = pairs.items()
    _known_value(attribute, value)
    return value, _limit(limit, attribute.name)


def _limit(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name} has the limit {value!r}; write a number")
    return float(value)


def _known_value(attribute: Attribute, value: Any) -> None:
    if value not in attribute.values:
        raise UserError(f"unknown value {value!r} of {attribute.name}; it has {', '.join(attribute.values)}")


def _known(names: Any, allowed: tuple[str, ...], what: str) -> None:
    for name in names:
        if name not in allowed:
            near = get_close_matches(str(name), allowed, 1)
            help_ = f"did you mean {near[0]}?" if near else f"there are: {', '.join(allowed[:8])}"
            raise UserError(f"unknown {what} {name!r}; {help_}")


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what} must be a JSON object, not {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{what} must be a list, not {value!r}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{what} must be a text, not {value!r}")
    return value
