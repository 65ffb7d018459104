"""The most recent ids of a list, in memory that does not grow with the list."""

from __future__ import annotations

from collections import deque

from bms_async.models.ids import canonical_id

MAX_REMEMBERED = 20_000
"""Maximum number of remembered ids: about 3 MB."""

_BATCH = 1000


class RecentIds:
    """The last ids that were added, in their canonical form.

    Args:
        maximum: How many to remember; the oldest are forgotten a thousand at a time. None for no maximum.
    """

    __slots__ = ("_batch", "_batches", "_ids", "_maximum")

    def __init__(self, maximum: int | None = MAX_REMEMBERED) -> None:
        self._maximum = maximum
        self._ids: set[str] = set()
        self._batches: deque[list[str]] = deque()
        self._batch: list[str] = []

    def __contains__(self, server_id: str) -> bool:
        return canonical_id(server_id) in self._ids

    def add(self, server_id: str) -> bool:
        """Remember an id; return whether it is new."""
        server_id = canonical_id(server_id)
        if server_id in self._ids:
            return False
        self._ids.add(server_id)
        self._batch.append(server_id)
        if len(self._batch) == _BATCH:
            self._batches.append(self._batch)
            self._batch = []
            if self._maximum is not None and len(self._ids) > self._maximum:
                self._ids.difference_update(self._batches.popleft())
        return True
