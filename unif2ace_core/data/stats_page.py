"""The HTML page of `unif2ace data stats`: figures and samples as one file that needs neither network nor scripts.

The template is assets/stats.html; it escapes whatever comes from the set.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from unif2ace_core.data.attributes import BY_NAME, SCHEMA
from unif2ace_core.data.stats import Sample, strongest

TEMPLATE = Path(__file__).parent.parent / "assets" / "stats.html"
THUMBNAIL = 192  # greatest side in pixels
BARS = 30  # most of a histogram
PAIRS = 12
FULL = 0.6  # |phi| from which a field has its full colour
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#999999")


class Bar(NamedTuple):
    """A bar of a histogram: the values it stands for, how many there are, its height in percent."""

    label: str
    first: int
    last: int
    number: int
    share: float


def page(figures: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"thousands": thousands, "plain": plain}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(**_overview(figures), **_texts(figures), cards=[_card(sample) for sample in samples])


def thousands(number: float) -> str:
    """12,345."""
    return f"{number:,}"


def plain(name: str) -> str:
    """An attribute's name for people."""
    return name.replace("_", " ")


def percent(part: float, whole: float = 1.0) -> float:
    """A share in percent, 0 of nothing."""
    return round(100.0 * part / whole, 1) if whole else 0.0


# --- Photos and labels ---------------------------------------------------------------------------------------


def _overview(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of photos and labels."""
    photos, together = figures["photos"], figures["co_occurrence"]
    splits = [
        {**row, "photos": thousands(row["photos"]), **_share(row["photos"], photos)} for row in figures["by_split"]
    ]
    return {
        "f": figures,
        "name": Path(figures["set"]).name or figures["set"],
        "all": len(SCHEMA),
        "tiles": list(_tiles(figures)),
        "splits": splits,
        "ages": histogram(figures["ages"]["by_five_years"], step=5),
        "quantiles": ", ".join(_quantiles(figures["ages"]["quantiles"])),
        "attributes": [_attribute(name, row, photos) for name, row in figures["attributes"].items()],
        "heat": _heat(together) if len(together["names"]) > 1 else [],
        "pairs": strongest(together, PAIRS),
    }


def _tiles(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = sum(row["known"] for row in figures["attributes"].values())
    yield "photos", thousands(figures["photos"])
    yield "sources", str(len({row["source"] for row in figures["by_split"]}))
    yield "persons (where known)", thousands(figures["persons"]["persons"])
    yield "labels a photo", f"{known / max(1, figures['photos']):.1f}"
    yield "by a model", f"{percent(sum(row['by_model'] for row in figures['attributes'].values()), known)}%"
    if figures["captions"]:
        yield "captions", thousands(figures["captions"]["captions"])
    if figures["questions"]:
        yield "questions", thousands(figures["questions"]["questions"])


def _share(part: float, whole: float) -> dict[str, Any]:
    share = percent(part, whole)
    return {"share": share, "text": f"{share:g}%"}


def _quantiles(quantiles: Mapping[str, float]) -> Iterator[str]:
    for q, age in quantiles.items():
        name = {"0": "least", "0.5": "median", "1": "greatest"}.get(q, f"{percent(float(q)):g}%")
        yield f"{name} {age:g}"


def _attribute(name: str, row: Mapping[str, Any], photos: int) -> dict[str, Any]:
    """An attribute's line: one bar for yes, or a bar of parts for named values."""
    known, shares = row["known"], row["shares"]
    line: dict[str, Any] = {
        "name": plain(name),
        "known": f"{percent(known, photos):g}%",
        "by_model": f"{percent(row['by_model'], known):g}%" if known else "",
        "text": "",
        "parts": [],
    }
    if known and BY_NAME[name].binary:
        share = percent(shares.get("yes", 0.0))
        line |= {"share": share, "text": f"yes {share:g}%"}
    elif known:
        line["parts"] = [
            {"share": percent(share), "text": f"{value} {percent(share):g}%", "colour": COLOURS[number % len(COLOURS)]}
            for number, (value, share) in enumerate(shares.items())
        ]
    return line


def _heat(together: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of the heat map, row by row."""
    names = together["names"]
    return [
        {"name": plain(name), "cells": [_field(together, row, column) for column in range(len(names))]}
        for row, name in enumerate(names)
    ]


def _field(together: Mapping[str, Any], row: int, column: int) -> dict[str, str]:
    """One field: its colour, and its numbers where there are any."""
    phi, lift = together["phi"][row][column], together["lift"][row][column]
    if row == column or phi is None:
        return {"kind": "s" if row == column else "", "alpha": "", "title": ""}
    one, other = plain(together["names"][row]), plain(together["names"][column])
    numbers = f"phi {phi:+.2f}, {thousands(together['photos'][row][column])} photos"
    title = f"{one} and {other}: {numbers}" + (f", lift {lift:.2f}" if lift is not None else "")
    return {"kind": "p" if phi >= 0 else "m", "alpha": f"{min(1.0, abs(phi) / FULL):.2f}", "title": title}


def histogram(counted: Mapping[str, int], step: int = 1, bars: int = BARS) -> list[Bar]:
    """Bars of equal width over all values that occur; `step` is what one key stands for."""
    values = sorted((int(value), count) for value, count in counted.items())
    if not values:
        return []
    least, most = values[0][0], values[-1][0]
    width = step * -(-((most - least) // step + 1) // bars)
    heights = [0] * ((most - least) // width + 1)
    for value, count in values:
        heights[(value - least) // width] += count
    tallest = max(heights)
    found = []
    for number, count in enumerate(heights):
        first = least + number * width
        last = first + width - 1
        label = f"{first}" if width == 1 else f"{first}-{last}"
        found.append(Bar(label, first, last, count, percent(count, tallest)))
    return found


# --- Texts ---------------------------------------------------------------------------------------------------


def _texts(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of captions and questions."""
    captions, questions = figures["captions"] or {"styles": {}}, figures["questions"] or {}
    rows = [
        (style, source, row)
        for style, total in captions["styles"].items()
        for source, row in (("all", total), *total["by_source"].items())
    ]
    charts = [
        (style, [(name, histogram(total["histograms"][name])) for name in ("attributes", "words", "tokens")])
        for style, total in captions["styles"].items()
    ]
    kinds = questions.get("kinds", {})
    most = sum(kinds.values())
    yes_no = questions.get("yes_no", {})
    return {
        "styles": rows,
        "caption_charts": charts,
        "kinds": [{"name": plain(kind or "none"), **_share(count, most)} for kind, count in kinds.items()],
        "per_photo": histogram(questions.get("histogram", {})),
        "yes_no": [
            {"name": plain(name), "questions": thousands(row["questions"]), **_share(row["yes"], 1.0)}
            for name, row in yes_no.items()
        ],
    }


def _card(sample: Sample) -> dict[str, Any]:
    return {
        "name": f"{sample.source}/{sample.file}",
        "split": sample.split,
        "image": thumbnail(sample.image),
        "captions": sample.captions,
        "questions": sample.questions,
    }


def thumbnail(content: bytes | None) -> str:
    """A small WebP as a data address; "" where there is no image."""
    try:
        with Image.open(io.BytesIO(content or b"")) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception:  # decoders raise whatever comes to their mind; `data check` names the photo
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
