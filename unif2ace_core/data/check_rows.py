"""What `unif2ace data check` looks at in one row of a set: each check names what is wrong with it, or nothing.

A check needs columns; where a shard lacks one of them, or has it in another type, the check is left out there.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.check_rules import contradictions
from unif2ace_core.data.facts import known
from unif2ace_core.data.parse import parse
from unif2ace_core.data.pixels import image_fault
from unif2ace_core.data.question_kinds import Question
from unif2ace_core.data.shards import base_schema
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.stages.hashes import difference_hash
from unif2ace_core.data.stages.texts import caption_type, question_type
from unif2ace_core.data.verify import verify

if TYPE_CHECKING:
    import pyarrow as pa

OLDEST = 130.0  # years
SIGNS = 32  # bytes of a perceptual hash


class Fault(NamedTuple):
    """Something wrong with a row: its kind, the rule it breaks (of a few), and what is the case."""

    kind: str
    rule: str
    what: str


@dataclass
class CheckedRow:
    """A row while it is checked: the values of its shard's sound columns."""

    values: Mapping[str, Any]
    shard_split: str  # of the shard's name
    phash: bytes | None = field(default=None)  # SIGNS bytes, once the image is checked

    @cached_property
    def labels(self) -> dict[str, str]:
        """The known labels whose values are of the schema."""
        given = self.values.get("labels") or {}
        return {name: value for name, value in given.items() if value in BY_NAME[name].values}

    @cached_property
    def age(self) -> float | None:
        """Years, where they are possible."""
        age = self.values.get("age")
        return age if age is not None and 0.0 <= age <= OLDEST else None

    @cached_property
    def record(self) -> FaceRecord:
        """What is known of the photo."""
        values = self.values
        return FaceRecord(values["source"], values["file"], self.shard_split, self.labels, self.age, None)

    @property
    def name(self) -> str:
        """Which photo it is, for people."""
        return f"{self.values.get('source')}/{self.values.get('file')}"


# --- Columns -------------------------------------------------------------------------------------------------


def column_faults(schema: pa.Schema) -> dict[str, str]:
    """column -> what is wrong with it, of the columns that every set has and of the texts that it may have."""
    wrong: dict[str, str] = {}
    for each in base_schema():
        if each.name not in schema.names:
            wrong[each.name] = "missing"
        elif schema.field(each.name).type != each.type:
            wrong[each.name] = type_fault(schema.field(each.name).type, each.type)
    for name, kind in known_columns().items():
        if name in schema.names and schema.field(name).type != kind:
            wrong[name] = type_fault(schema.field(name).type, kind)
    return wrong


def known_columns() -> dict[str, pa.DataType]:
    """Columns that stages add, as far as they are looked at."""
    import pyarrow as pa

    return {"phash": pa.string(), "captions": caption_type(), "questions": question_type()}


def type_fault(found: pa.DataType, wanted: pa.DataType) -> str:
    """Two types, long ones cut; of two structs their difference."""
    import pyarrow as pa

    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        theirs, ours = ({f"{each.name}: {each.type}" for each in kind} for kind in (found, wanted))
        parts = [f"lacks {name}" for name in sorted(ours - theirs)[:1]]
        parts += [f"has {name}" for name in sorted(theirs - ours)[:1]]
        return f"of another type ({', '.join(parts) or 'fields in another order'})"
    return f"of type {str(found)[:60]}, not {str(wanted)[:60]}"


# --- Rows ----------------------------------------------------------------------------------------------------


def _values(row: CheckedRow) -> Iterator[Fault]:
    for name in ("source", "file", "split"):
        if not row.values[name]:
            yield Fault("values", name, f"{name} is {row.values[name]!r}")


def _categories(row: CheckedRow) -> Iterator[Fault]:
    if row.values["labels"] is None:
        yield Fault("values", "labels", "labels are null, not each of them")
    for name, value in (row.values["labels"] or {}).items():
        if value is not None and value not in BY_NAME[name].values:
            yield Fault("values", name, f"{name} is {value!r}, which is none of {', '.join(BY_NAME[name].values)}")


def _age(row: CheckedRow) -> Iterator[Fault]:
    age = row.values["age"]
    if age is not None and row.age is None:
        yield Fault("values", "age", f"age is {age:g} years")


def _landmarks(row: CheckedRow) -> Iterator[Fault]:
    points = row.values["landmarks"]
    if points is None:
        return
    flat = [number for point in points for number in point or ()]
    if [len(point or ()) for point in points] != [2] * 5 or not all(n is not None and math.isfinite(n) for n in flat):
        yield Fault("values", "landmarks", "landmarks are not five points x, y")


def _split(row: CheckedRow) -> Iterator[Fault]:
    if (split := row.values["split"]) != row.shard_split:
        yield Fault("splits", "", f"split is {split!r} in a shard of {row.shard_split!r}")


