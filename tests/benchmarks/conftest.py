"""What the benchmarks share: `compare`, which measures a fast way beside the plain one, and the table at the end.

    pytest tests/benchmarks

Rounds of both ways alternate, so that a busy machine slows both; a ratio is that of the medians. In a run of the whole
suite each benchmark only checks that both ways give the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

ROUNDS = 7
RATIOS: list[tuple[str, float, float, float | None]] = []  # name, seconds plain and fast, least ratio asked for


def measuring(config: pytest.Config) -> bool:
    """Whether the benchmarks were named on the command line."""
    return any("benchmarks" in str(argument) for argument in config.args)


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Callable[..., float | None]:
    """compare(fast, plain, asked=R, rounds=N) -> seconds of plain / seconds of fast, None where not measured."""

    def call(
        fast: Callable[[], Any],
        plain: Callable[[], Any],
        asked: float | None = None,
        rounds: int = ROUNDS,
    ) -> float | None:
        if not measuring(request.config):
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
        RATIOS.append((request.node.name.removeprefix("test_"), slow, quick, asked))
        return slow / quick

    return call


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One table: seconds of both ways and their ratio."""
    if not RATIOS:
        return
    terminalreporter.section(f"ratios of medians, {torch.get_num_threads()} threads")
    width = max(len(name) for name, *_ in RATIOS)
    terminalreporter.write_line(f"{'':{width}}  {'plain ms':>10}  {'fast ms':>10}  {'ratio':>7}  asked for")
    for name, slow, quick, asked in RATIOS:
        least = "" if asked is None else f">= {asked:g}"
        line = f"{name:{width}}  {1e3 * slow:10.2f}  {1e3 * quick:10.2f}  {slow / quick:6.2f}x  {least}"
        terminalreporter.write_line(line, red=asked is not None and slow / quick < asked)
