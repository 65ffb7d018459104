"""The order of rows by a column: numbers in texts count as numbers, and what is empty comes last. Pure."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Final, Generic, TypeAlias, TypeVar

T = TypeVar("T")

__all__ = ["SortedRows", "natural_key"]

Key: TypeAlias = tuple[int, tuple[tuple[int, float, str], ...], str]

_DIGITS: Final = re.compile(r"([0-9]{1,18})")
_A_RUN: Final = 500


def natural_key(value: object) -> Key:
    """Return what a value is compared by: any two values can be compared, and web-2 comes before web-10.

    Args:
        value: The value of a column.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, datetime):
        value = value.timestamp()
    if isinstance(value, int | float):
        return 1, ((0, value, ""),), ""
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}={item}" for name, item in value.items())
    elif isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    text = "" if value is None else str(value)
    if not text:
        return 0, (), ""
    parts = [part for part in _DIGITS.split(text.casefold()) if part]
    return 1, tuple((0, int(part), "") if _DIGITS.fullmatch(part) else (1, 0, part) for part in parts), text


class SortedRows(Generic[T]):
    """Holds rows, and yields them in their order.

    They are sorted in small runs as they come and merged at the end, so that no step takes long however many they are.

    Args:
        value: Returns the value of the column for a row.
        descending: Whether the largest comes first. What is empty comes last all the same.
    """

    def __init__(self, value: Callable[[T], object], *, descending: bool) -> None:
        self._value = value
        self._descending = descending
        self._runs: list[list[tuple[Key, T]]] = []
        self._run: list[tuple[Key, T]] = []

    def add(self, row: T) -> None:
        """Hold a row."""
        has, parts, text = natural_key(self._value(row))
        self._run.append(((has if self._descending else 1 - has, parts, text), row))
        if len(self._run) >= _A_RUN:
            self._close_run()

    def __iter__(self) -> Iterator[T]:
        """Yield all rows in their order; equal ones as they came."""
        self._close_run()
        for _, row in heapq.merge(*self._runs, key=_key_of, reverse=self._descending):
            yield row

    def _close_run(self) -> None:
        self._run.sort(key=_key_of, reverse=self._descending)
        self._runs.append(self._run)
        self._run = []


def _key_of(pair: tuple[Key, object]) -> Key:
    return pair[0]
