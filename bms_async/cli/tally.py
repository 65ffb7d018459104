"""Counting what is alike, in little room however much of it differs: pure."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

__all__ = ["Tally"]


class Tally(Generic[T]):
    """Counts things by a key. Of too many keys the rarer half is let go: what comes often is found in any order.

    Args:
        most: How many keys are kept at most.

    Attributes:
        seen: How many keys were new; one that was let go may be so again.
        lost: How many things had a key that was let go.
    """

    def __init__(self, most: int = 500) -> None:
        self._most = most
        self._kept: dict[str, tuple[int, T]] = {}
        self.seen = 0
        self.lost = 0

    def add(self, key: str, thing: T) -> bool:
        """Count a thing; tell whether its key is new."""
        count, first = self._kept.get(key, (0, thing))
        if not count:
            self.seen += 1
            if len(self._kept) == self._most:
                self._let_go()
        self._kept[key] = count + 1, first
        return not count

    def ranked(self) -> list[tuple[int, T]]:
        """Return how many things had each key that is kept, with the first of them; the most frequent first."""
        return sorted(self._kept.values(), key=lambda pair: -pair[0])

    def _let_go(self) -> None:
        by_count = sorted(self._kept.items(), key=lambda pair: -pair[1][0])
        half = self._most // 2
        self.lost += sum(count for _, (count, _) in by_count[half:])
        self._kept = dict(by_count[:half])
