"""What the benchmarks share: `compare`, which measures a fast way beside the plain one, and the table at the end.

    pytest tests/benchmarks

Rounds of both ways alternate, so that a busy machine slows both; a ratio is that of the medians. In a run of the whole
suite each benchmark only checks that both ways give the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

ROUNDS = 7


class Row(NamedTuple):
    """A line of the table."""

    name: str
    value: float  # ratio of plain to fast, or a share
    asked: float | None  # the least that is asked for, if anything is
    seconds: tuple[float, float] | None = None  # plain and fast


TABLE: list[Row] = []


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> bool:
    """Whether the benchmarks were named on the command line."""
    return any("benchmarks" in str(argument) for argument in request.config.args)


@pytest.fixture
def compare(request: pytest.FixtureRequest, measured: bool) -> Callable[..., float | None]:
    """compare(fast, plain, asked=R, rounds=N) -> seconds of plain / seconds of fast, None where not measured."""

    def call(
        fast: Callable[[], Any],
        plain: Callable[[], Any],
        asked: float | None = None,
        rounds: int = ROUNDS,
    ) -> float | None:
        if not measured:
            return None
        benchmark, seconds = request.getfixturevalue("benchmark"), list[float]()

        def plain_round() -> None:
            began = time.perf_counter()
            plain()
            seconds.append(time.perf_counter() - began)

        plain()
        with torch.inference_mode(not torch.is_grad_enabled()):
            benchmark.pedantic(fast, setup=plain_round, rounds=rounds, warmup_rounds=1)
        slow, quick = statistics.median(seconds[1:]), benchmark.stats.stats.median
        benchmark.extra_info["ratio"] = slow / quick
        TABLE.append(Row(request.node.name.removeprefix("test_"), slow / quick, asked, (slow, quick)))
        return slow / quick

    return call


@pytest.fixture
def share(measured: bool) -> Callable[[str, float, float | None], None] | None:
    """share(name, value, asked) puts a line into the table; None where nothing is measured."""
    return (lambda *row: TABLE.append(Row(*row))) if measured else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One table: seconds of both ways and their ratio, and shares."""
    if not TABLE:
        return
    terminalreporter.section(f"medians, {torch.get_num_threads()} threads")
    width = max(len(row.name) for row in TABLE)
    terminalreporter.write_line(f"{'':{width}}  {'plain ms':>10}  {'fast ms':>10}  {'ratio':>7}  asked for")
    for row in TABLE:
        times = " ".join(f"{1e3 * each:11.2f}" for each in row.seconds) if row.seconds else " " * 23
        value = f"{row.value:6.2f}x" if row.seconds else f"{100 * row.value:6.1f}%"
        least = "" if row.asked is None else f">= {row.asked:.3g}"
        failed = row.asked is not None and row.value < row.asked
        terminalreporter.write_line(f"{row.name:{width}} {times}  {value}  {least}", red=failed)
