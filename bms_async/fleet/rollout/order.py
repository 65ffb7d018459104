"""The order in which groups are begun when only so many may be touched at once: pure.

The longest first is a good order and may be a third longer than the best one: of 3, 3, 2, 2 and 2 rounds, two at a
time, it makes 7 rounds, where 6 are enough. So where it is not close to what no order can beat, a bounded search looks
for a better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from typing import Final

CLOSE: Final = 1.01
"""How many times the bound that no order can beat an order may take, for which no better one is looked for."""

MAX_GROUPS: Final = 100
"""Of how many groups a better order is looked for: of more, the longest first is close."""

MAX_STEPS: Final = 2000
"""How many groups the search places: some milliseconds."""


def best_order(rounds: Sequence[int], max_groups: int) -> list[int]:
    """Return the indexes of groups in the order in which they are to be begun.

    Args:
        rounds: How many rounds each group takes, one at least.
        max_groups: How many groups go side by side.
    """
    order = sorted(range(len(rounds)), key=lambda index: -rounds[index])
    if not max_groups < len(rounds) <= MAX_GROUPS:
        return order
    bound = max(rounds[order[0]], -(-sum(rounds) // max_groups))
    longest = _length(rounds, order, max_groups)
    search = _Search(rounds, order, max_groups)
    # One hundredth at a time, since what is won by less is not worth a search.
    step = max(1, bound // 100)
    for length in range(bound, longest, step) if longest > bound * CLOSE else ():
        found = search.fit(length)
        if found is not None:
            return found
    return order


def _length(rounds: Sequence[int], order: Sequence[int], max_groups: int) -> int:
    ends = [0] * max_groups
    for index in order:
        heapreplace(ends, ends[0] + rounds[index])
    return max(ends)


class _Search:
    """Looks for a way to put groups into lanes of a given length; the steps that it takes are bounded in all."""

    def __init__(self, rounds: Sequence[int], order: Sequence[int], lanes: int) -> None:
        self._rounds = rounds
        self._order = order
        self._lanes = lanes
        self._steps = MAX_STEPS

    def fit(self, length: int) -> list[int] | None:
        """Return an order that is no longer than that, None if none was found."""
        free = [length] * self._lanes
        starts: dict[int, int] = {}
        if not self._place(0, free, starts, length):
            return None
        return sorted(self._order, key=starts.__getitem__)

    def _place(self, number: int, free: list[int], starts: dict[int, int], length: int) -> bool:
        if number == len(self._order):
            return True
        index = self._order[number]
        need = self._rounds[index]
        # Lanes of which as much is free are as good as each other; the fullest first.
        for room in sorted({room for room in free if room >= need}):
            self._steps -= 1
            if self._steps < 0:
                return False
            lane = free.index(room)
            free[lane] -= need
            starts[index] = length - room
            if self._place(number + 1, free, starts, length):
                return True
            free[lane] = room
        return False
