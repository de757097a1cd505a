"""The ablation's report as an SVG: the change of each metric against the whole model, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from unif2ace_core.evaluate.ablation import ANSWERS, METRICS, WHOLE, Metric

LABELS, PANEL, GAP = 150, 300, 30  # widths in pixels
ROW, TOP, BOTTOM = 22, 44, 30  # heights
GOOD, BAD, UNSURE = "#1a7f37", "#cf222e", "#6e7781"  # better than the whole model, worse, and neither for sure


def plot(report: Mapping[str, Any]) -> str:
    """An SVG document; a report without comparisons gives one without points."""
    rows = {name: row for name, row in report["by_variant"].items() if name not in (WHOLE, ANSWERS)}
    width, height = LABELS + len(METRICS) * (PANEL + GAP), TOP + ROW * len(rows) + BOTTOM
    parts = [text(LABELS - 10, line_of(number), name, "end") for number, name in enumerate(rows)]
    for number, (key, metric) in enumerate(METRICS.items()):
        parts += panel(LABELS + number * (PANEL + GAP), key, metric, list(rows.values()))
    said = f"{report['steps']} steps a run (without pictures half), {report['seeds']} seeds; lines: 95% intervals"
    parts.append(text(LABELS, height - 8, said, size=11))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>"]) + "\n"


def panel(left: float, key: str, metric: Metric, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One metric's title, zero line and points."""
    spans = [span for row in rows if (span := span_of(key, row))]
    reach = max([abs(value) for span in spans for value in span] or [1.0]) or 1.0
    middle = left + PANEL / 2

    def x(value: float) -> float:
        return middle + value / reach * (PANEL / 2 - 10)

    bottom = TOP + ROW * len(rows)
    title = f"{metric.label}: change, {'more' if metric.better > 0 else 'less'} is better"
    parts = [text(middle, 16, title, "middle", 12), text(middle, 32, "0", "middle", 11)]
    parts += [text(x(edge), 32, f"{edge:+.3g}", "middle", 11) for edge in (-reach, reach)]
    parts.append(f'<line x1="{middle}" x2="{middle}" y1="{TOP - 8}" y2="{bottom}" stroke="#d0d7de"/>')
    for number, row in enumerate(rows):
        if span := span_of(key, row):
            low, mean, high = span
            paint, y = colour(*sorted((low * metric.better, high * metric.better))), line_of(number) - 4
            parts.append(f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" stroke="{paint}"/>')
            parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="4" fill="{paint}"/>')
    return parts


def span_of(key: str, row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Lower end, mean and upper end of a row's change; the mean alone where there is one seed."""
    if row.get(f"{key}_change") is None:
        return None
    mean, (low, high) = row[f"{key}_change"], row[f"{key}_interval"]
    return (mean if low is None else low, mean, mean if high is None else high)


def colour(low: float, high: float) -> str:
    """Of an interval of gains."""
    if low < high and (low > 0 or high < 0):
        return GOOD if low > 0 else BAD
    return UNSURE


def line_of(number: int) -> int:
    """The baseline of a row's text."""
    return TOP + ROW * number + 16


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 13) -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'
