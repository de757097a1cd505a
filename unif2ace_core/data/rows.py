"""Sequences whose items are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

Item = TypeVar("Item", covariant=True)


class Rows(Sequence[Item]):
    """A sequence that makes its items one by one; a slice is a list."""

    @abstractmethod
    def row(self, number: int) -> Item:
        """One item."""

    @overload
    def __getitem__(self, number: int) -> Item: ...
    @overload
    def __getitem__(self, number: slice) -> list[Item]: ...
    def __getitem__(self, number: int | slice) -> Item | list[Item]:
        if isinstance(number, slice):
            return [self.row(each) for each in range(*number.indices(len(self)))]
        return self.row(number)
