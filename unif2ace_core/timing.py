"""Where the time of a command goes: phases by name, on a clock that starts with the process.

    with phase("import: torch"): ...          @phase("compute: steps") def ...

A phase inside another takes its time out of the outer one's, so the phases of a thread add up. Those of other threads
pass beside the main one's and are counted apart. A phase costs a few microseconds, so they always run; `unif2ace
generate --timings` shows them. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

NEEDED = ("import: torch", "weights: ", "compute: ")
"""Beginnings of the names of what cannot be left out; the rest is `Clock.else_seconds`."""


class Clock:
    """Seconds by phase, in the order in which the phases first ended."""

    def __init__(self, since_start: bool = False) -> None:
        """`since_start`: what passed since the process began is the phase "start"."""
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}  # of the thread that made the clock
        self.beside: dict[str, float] = {}  # of the others
        self.main, self.local = threading.get_ident(), threading.local()
        if since_start:
            self.seconds["start"] = age = process_age()
            self.began -= age

    def enter(self, name: str) -> None:
        """Begin a phase; one that is under way in this thread rests meanwhile."""
        now, stack = time.perf_counter(), self.stack()
        self.charge(stack, now)
        stack.append(name)
        self.local.mark = now

    def leave(self) -> None:
        """End the phase begun last in this thread."""
        now, stack = time.perf_counter(), self.stack()
        self.charge(stack, now)
        stack.pop()
        self.local.mark = now

    def stack(self) -> list[str]:
        """This thread's open phases, the innermost last."""
        if not hasattr(self.local, "open"):
            self.local.open = []
        return self.local.open

    def charge(self, stack: list[str], now: float) -> None:
        """Give the time since the last change to the innermost phase."""
        if stack:
            book = self.seconds if threading.get_ident() == self.main else self.beside
            book[stack[-1]] = book.get(stack[-1], 0.0) + now - self.local.mark

    def total(self) -> float:
        """Seconds since the clock's beginning."""
        return time.perf_counter() - self.began

    def summary(self) -> dict[str, Any]:
        """Seconds: `total`, `else` (not importing torch, reading weights or computing), `phases`, and `beside` them."""
        total = self.total()
        phases = {**self.seconds, "other": total - sum(self.seconds.values())}
        needed = sum(seconds for name, seconds in phases.items() if name.startswith(NEEDED))
        return {"total": total, "else": total - needed, "phases": phases, "beside": dict(self.beside)}


clock = Clock()
"""The clock of this run of the command line, or of this Python program."""


def restart(since_start: bool = False) -> None:
    """A new clock; the command line does that when it begins."""
    global clock
    clock = Clock(since_start)


class phase(contextlib.ContextDecorator):
    """A context, or a decorator, whose time counts as that of the phase `name`; see the head of this file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        clock.enter(self.name)

    def __exit__(self, *error: object) -> None:
        clock.leave()


def process_age() -> float:
    """Seconds since this process began, to a hundredth; 0 where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return age_elsewhere()


def age_elsewhere() -> float:
    """`process_age` on systems without /proc."""
    try:
        import psutil

        return max(0.0, time.time() - psutil.Process().create_time())
    except (ImportError, OSError, RuntimeError):
        return 0.0
