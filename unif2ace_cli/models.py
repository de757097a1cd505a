"""Loading a model for a command: the spinner, and the core's warnings as notes."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unif2ace_cli.console import Reporter
from unif2ace_cli.options import Device, Quantize
from unif2ace_core.timing import phase

if TYPE_CHECKING:
    from unif2ace_core.weights.resolve import LoadedModel


class NoteHandler(logging.Handler):
    """Shows what the core logs as notes on stderr."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self.reporter.note(record.getMessage())


def listen(reporter: Reporter) -> None:
    """From now on the core's log lines are notes of this reporter."""
    logger = logging.getLogger("unif2ace_core")
    logger.handlers[:] = [NoteHandler(reporter)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def import_core() -> None:
    """Import torch and what the tasks need, with threads that do not wait at the expense of other programs."""
    # OpenMP's threads otherwise turn in circles until all have finished a piece of work. With one of two cores busy
    # that made `generate` 30 times slower. Training, which has the cores to itself, does not come here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with nothing_collected():
        with phase("import: torch"):
            import torch  # noqa: F401
        with phase("import: rest"):
            import unif2ace_core.tasks.generate
            import unif2ace_core.tasks.understand
            import unif2ace_core.weights.resolve  # noqa: F401


@contextmanager
def nothing_collected() -> Iterator[None]:
    """No garbage collection meanwhile, and none later of the modules that were imported.

    There are some 400,000 objects in them, hardly a piece of garbage among them, and a look through all takes 0.15 s.
    """
    enabled, first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
        if first:
            gc.freeze()
    finally:
        if enabled:
            gc.enable()


def load(
    reporter: Reporter,
    model: str,
    device: Device,
    parts: Sequence[str] | None = None,
    quantize: Quantize | None = None,
) -> LoadedModel:
    """The model for a command, with all its parts or those named; with `quantize` its weights are rounded."""
    listen(reporter)
    with reporter.status("Loading the model"):
        import_core()
        from unif2ace_core.weights.resolve import load_model

        scheme = None if quantize is None else quantize.value
        return load_model(model, device=device.value, parts=parts, quantize=scheme)


def note_long_texts(reporter: Reporter, loaded: LoadedModel, texts: Iterable[str], kind: str) -> None:
    """Say of which texts the model sees only the beginning."""
    limit = loaded.config.text_length
    for text in dict.fromkeys(texts):
        if len(text) > limit and len(loaded.tokenizer.encode(text)) > limit:
            reporter.note(f"the {kind} '{text[:30]}...' is too long: the model reads its first {limit} tokens")
