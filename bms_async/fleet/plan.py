"""Which servers are sent when, and in which batch: pure, without a clock or I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from bms_async.errors import InvalidRequestError
from bms_async.errors.base import show_value
from bms_async.models.ids import canonical_id
from bms_async.validation.aborting import why_abort
from bms_async.validation.common import MAX_BATCH_SIZE, check_id, is_id, is_number

from .sharded import Queue, Table

T = TypeVar("T")

ANY_NUMBER = 1 << 62
"""The size of an intake in which all ids of a run wait."""

REFILL_FRACTION = 4
"""A wave is refilled once there is room for a quarter of a batch: a call is scarcer than a server that waits."""

REFILL_TIMEOUT = 5.0
"""Seconds after which a wave is refilled anyway: that makes 12 calls a minute at most."""

RETRY_DELAYS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Seconds before each retry of a server that was busy; there is none after the last."""

_MAX_NAME = 255
"""Characters of the name of an entry that is not an id, as many as an id may have."""

_MAX_GRID = 60.0
"""Seconds of the grid that deferred servers are aligned to, so that they share as few calls as possible."""


class Intake:
    """Admits ids, each once, and hands them out in batches.

    From here on an id is known by its canonical form, however the caller and the cloud spell it.

    Attributes:
        admitted: How many different ids were admitted.
        pending: All admitted ids: the id itself as long as it has no outcome, None once it has.
    """

    __slots__ = ("_check", "_entries", "_invalid", "_ready", "_size", "admitted", "pending")

    def __init__(self, *, size: int = MAX_BATCH_SIZE, check: bool = True) -> None:
        self._size = size
        self._check = check
        self._ready = Queue()
        self._entries = 0
        # A table of its own: 7 is not an id, but "7" may be one.
        self._invalid: Table[None] = Table()
        self.admitted = 0
        # One table for both "admitted" and "has an outcome": a second would be felt at a million ids. It returns the id
        # as it was admitted, so that the copies in the cloud's responses need not be kept.
        self.pending: Table[str | None] = Table()

    @property
    def ready(self) -> int:
        """How many ids wait for a batch."""
        return len(self._ready)

    @property
    def is_full(self) -> bool:
        """Whether there are enough ids for a full batch."""
        return len(self._ready) >= self._size

    def admit(self, value: object) -> tuple[str, InvalidRequestError] | None:
        """Admit an id; a duplicate changes nothing, and no value whatsoever makes it raise.

        Args:
            value: An entry of the caller's ids.

        Returns:
            None; for an invalid id its name in its outcome, and the error.
        """
        self._entries += 1
        if not issubclass(type(value), str):
            name, is_complete = _describe(value)
            return self._refuse(name, _error_of(value), is_complete=is_complete)
        # A subclass of str may raise when it is compared; the plain str in it does not.
        text = canonical_id(str.__str__(value))
        shard = self.pending.shard_of(text)
        if text in shard:
            return None
        if self._check and not is_id(text):
            return self._refuse(text, _error_of(text))
        self.admitted += 1
        shard[text] = text
        self._ready.append(text)
        return None

    def adopt(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Admit ids that need no batch, since an earlier run has sent them; return those that are new."""
        new = tuple(server_id for server_id in dict.fromkeys(map(canonical_id, ids)) if server_id not in self.pending)
        for server_id in new:
            self.pending[server_id] = server_id
        self.admitted += len(new)
        return new

    def pop_batch(self, max_count: int | None = None) -> tuple[str, ...]:
        """Remove and return the ids of the next batch, none if no id waits.

        Args:
            max_count: How many ids at most; None for a full batch.
        """
        return self._ready.pop(self._size if max_count is None else min(max_count, self._size))

    def mark_done(self, server_id: str) -> str | None:
        """Note that an id has its outcome; return it as it was admitted, None if it had one already or is unknown."""
        first = self.pending.get(server_id) or self.pending.get(canonical_id(server_id))
        if first is not None:
            self.pending[first] = None
        return first

    def _refuse(
        self, name: str, error: InvalidRequestError, *, is_complete: bool = True
    ) -> tuple[str, InvalidRequestError] | None:
        if not is_complete or len(name) > _MAX_NAME or name in self.pending:
            # Two different entries may share that text.
            name = f"{name[:_MAX_NAME]}... (entry {self._entries:,} of the ids)"
        if name in self._invalid:
            return None
        self._invalid[name] = None
        self.admitted += 1
        return name, error


def _describe(value: object) -> tuple[str, bool]:
    """Return the name of an entry that is not a string, and whether that name is its whole repr."""
    try:
        # A repr may be a subclass of str, too.
        shown = str.__str__(repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a repr is foreign code
        return show_value(value), False
    return shown, True


def _error_of(value: object) -> InvalidRequestError:
    try:
        check_id("ids", value)
    except InvalidRequestError as error:
        if type(value) is not str:
            # The object itself may hold the report, which would make a cycle, and may not be picklable.
            error.value = show_value(value)
        return error.with_traceback(None)
    raise AssertionError("a value that is no id passed for one")


def batch_size(wave_size: int | None = None) -> int:
    """Return how many servers a fleet run sends with one call at most.

    Args:
        wave_size: The run's option of that name: how many servers may be in flight at once, None for no bound.
    """
    return MAX_BATCH_SIZE if wave_size is None else min(MAX_BATCH_SIZE, wave_size)


class WaveLimit:
    """The bound on how many servers are in flight.

    Args:
        wave_size: How many may be in flight at once, None for no bound.
        max_batch: How many a call carries at most; None for as many as the cloud takes.

    Attributes:
        wave_size: As the argument.
        size: How many servers a batch has at most.
    """

    __slots__ = ("_max_batch", "size", "wave_size")

    def __init__(self, wave_size: int | None = None, max_batch: int | None = None) -> None:
        self._max_batch = max_batch
        self.resize(wave_size)

    def resize(self, wave_size: int | None) -> None:
        """Set another bound.

        Args:
            wave_size: How many may be in flight at once, None for no bound.
        """
        self.wave_size = wave_size
        size = batch_size(wave_size)
        self.size = size if self._max_batch is None else min(self._max_batch, size)

    def room(self, in_flight: int) -> int:
        """Return how many servers may be sent now, at most a full batch."""
        return self.size if self.wave_size is None else max(0, min(self.size, self.wave_size - in_flight))

    def next_batch_size(self, *, ready: int, in_flight: int, complete: bool, waited: float) -> int:
        """Return how many servers the next batch has; 0 to wait for more ids, or for room.

        Args:
            ready: How many ids wait for a batch.
            in_flight: How many servers are in flight.
            complete: Whether waiting for more ids is of no use: there are none, or they come slowly.
            waited: Seconds since there is room, but less than is worth a call.
        """
        room = self.room(in_flight)
        count = min(ready, room)
        if count in (0, self.size):
            return count
        if count == ready:
            return count if complete else 0
        return count if count * REFILL_FRACTION >= self.size or waited >= REFILL_TIMEOUT else 0


def retry_grid(delay: float) -> float:
    """Return the seconds of the grid that servers which are deferred for a delay are aligned to.

    Args:
        delay: Seconds.
    """
    return min(delay, _MAX_GRID)


class DelayQueue(Generic[T]):
    """Items that are due after a delay, aligned so that many are due together."""

    __slots__ = ("_bins", "_due")

    def __init__(self) -> None:
        self._bins: dict[float, deque[T]] = {}
        self._due: list[float] = []

    def __len__(self) -> int:
        return sum(map(len, self._bins.values()))

    @property
    def next_due(self) -> float | None:
        """When the next item is due, None if there is none."""
        return self._due[0] if self._due else None

    def add(self, item: T, now: float, delay: float) -> None:
        """Add an item that is due after a delay, or up to as long again later (a minute at most), together with others.

        Args:
            item: The item.
            now: The current time.
            delay: Seconds.
        """
        grid = retry_grid(delay)
        at = -(-(now + delay) // grid) * grid
        if at not in self._bins:
            self._bins[at] = deque()
            heappush(self._due, at)
        self._bins[at].append(item)

    def pop_due(self, now: float, max_count: int) -> list[T]:
        """Remove and return items that are due, oldest first."""
        popped: list[T] = []
        while self._due and self._due[0] <= now and len(popped) < max_count:
            items = self._bins[self._due[0]]
            while items and len(popped) < max_count:
                popped.append(items.popleft())
            if not items:
                del self._bins[heappop(self._due)]
        return popped


def check_abort(share: object, sample: object) -> None:
    """Check the options that abort a run.

    Args:
        share: The option `abort_above`.
        sample: The option `abort_sample`.

    Raises:
        InvalidRequestError: One of them is invalid.
    """
    if share is not None and not (is_number(share) and 0 <= share <= 1):
        raise InvalidRequestError("abort_above", share, "expected a share from 0 to 1, or None")
    if type(sample) is not int or sample < 1:
        raise InvalidRequestError("abort_sample", sample, "expected 1 or more servers")


class AbortRule:
    """Decides when too many servers have failed.

    Args:
        above: The threshold, as a share of the servers that have ended; None never aborts.
        sample: How many must have ended before it counts.
    """

    __slots__ = ("_above", "_sample")

    def __init__(self, above: float | None, sample: int) -> None:
        self._above = above
        self._sample = sample

    def reason_to_abort(self, *, failed: int, ended: int) -> str | None:
        """Return the reason for aborting, None if there is none.

        Args:
            failed: How many are FAILED or UNKNOWN.
            ended: How many have ended, those included.
        """
        return why_abort(self._above, self._sample, failed=failed, ended=ended)
