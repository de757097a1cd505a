"""How far the attribute head of a CLIP expert can be believed: measured on labelled photos, kept as calibration.json.

    probability of a value = softmax(logits / temperature)      of a binary attribute: no has the logit 0
    a value is sure        where it is the likeliest and its probability is at or above its threshold

`fit_head` chooses, for each value, the lowest threshold at which

- the share that is right among the labelled photos that pass is at least the precision asked for, by the lower end of
  Wilson's interval (one standard error), and in each source with `LEAST` such photos of itself;
- nobody passes whose own probability leaves more than `DOUBT` times the errors allowed on average, or is below the
  value's share of the labelled photos: then the photo speaks against it, and habit alone for it;
- `LEAST` photos pass, and as many are labelled with the value, and as many with another one: where a value is
  hardly ever seen or hardly ever missing, a guess would pass for knowledge.

Else the value is never sure. The figures hold for photos like those measured: where the values are more or less
frequent than there, the precision is another one. Age is measured only; no rule for it reaches a useful precision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.errors import UserError
from unif2ace_core.weights.configs import read_json

FORMAT = "unif2ace-calibration-1"
NAME = "calibration.json"  # in a model folder
LEAST = 20  # photos that a share is measured on
DOUBT = 2.0
DIGITS = 4  # of probabilities and thresholds, as they are stored
BINS = 10  # of the expected calibration error
T = TypeVar("T")


@dataclass(frozen=True)
class Sureness:
    """When a value is sure, and how that did on the labelled photos."""

    threshold: float | None  # of its probability; None: never
    photos: int = 0  # labelled photos that pass
    coverage: float = 0.0  # their share of those whose attribute is labelled
    precision: float | None = None  # share that is right; None where none pass


@dataclass(frozen=True)
class HeadCalibration:
    """Of one attribute."""

    temperature: float
    photos: int  # in which it is labelled
    ece_before: float | None  # expected calibration error of the likeliest value, at temperature 1
    ece_after: float | None
    values: Mapping[str, Sureness]


@dataclass(frozen=True)
class AgeError:
    """Of the age output, in years."""

    photos: int
    mean_absolute_error: float | None


@dataclass(frozen=True)
class Calibration:
    """Of an attribute head."""

    clip: str  # fingerprint of the expert
    precision: float  # asked for
    attributes: Mapping[str, HeadCalibration]
    age: AgeError


# --- The file ------------------------------------------------------------------------------------------------


def to_json(calibration: Calibration) -> str:
    """The text of calibration.json."""
    return json.dumps({"format": FORMAT, **asdict(calibration)}, indent=1) + "\n"


def read_calibration(path: Path) -> Calibration:
    """Read calibration.json.

    Raises:
        UserError: it is missing, damaged, or no such file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with 'unif2ace data calibrate SET -o {path}'")
    values = read_json(path, "run 'unif2ace data calibrate' again")
    if values.pop("format", None) != FORMAT:
        raise UserError(f"{path} is no calibration; make one with 'unif2ace data calibrate SET -o FILE'")
    try:
        return _calibration(values)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run 'unif2ace data calibrate' again") from error


def _calibration(values: dict[str, Any]) -> Calibration:
    """What the file says. Raises `ValueError` with the field that is wrong."""
    heads = {name: _head(name, value) for name, value in _object("attributes", values.get("attributes")).items()}
    age = _plain(AgeError, "age", values.get("age"))
    found = _plain(Calibration, "", {**values, "attributes": heads, "age": age})
    if not heads:
        raise ValueError("attributes is empty")
    if not 0 < found.precision <= 1:
        raise ValueError(f"precision {found.precision}")
    return found


def _head(name: str, values: Any) -> HeadCalibration:
    """One attribute of the file."""
    where = f"attributes.{name}"
    if name not in BY_NAME:
        raise ValueError(f"{where} is none of the categories")
    stored = _object(f"{where}.values", _object(where, values).get("values"))
    sure = {value: _plain(Sureness, f"{where}.values.{value}", each) for value, each in stored.items()}
    head = _plain(HeadCalibration, where, {**values, "values": sure})
    for value, each in sure.items():
        if value not in BY_NAME[name].values:
            raise ValueError(f"{name} has no value {value!r}")
        if each.threshold is not None and not 0 < each.threshold <= 1:
            raise ValueError(f"threshold {each.threshold} of {name} = {value}")
    if not head.temperature > 0:
        raise ValueError(f"temperature {head.temperature} of {name}")
    return head


def _object(where: str, values: Any) -> dict[str, Any]:
    """A JSON object, which is checked to be one."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {'missing' if values is None else 'no object'}")
    return values


def _plain(kind: type[T], where: str, values: Any) -> T:
    """A dataclass of the fields of a JSON object, whose numbers and texts are checked to be such."""
    given, kinds = _object(where, values), get_type_hints(kind)
    dot = f"{where}." if where else ""
    if unknown := sorted(given.keys() - kinds.keys()):
        raise ValueError(f"{dot}{unknown[0]} is no field")
    for name, wanted in kinds.items():
        if name in given and not _fits(given[name], wanted):
            raise ValueError(f"{dot}{name} is {str(given[name])[:40]!r}")
    needed = [field.name for field in fields(kind) if field.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{dot}{missing[0]} is missing")
    return kind(**given)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type: finite numbers, texts, None where allowed; what is read before passes."""
    kinds = get_args(kind) if type(None) in get_args(kind) else (kind,)
    if value is None:
        return type(None) in kinds
    if float in kinds:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if int in kinds:
        return isinstance(value, int) and not isinstance(value, bool)
    return str not in kinds or isinstance(value, str)


