"""Which servers of a list came lately, in a memory that does not grow with the list."""

from __future__ import annotations

from collections import deque

from bms_async.models.ids import canonical_id

MAX_REMEMBERED = 20_000
"""How many ids are remembered: about 3 MB."""

_BATCH = 1000


class RecentIds:
    """The ids that came last, in whatever way they are spelled.

    Args:
        most: How many, in round thousands, of which the oldest are forgotten together; None for all.
    """

    __slots__ = ("_batch", "_batches", "_ids", "_most")

    def __init__(self, most: int | None = MAX_REMEMBERED) -> None:
        self._most = most
        self._ids: set[str] = set()
        self._batches: deque[list[str]] = deque()
        self._batch: list[str] = []

    def __contains__(self, server_id: str) -> bool:
        return canonical_id(server_id) in self._ids

    def add(self, server_id: str) -> bool:
        """Remember an id; return whether it was not remembered before."""
        server_id = canonical_id(server_id)
        if server_id in self._ids:
            return False
        self._ids.add(server_id)
        self._batch.append(server_id)
        if len(self._batch) == _BATCH:
            self._batches.append(self._batch)
            self._batch = []
            if self._most is not None and len(self._ids) > self._most:
                self._ids.difference_update(self._batches.popleft())
        return True
