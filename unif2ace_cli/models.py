"""Loading a model for a command: the spinner, and the core's warnings as notes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from unif2ace_cli.console import Reporter
from unif2ace_cli.options import Device

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


def load(reporter: Reporter, model: str, device: Device, parts: Sequence[str] | None = None) -> LoadedModel:
    """The model for a command, with all its parts or those named."""
    listen(reporter)
    with reporter.status("Loading the model"):
        from unif2ace_core.weights.resolve import load_model

        return load_model(model, device=device.value, parts=parts)


def note_long_texts(reporter: Reporter, loaded: LoadedModel, texts: Iterable[str], kind: str) -> None:
    """Say of which texts the model sees only the beginning."""
    limit = loaded.config.text_length
    for text in dict.fromkeys(texts):
        if len(text) > limit and len(loaded.tokenizer.encode(text)) > limit:
            reporter.note(f"the {kind} '{text[:30]}...' is too long: the model reads its first {limit} tokens")
