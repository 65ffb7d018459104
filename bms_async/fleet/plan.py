"""Which servers go when, and in which batch: pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from bms_async.errors import InvalidRequestError
from bms_async.errors.base import show_value
from bms_async.models.ids import canonical_id
from bms_async.validation.common import MAX_BATCH_SIZE, check_id

from .sharded import Queue, Table

T = TypeVar("T")

REFILL_FRACTION = 4
"""A wave is refilled when a quarter of it has ended: a call is scarcer than a server that waits a little."""

REFILL_TIMEOUT = 5.0
"""Seconds after which a wave is refilled all the same, so that a run needs 12 calls a minute for it at most."""

RETRY_DELAYS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Seconds before a server that was busy is asked for again; after the last it is given up."""

_MAX_NAME = 255
"""Characters of what an entry that is no id is called, as many as an id may have."""

_MAX_GRID = 60.0
"""Seconds: servers that are due within the same ones go together, in as few calls as they can."""


class Intake:
    """Takes ids in, each once, and hands them out in batches.

    An id is known by its canonical form from here on, however its caller and the cloud write it.

    Attributes:
        admitted: How many different ids came in.
        pending: All ids that came in: the id itself as long as it has no outcome, None once it has.
    """

    __slots__ = ("_check", "_handed_over", "_ready", "_size", "_unfit", "admitted", "pending")

    def __init__(self, *, size: int = MAX_BATCH_SIZE, check: bool = True) -> None:
        self._size = size
        self._check = check
        self._ready = Queue()
        self._handed_over = 0
        # What is no text has a place of its own: 7 is no id, and "7" may well be one.
        self._unfit = Table()
        self.admitted = 0
        # One table is both what came in and what has no outcome yet: at a million ids a second one would be felt. It
        # gives the id as it came in, too, so that the copies in the cloud's answers need not be kept.
        self.pending = Table()

    @property
    def ready(self) -> int:
        """How many ids wait for a batch."""
        return len(self._ready)

    @property
    def is_full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._ready) >= self._size

    def admit(self, value: object) -> tuple[str, InvalidRequestError] | None:
        """Take one id in; one that came before changes nothing, and whatever it is, nothing is raised for it.

        Args:
            value: What the caller handed over.

        Returns:
            None, or for an unfit id how it is called in its outcome, which it has with that, and why it is refused.
        """
        self._handed_over += 1
        if not issubclass(type(value), str):
            name, is_whole = _look_at(value)
            return self._refuse(name, _error_of(value), is_whole=is_whole)
        # What is derived from str may raise when it is compared, and what it is made of does not.
        text = canonical_id(str.__str__(value))
        if text in self.pending:
            return None
        if self._check:
            try:
                check_id("ids", text)
            except InvalidRequestError as error:
                return self._refuse(text, error.with_traceback(None))
        self.admitted += 1
        self.pending[text] = text
        self._ready.append(text)
        return None

    def adopt(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Take in ids that need no batch, for they were asked for before; return those that are new."""
        new = tuple(server_id for server_id in dict.fromkeys(map(canonical_id, ids)) if server_id not in self.pending)
        for server_id in new:
            self.pending[server_id] = server_id
        self.admitted += len(new)
        return new

    def take(self, most: int | None = None) -> tuple[str, ...]:
        """Return the next batch, empty if no id waits.

        Args:
            most: How many ids at most, if less than a whole batch.
        """
        return self._ready.take(self._size if most is None else min(most, self._size))

    def mark_done(self, server_id: str) -> str | None:
        """Note that an id has its outcome; return it as it is known here, None unless this is the first for it."""
        first = self.pending.get(server_id) or self.pending.get(canonical_id(server_id))
        if first is not None:
            self.pending[first] = None
        return first

    def _refuse(
        self, name: str, error: InvalidRequestError, *, is_whole: bool = True
    ) -> tuple[str, InvalidRequestError] | None:
        if not is_whole or len(name) > _MAX_NAME or name in self.pending:
            # It says too little to tell two of them apart.
            name = f"{name[:_MAX_NAME]}... (entry {self._handed_over:,} of the ids)"
        if name in self._unfit:
            return None
        self._unfit[name] = None
        self.admitted += 1
        return name, error


def _look_at(value: object) -> tuple[str, bool]:
    """Return what an entry that is no text is called, and whether that is all of it."""
    try:
        # A repr may be derived from str, too.
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
        # The caller's object may hold the report that this error is going to be in, and need not be fit for pickling.
        error.value = show_value(value)
        return error.with_traceback(None)
    raise AssertionError("what is no text passed for an id")


def batch_size(wave_size: int | None) -> int:
    """Return how many servers a call carries at most.

    Args:
        wave_size: How many may be in flight at once, None for no bound.
    """
    return MAX_BATCH_SIZE if wave_size is None else min(MAX_BATCH_SIZE, wave_size)


class WaveLimit:
    """Tells how many servers may go.

    Args:
        wave_size: How many may be under way at once, None for no bound.
    """

    __slots__ = ("_wave", "size")

    def __init__(self, wave_size: int | None = None) -> None:
        self._wave = wave_size
        self.size = batch_size(wave_size)

    def room(self, in_flight: int) -> int:
        """Return how many servers may go now, at most a batch."""
        return self.size if self._wave is None else max(0, min(self.size, self._wave - in_flight))

    def batch_size(self, *, ready: int, in_flight: int, complete: bool, waited: float) -> int:
        """Return how many of those that are ready make the next batch; 0 to wait for more of them, or for room.

        Args:
            ready: How many wait.
            in_flight: How many are under way.
            complete: Whether it is no use to wait for more ids: there are none, or they come slowly.
            waited: Seconds that there has been some room, and less than would be worth a call.
        """
        room = self.room(in_flight)
        number = min(ready, room)
        if number in (0, self.size):
            return number
        if number == ready:
            return number if complete else 0
        return number if number * REFILL_FRACTION >= self.size or waited >= REFILL_TIMEOUT else 0


class DelayQueue(Generic[T]):
    """What is to be done again when its time has come, as much of it together as can be."""

    __slots__ = ("_bins", "_due")

    def __init__(self) -> None:
        self._bins: dict[float, deque[T]] = {}
        self._due: list[float] = []

    def __len__(self) -> int:
        return sum(map(len, self._bins.values()))

    @property
    def next_due(self) -> float | None:
        """When the next is due, None when there is nothing."""
        return self._due[0] if self._due else None

    def add(self, item: T, now: float, delay: float) -> None:
        """Have something come back after a delay, or up to as long again later, together with others.

        Args:
            item: The thing.
            now: The time.
            delay: Seconds.
        """
        grid = min(delay, _MAX_GRID)
        at = -(-(now + delay) // grid) * grid
        if at not in self._bins:
            self._bins[at] = deque()
            heappush(self._due, at)
        self._bins[at].append(item)

    def take(self, now: float, most: int) -> list[T]:
        """Return what is due, oldest first."""
        taken: list[T] = []
        while self._due and self._due[0] <= now and len(taken) < most:
            items = self._bins[self._due[0]]
            while items and len(taken) < most:
                taken.append(items.popleft())
            if not items:
                del self._bins[heappop(self._due)]
        return taken


class AbortRule:
    """Tells when too many servers have failed.

    Args:
        above: The share of those that ended; None never aborts.
        sample: How many must have ended before it counts.
    """

    __slots__ = ("_above", "_sample")

    def __init__(self, above: float | None, sample: int) -> None:
        self._above = above
        self._sample = sample

    def reason_to_abort(self, *, bad: int, ended: int) -> str | None:
        """Return why to stop, None if there is no reason.

        Args:
            bad: How many are FAILED or UNKNOWN.
            ended: How many have ended, those included.
        """
        if self._above is None or ended < max(1, self._sample) or bad <= self._above * ended:
            return None
        return f"{bad} of {ended} servers failed or are unknown, which is more than the share of {self._above:g}"