def _image(row: CheckedRow) -> Iterator[Fault]:
    """Decodes the photo; the hash of copies is the stored one, else taken here."""
    content = (row.values["image"] or {}).get("bytes")
    stored = row.values.get("phash")
    if stored is not None:
        row.phash = _signs(stored)
        if row.phash is None:
            yield Fault("values", "phash", f"phash is {stored[:20]!r}, not {2 * SIGNS} hexadecimal digits")
    if not content:
        yield Fault("images", "no bytes", "the image has no bytes")
        return
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # decoders raise whatever comes to their mind, and none of it is meant for us
        yield Fault("images", "not decoded", f"the image cannot be decoded ({image_fault(error)})")
        return
    if row.phash is None:
        row.phash = bytes.fromhex(difference_hash(image))


def _signs(text: str) -> bytes | None:
    """The bytes of a stored hash; None where it is none."""
    try:
        signs = bytes.fromhex(text)
    except ValueError:
        return None
    return signs if len(signs) == SIGNS and len(text) == 2 * SIGNS else None


def _labels(row: CheckedRow) -> Iterator[Fault]:
    age = row.age if "age" in row.values else None
    for text in contradictions(row.labels, age):
        shown = f"{text} (age {age:g})" if age is not None and ("age says" in text or "years" in text) else text
        yield Fault("contradictory_labels", text, shown)


def _probabilities(row: CheckedRow) -> Iterator[Fault]:
    labels = row.values["labels"] or {}
    for name, value in (row.values["probabilities"] or {}).items():
        if value is None:
            continue
        if not 0.0 <= value <= 1.0:  # nor NaN
            yield Fault("probabilities", "outside of 0..1", f"the probability of {name} is {value:g}")
        elif labels.get(name) is None:
            yield Fault("probabilities", "of no label", f"{name} has a probability and no label")


# --- Texts ---------------------------------------------------------------------------------------------------


def _captions(row: CheckedRow) -> Iterator[Fault]:
    true = known(row.labels)
    for caption in row.values["captions"] or ():
        text, style = (caption or {}).get("text"), (caption or {}).get("style")
        if not text or not text.strip():
            yield Fault("captions", "empty", f"the {style} caption is empty")
            continue
        said = {pair["name"]: pair["value"] for pair in caption["attributes"] or () if pair}
        read = parse(text)
        if read != said:
            what = _difference(said, read)
            yield Fault("captions", "read back otherwise", f"the {style} caption {what}: {_short(text)}")
        if false := next((pair for pair in {**said, **read}.items() if true.get(pair[0]) != pair[1]), None):
            what = f"says {false[0]}={false[1]} where the labels have {true.get(false[0], 'nothing')}"
            yield Fault("captions", "say what labels do not", f"the {style} caption {what}: {_short(text)}")


def _difference(said: Mapping[str, str], read: Mapping[str, str]) -> str:
    """The first attribute that a text states otherwise than is written down beside it."""
    name = next(name for name in sorted({*said, *read}) if said.get(name) != read.get(name))
    return f"is stored with {name}={said.get(name, 'unsaid')} and reads {name}={read.get(name, 'unsaid')}"


def _short(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[:length].rstrip()} ..."


_TEXTS = ("kind", "family", "question", "answer", "value")


def _questions(row: CheckedRow) -> Iterator[Fault]:
    for asked in row.values["questions"] or ():
        if asked is None or any(asked[name] is None for name in _TEXTS) or asked["attributes"] is None:
            yield Fault("questions", "incomplete", "a question lacks its text, answer, kind or attributes")
            continue
        pair = Question(**{name: asked[name] for name in _TEXTS}, attributes=tuple(asked["attributes"]))
        if wrong := _unconfirmed(pair, row.record):
            what = f"{_short(pair.question)!r} - {_short(pair.answer)!r}"
            yield Fault("questions", pair.kind, f"{what} {wrong}")


def _unconfirmed(pair: Question, record: FaceRecord) -> str | None:
    """What is wrong with an answer; texts that the checker chokes on are not confirmed either."""
    try:
        return verify(pair, record)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        return f"cannot be checked ({type(error).__name__}: {error})"


Check = Callable[[CheckedRow], Iterator[Fault]]
# Columns that a check needs -> the check.
_CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("source", "file", "split"), _values),
    (("labels",), _categories),
    (("age",), _age),
    (("landmarks",), _landmarks),
    (("split",), _split),
    (("image",), _image),
    (("labels",), _labels),
    (("labels", "probabilities"), _probabilities),
    (("labels", "captions"), _captions),
    (("source", "file", "labels", "age", "questions"), _questions),
)
COLUMNS = tuple(dict.fromkeys(name for needs, _ in _CHECKS for name in needs)) + ("person", "phash")


def checks_for(columns: set[str]) -> list[Check]:
    """The checks that a shard with these sound columns can have."""
    return [check for needs, check in _CHECKS if columns.issuperset(needs)]


def faults_of(row: CheckedRow, checks: list[Check]) -> Iterator[Fault]:
    """All that is wrong with a row by itself."""
    for check in checks:
        yield from check(row)
