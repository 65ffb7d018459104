"""What a reconciler keeps of a server, and the table of all of them: pure.

A server that is synced takes some 250 bytes, its id included, in one object that the garbage collector does not visit
(R10). What few servers have, such as an error, is kept elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from enum import IntEnum
from heapq import heappop, heappush
from zlib import crc32

import msgspec

from bms_async.errors import BmsError
from bms_async.fleet.sharded import SHARDS
from bms_async.models import ServerStatus


class Kind(IntEnum):
    """What a server is to its reconciler."""

    NEW = 0
    """Nothing is known of its state."""

    SYNCED = 1
    DIFFERS = 2
    BUSY = 3
    """Somebody else is at work on it."""

    DEGRADED = 4


PROGRESSING = frozenset({Kind.NEW, Kind.DIFFERS, Kind.BUSY})


class Entry(msgspec.Struct, gc=False):
    """What is kept of a server; times are those of the event loop's clock.

    Attributes:
        desired: ``ACTIVE`` or ``SHUTOFF``.
        since: Since when it has been synced, or degraded, or neither.
        kind: What it is now.
        why: What is waited for, for people.
        seen: ``ACTIVE`` or ``SHUTOFF`` as it was last known, idle; None if that is not known, or no longer.
        seen_at: When that became known.
        outcome_at: When its last outcome came, or it was first wanted. A reading that began before proves nothing.
        is_confirmed: Whether a reading has shown it as desired since it was last asked.
        is_locked: Whether it is locked, as last seen.
    """

    desired: ServerStatus
    since: float
    kind: Kind = Kind.NEW
    why: str = ""
    seen: ServerStatus | None = None
    seen_at: float = -math.inf
    outcome_at: float = -math.inf
    is_confirmed: bool = True
    is_locked: bool = False


class Trouble(msgspec.Struct):
    """Why a server is not as desired.

    Attributes:
        reason: The error of the last attempt, or a sentence.
        attempts: How many attempts in a row have failed.
        claims: How many successes in a row were contradicted by readings.
        refusals: How often in a row the cloud has refused because the server was busy.
        retry_at: Before when it is not tried again.
        left_alone: Why it is not tried at all, as the cloud shows it now; None if it is.
    """

    reason: BmsError | str
    attempts: int = 0
    claims: int = 0
    refusals: int = 0
    retry_at: float = -math.inf
    left_alone: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it counts once the server is not left alone any more."""
        return not (self.attempts or self.claims or self.refusals)


class EntryTable:
    """Entries by server, in an order that is the same in every process.

    Beside `bms_async.fleet.sharded.Table`, entries can be removed, and there is an order.
    """

    __slots__ = ("_shards", "_size")

    def __init__(self) -> None:
        self._shards: tuple[dict[str, Entry], ...] = tuple({} for _ in range(SHARDS))
        self._size = 0

    def get(self, server_id: str) -> Entry | None:
        """Return the entry of a server, None if it has none."""
        return self._shards[shard_of(server_id)].get(server_id)

    def add(self, server_id: str, entry: Entry) -> None:
        """Add the entry of a server that has none."""
        self._shards[shard_of(server_id)][server_id] = entry
        self._size += 1

    def pop(self, server_id: str) -> Entry | None:
        """Remove the entry of a server and return it, None if it has none."""
        entry = self._shards[shard_of(server_id)].pop(server_id, None)
        if entry is not None:
            self._size -= 1
        return entry

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        """Iterate over the servers; entries may be added and removed meanwhile."""
        for shard in self._shards:
            yield from tuple(shard)


class EntryIds(AbstractSet[str]):
    """The servers of a table, as a set that changes with it and costs nothing."""

    __slots__ = ("_table",)

    def __init__(self, table: EntryTable) -> None:
        self._table = table

    def __contains__(self, server_id: object) -> bool:
        return isinstance(server_id, str) and self._table.get(server_id) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class Timers:
    """Servers and when they are due, to the second: those of one second share a call."""

    __slots__ = ("_due", "_seconds")

    def __init__(self) -> None:
        self._seconds: dict[int, list[str]] = {}
        self._due: list[int] = []

    @property
    def next_due(self) -> float | None:
        """When the next server is due, None if there is none."""
        return self._due[0] if self._due else None

    def add(self, server_id: str, at: float) -> None:
        """Add a server, which is due at a moment or up to a second later."""
        second = math.ceil(at)
        if second not in self._seconds:
            self._seconds[second] = []
            heappush(self._due, second)
        self._seconds[second].append(server_id)

    def pop(self, now: float, max_count: int) -> list[str]:
        """Remove some servers that are due and return them; none if none is.

        Args:
            now: The current time.
            max_count: How many at most.
        """
        if not self._due or self._due[0] > now:
            return []
        waiting = self._seconds[self._due[0]]
        popped = waiting[-max_count:]
        del waiting[-max_count:]
        if not waiting:
            del self._seconds[heappop(self._due)]
        return popped


def shard_of(server_id: str) -> int:
    """Return in which of `SHARDS` parts a server is, the same in every process."""
    return crc32(server_id.encode("utf-8", "surrogatepass")) % SHARDS
