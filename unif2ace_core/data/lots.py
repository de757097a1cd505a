"""Weighted draws without replacement (Efraimidis and Spirakis, 2006)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def by_lot(items: Iterable[T], weight: Callable[[T], float], rng: random.Random) -> list[T]:
    """The items in random order: the first one as if drawn by weight, the next ones likewise of what is left."""
    drawn = [(rng.random() ** (1.0 / weight(item)), -number, item) for number, item in enumerate(items)]
    return [item for _, _, item in sorted(drawn, key=lambda entry: entry[:2], reverse=True)]