# --- Probabilities -------------------------------------------------------------------------------------------


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits of one attribute (B, values), or (B, 1) of a binary one -> probabilities (B, values), rounded."""
    scaled = with_no(logits) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.round(powers / powers.sum(1, keepdims=True), DIGITS)


def with_no(logits: np.ndarray) -> np.ndarray:
    """The logits in float64; a binary attribute's beside those of its no, which are 0."""
    values = np.asarray(logits, np.float64)
    return np.concatenate([np.zeros_like(values), values], 1) if values.shape[1] == 1 else values


def fit_temperature(logits: np.ndarray, values: np.ndarray) -> float:
    """The temperature at which values (B,) are the likeliest, given logits (B, values); 1 where they tell nothing."""
    counts = np.bincount(values, minlength=2) if len(values) else np.zeros(2)
    if (counts >= LEAST).sum() < 2:
        return 1.0
    scores = with_no(logits)
    right = scores[np.arange(len(values)), values]

    def loss(log_inverse: float) -> float:
        scale = math.exp(log_inverse)
        top = scores.max(1) * scale
        return float(np.mean(top + np.log(np.exp(scores * scale - top[:, None]).sum(1)) - right * scale))

    return round(math.exp(-golden_section(loss, -3.0, 3.0)), DIGITS)


def golden_section(function: Callable[[float], float], low: float, high: float, steps: int = 60) -> float:
    """Where a function with one valley is lowest."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def calibration_error(chances: np.ndarray, right: np.ndarray) -> float | None:
    """Expected calibration error: mean distance of the likeliest value's probability from its share of hits, by bin."""
    if not len(chances):
        return None
    places = np.minimum((chances * BINS).astype(int), BINS - 1)
    gap = np.bincount(places, chances - right, BINS)
    return round(float(np.abs(gap).sum() / len(chances)), DIGITS)


# --- Thresholds ----------------------------------------------------------------------------------------------


def wilson(hits: np.ndarray, count: np.ndarray, z: float = 1.0) -> np.ndarray:
    """Lower end of Wilson's interval for a share."""
    share = hits / count
    spread = z * np.sqrt(share * (1 - share) / count + (z / count) ** 2 / 4)
    return (share + z * z / count / 2 - spread) / (1 + z * z / count)


def find_threshold(
    chances: np.ndarray, right: np.ndarray, sources: np.ndarray, precision: float, floor: float
) -> float | None:
    """The lowest threshold of probabilities (B,), at or above `floor`, that reaches a precision; see above."""
    order = np.argsort(-chances, kind="stable")
    chances, right, sources = chances[order], right[order], sources[order]
    count = np.arange(1, len(chances) + 1)
    good = (wilson(np.cumsum(right), count) >= precision) & (count >= LEAST) & (chances >= floor)
    for source in np.unique(sources):
        own = sources == source
        good &= (np.cumsum(own) < LEAST) | (np.cumsum(own & right) >= precision * np.cumsum(own))
    good &= np.append(chances[1:] != chances[:-1], True)  # equal ones pass together
    return float(chances[np.flatnonzero(good)[-1]]) if good.any() else None


def fit_head(
    logits: np.ndarray, values: np.ndarray, sources: np.ndarray, names: tuple[str, ...], precision: float
) -> HeadCalibration:
    """One attribute: logits (B, values), the labelled values (B,), -1 where unknown, the photos' sources (B,)."""
    there = values >= 0
    logits, values, sources = logits[there], values[there], sources[there]
    temperature = fit_temperature(logits, values)
    before, after = probabilities(logits, 1.0), probabilities(logits, temperature)
    top, chances = after.argmax(1), after.max(1)
    right = top == values
    sure = {}
    for place, name in enumerate(names):
        seen, passed, threshold = int((values == place).sum()), top == place, None
        if min(seen, len(values) - seen) >= LEAST:
            floor = max(1 - DOUBT * (1 - precision), seen / len(values))
            threshold = find_threshold(chances[passed], right[passed], sources[passed], precision, floor)
        sure[name] = _sureness(threshold, chances[passed], right[passed], len(values))
    errors = calibration_error(before.max(1), before.argmax(1) == values), calibration_error(chances, right)
    return HeadCalibration(temperature, len(values), *errors, sure)


def _sureness(threshold: float | None, chances: np.ndarray, right: np.ndarray, labelled: int) -> Sureness:
    """A threshold with what it does on the photos of which the value is the likeliest."""
    if threshold is None:
        return Sureness(None)
    hits = right[chances >= threshold]
    return Sureness(threshold, len(hits), round(len(hits) / labelled, DIGITS), round(float(hits.mean()), DIGITS))


def age_error(estimates: np.ndarray, ages: np.ndarray) -> AgeError:
    """Estimated and known ages (B,), NaN where unknown."""
    known = ~np.isnan(ages)
    if not known.any():
        return AgeError(0, None)
    return AgeError(int(known.sum()), round(float(np.abs(estimates - ages)[known].mean()), 2))
