"""What people see: results on stdout, notes and progress on stderr, one-line errors, exit codes.

    0 all done    1 something failed (one line on stderr says what)    2 wrong usage    130 Ctrl-C

`report_exception` is the only place where an exception becomes a message. Nothing here imports torch; rich is
imported when a progress bar or a table is drawn.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

import typer

from unif2ace_core import timing
from unif2ace_core.errors import UserError

NEEDED_WORDS = "importing torch, reading weights or computing"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
RED, DIM, RESET = "\x1b[31m", "\x1b[2m", "\x1b[0m"

debug = False
"""Set by --debug: errors come with their traceback."""


class UsageError(UserError):
    """The command line itself is wrong (exit code 2)."""


def set_debug(value: bool) -> bool:
    """Callback of --debug; it is eager so that even a wrong later option is shown with its traceback."""
    global debug
    debug = debug or value
    return value


def set_timings(ctx: typer.Context, value: bool) -> bool:
    """Callback of --timings: when the command has ended, however it did, the clock is shown."""
    if value and not ctx.resilient_parsing:
        ctx.call_on_close(lambda: show_timings(bool(ctx.params.get("json"))))
    return value


def show_timings(as_json: bool) -> None:
    """The phases of this run in seconds on stderr: a line each, or all in one JSON object."""
    found = timing.clock.summary()
    if as_json:
        print(json.dumps({"timings": rounded(found)}), file=sys.stderr, flush=True)
        return
    lines = [*found["phases"].items(), ("total", found["total"]), (f"of it not {NEEDED_WORDS}", found["else"])]
    lines += [(f"{name} (meanwhile)", seconds) for name, seconds in found["beside"].items()]
    print("\n".join(f"{seconds:8.3f} s  {name}" for name, seconds in lines), file=sys.stderr, flush=True)


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    """Nested seconds, to the millisecond."""
    return {key: rounded(value) if isinstance(value, dict) else round(value, 3) for key, value in found.items()}


def reset() -> None:
    """Start of a run: forget --debug, make unusual file names and ASCII terminals printable."""
    global debug
    debug = bool(os.environ.get("UNIF2ACE_DEBUG"))
    utf8 = is_utf8(sys.stdout)
    for stream, errors in (
        (sys.stdout, "surrogateescape" if utf8 else "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)


def is_utf8(stream: TextIO) -> bool:
    """Whether the stream can show any character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream (a closed stream: nobody)."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def coloured(stream: TextIO) -> bool:
    """Whether to use colour: on terminals, unless NO_COLOR is set or the terminal is dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def one_line(message: object) -> str:
    """The message with all its white space and control characters made single blanks."""
    text = "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else " " for c in str(message))
    return " ".join(text.split())


def complain(message: object, kind: str = "error") -> None:
    """Write `error: message` to stderr, on one line."""
    head = f"{RED}{kind}:{RESET}" if coloured(sys.stderr) else f"{kind}:"
    print(head, one_line(message), file=sys.stderr, flush=True)


@dataclass
class Reporter:
    """Writes what one command has to say. `json` turns each result into one object a line."""

    json: bool = False
    quiet: bool = False
    failed: bool = False
    drawing: bool = False

    def line(self, text: str) -> None:
        """A result in plain form."""
        print(text, flush=True)

    def record(self, fields: dict[str, Any]) -> None:
        """A result as one JSON object on one line."""
        print(json.dumps(fields, ensure_ascii=not is_utf8(sys.stdout)), flush=True)

    def note(self, message: str) -> None:
        """Something worth knowing, on stderr; `--quiet` silences it."""
        if not self.quiet:
            text = f"note: {one_line(message)}"
            print(f"{DIM}{text}{RESET}" if coloured(sys.stderr) else text, file=sys.stderr, flush=True)

    def failure(self, error: BaseException | str) -> None:
        """One input failed; the others go on and the command ends with exit code 1."""
        self.failed = True
        if isinstance(error, BaseException):
            report_exception(error)
        else:
            complain(error)

    @property
    def exit_code(self) -> int:
        return FAILED if self.failed else OK

    @property
    def live(self) -> bool:
        """Whether progress may be drawn: a person looks at stderr and did not ask for quiet."""
        return not self.quiet and coloured(sys.stderr)

    @contextmanager
    def draw(self, display: AbstractContextManager[Any]) -> Iterator[None]:
        """Show a live rich display; two at once would garble each other."""
        self.drawing = True
        try:
            with display:
                yield
        finally:
            self.drawing = False

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """A spinner on stderr while something without steps is under way."""
        if not self.live or self.drawing:
            yield
            return
        with self.draw(live_progress("spinner", "text", transient=True, task=text)):
            yield

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on stderr for `total` items; gives the function that says how many more are done."""
        if not self.live or self.drawing or total < 2:
            with self.status(text):
                yield lambda count: None
            return
        bar = live_progress("text", "bar", "count", "left", transient=True)
        with self.draw(bar):
            task = bar.add_task(text, total=total)
            yield lambda count: bar.advance(task, count)


def live_progress(*columns: str, transient: bool, task: str | None = None) -> Any:
    """A rich progress display on stderr; columns: spinner, text, bar, count, left, or a field format.

    Lines printed meanwhile go above it: stderr's always, stdout's only where both are the terminal.
    """
    from rich import progress
    from rich.console import Console

    known = {
        "spinner": progress.SpinnerColumn,
        "bar": progress.BarColumn,
        "count": progress.MofNCompleteColumn,
        "left": progress.TimeRemainingColumn,
    }
    texts = {"text": "{task.description}"}
    made = [known[name]() if name in known else progress.TextColumn(texts.get(name, name)) for name in columns]
    display = progress.Progress(
        *made, console=Console(stderr=True), transient=transient, redirect_stdout=is_terminal(sys.stdout)
    )
    if task is not None:
        display.add_task(task, total=None)
    return display


def usage_kinds() -> tuple[type[Exception], type[Exception]]:
    """(UsageError, ClickException) of the parser under Typer, which newer releases carry inside."""
    import typer

    usage, base = typer.BadParameter.__mro__[1:3]
    return usage, base


def report_exception(error: BaseException) -> int:
    """Say on stderr what went wrong, in one line (with --debug: the traceback too); gives the exit code."""
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    usage, parser = usage_kinds()
    if isinstance(error, KeyboardInterrupt):
        complain("Ctrl-C", kind="interrupted")
        return INTERRUPTED
    if isinstance(error, usage):
        complain(usage_message(error))
        return USAGE
    if isinstance(error, UsageError):
        complain(error)
        return USAGE
    if isinstance(error, (UserError, parser)):
        complain(error)
        return FAILED
    complain(*describe_failure(error))
    return FAILED


def usage_message(error: Any) -> str:
    """The parser's complaint with the way to the help that applies."""
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "unif2ace"
    text = one_line(error.format_message()).replace("Value error, ", "").rstrip(".")  # of newer Typers
    return f"{text[:1].lower()}{text[1:]}; see '{command} --help'"


def describe_failure(error: BaseException) -> tuple[str, str]:
    """(message, kind) for an exception nobody meant for the user."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory; use a smaller --batch-size or --device cpu", "error"
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("unif2ace"):
        return f"the package {error.name} is missing; install it with pip install {error.name}", "error"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}", "error"
    detail = one_line(error)[:300]
    return f"{type(error).__name__}: {detail}; run with --debug for the traceback", "internal error"
