"""Counting by key in bounded memory, however many keys there are. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

__all__ = ["BoundedCounter"]


class BoundedCounter(Generic[T]):
    """Counts items by key. When there are too many keys, the rarer half is dropped: frequent keys survive in any order.

    Args:
        max_keys: How many keys are kept.

    Attributes:
        distinct: How many keys were new; a key that was dropped may be new again.
        dropped: How many items had a key that was dropped.
    """

    def __init__(self, max_keys: int = 500) -> None:
        self._max_keys = max_keys
        self._kept: dict[str, tuple[int, T]] = {}
        self.distinct = 0
        self.dropped = 0

    def add(self, key: str, item: T) -> bool:
        """Count an item; return whether its key is new."""
        count, first = self._kept.get(key, (0, item))
        if not count:
            self.distinct += 1
            if len(self._kept) == self._max_keys:
                self._drop_rare()
        self._kept[key] = count + 1, first
        return not count

    def ranked(self) -> list[tuple[int, T]]:
        """Return for each kept key the number of items and the first of them; the most frequent key first."""
        return sorted(self._kept.values(), key=lambda pair: -pair[0])

    def _drop_rare(self) -> None:
        by_count = sorted(self._kept.items(), key=lambda pair: -pair[1][0])
        half = self._max_keys // 2
        self.dropped += sum(count for _, (count, _) in by_count[half:])
        self._kept = dict(by_count[:half])
