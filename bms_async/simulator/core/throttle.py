"""How a gateway counts calls against a limit, and exact counters of what arrived."""

import math
import random
from collections import deque
from typing import Final, Protocol

import msgspec

from bms_async.simulator.core.settings import CloudSettings, ThrottleKind

__all__ = [
    "MINUTE",
    "CallCounts",
    "FixedWindow",
    "OperationCounter",
    "OperationCounts",
    "RateLimitGate",
    "SlidingWindow",
    "Throttle",
    "TokenBucket",
    "Unlimited",
]

MINUTE: Final = 60.0

# asyncio fires a timer up to one clock resolution early, and `then + 60 - then` may round to less than 60: a gap that
# is shorter than a minute by this much counts as a minute.
_TOLERANCE: Final = 1e-7


class Throttle(Protocol):
    """One operation's budget."""

    def admit(self, now: float) -> float:
        """Count a call that arrives now; return 0.0 if it is admitted, else the seconds until one would be."""
        ...

    def used(self, now: float) -> int:
        """Return how much of the budget is used now."""
        ...


class FixedWindow:
    """A fixed window: around a boundary, two windows' worth of calls may pass."""

    __slots__ = ("_count", "_limit", "_phase", "_window")

    def __init__(self, limit: int, phase: float = 0.0) -> None:
        self._limit = limit
        self._phase = phase
        self._window: float | None = None
        self._count = 0

    def admit(self, now: float) -> float:
        """Count a call that arrives now."""
        window = (now - self._phase) // MINUTE
        if window != self._window:
            self._window, self._count = window, 0
        if self._count < self._limit:
            self._count += 1
            return 0.0
        return (window + 1) * MINUTE + self._phase - now

    def used(self, now: float) -> int:
        """Return how many calls the current window has admitted."""
        return self._count if (now - self._phase) // MINUTE == self._window else 0


class SlidingWindow:
    """A sliding window over the admitted calls; refused ones do not count."""

    __slots__ = ("_admitted", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> float:
        """Count a call that arrives now."""
        _forget_before(self._admitted, now)
        if len(self._admitted) < self._limit:
            self._admitted.append(now)
            return 0.0
        return self._admitted[0] + MINUTE - now

    def used(self, now: float) -> int:
        """Return how many calls were admitted during the last minute."""
        _forget_before(self._admitted, now)
        return len(self._admitted)


class TokenBucket:
    """A token bucket: a minute's worth at once, then a steady refill."""

    __slots__ = ("_at", "_level", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._level = float(limit)
        self._at: float | None = None

    def admit(self, now: float) -> float:
        """Count a call that arrives now."""
        rate = self._limit / MINUTE
        self._level = self._filled(now)
        self._at = now
        if self._level >= 1.0 - _TOLERANCE:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / rate

    def used(self, now: float) -> int:
        """Return how many calls the bucket lacks, without changing its level."""
        return self._limit - math.floor(self._filled(now) + _TOLERANCE)

    def _filled(self, now: float) -> float:
        if self._at is None:
            return self._level
        return min(float(self._limit), self._level + (now - self._at) * (self._limit / MINUTE))


class Unlimited:
    """No limit."""

    __slots__ = ()

    def admit(self, now: float) -> float:  # noqa: ARG002 - the protocol's argument
        """Admit the call."""
        return 0.0

    def used(self, now: float) -> int:  # noqa: ARG002 - the protocol's argument
        """Return 0: there is no budget."""
        return 0


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one operation.

    Attributes:
        limit: Calls a minute that the cloud allows; None where it sets no limit.
        arrived: Calls that arrived, including refused ones.
        refused: Calls that the throttle refused with 429.
        unauthorized: Calls that got a 401, for whatever reason.
        worst_minute: Maximum arrivals within any 60 seconds, as a half-open interval.
        first: When the first call arrived, in seconds of the cloud's clock.
        last: When the last call arrived.
    """

    limit: int | None
    arrived: int
    refused: int
    unauthorized: int
    worst_minute: int
    first: float | None
    last: float | None


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that arrived, by operation, and the total of refused calls."""

    operations: dict[str, OperationCounts]
    refused: int


class OperationCounter:
    """Counts the arrivals of one operation exactly, admitted or not."""

    __slots__ = ("_recent", "arrived", "first", "last", "refused", "unauthorized", "worst_minute")

    def __init__(self) -> None:
        self.arrived = 0
        self.refused = 0
        self.unauthorized = 0
        self.worst_minute = 0
        self.first: float | None = None
        self.last: float | None = None
        self._recent: deque[float] = deque()

    def count(self, now: float) -> None:
        """Count an arrival. The worst window ends at some arrival, so that checking here is enough."""
        self.arrived += 1
        self.last = now
        if self.first is None:
            self.first = now
        _forget_before(self._recent, now)
        self._recent.append(now)
        self.worst_minute = max(self.worst_minute, len(self._recent))

    def recent(self, now: float) -> int:
        """Return how many calls arrived during the last minute."""
        _forget_before(self._recent, now)
        return len(self._recent)

    def read(self, limit: int | None) -> OperationCounts:
        """Return the counts so far."""
        return OperationCounts(
            limit=limit,
            arrived=self.arrived,
            refused=self.refused,
            unauthorized=self.unauthorized,
            worst_minute=self.worst_minute,
            first=self.first,
            last=self.last,
        )


class RateLimitGate:
    """The gateway's rate limiter, which every call passes first."""

    __slots__ = ("_counts", "_refused", "_settings", "_throttles")

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._throttles: dict[str, Throttle] = {}
        self._counts: dict[str, OperationCounter] = {}
        self._refused = 0

    def arrive(self, operation: str, now: float) -> tuple[int, float]:
        """Count a call.

        Returns:
            The number of the call within its operation, from 1, and the seconds to wait if it is refused.
        """
        budget = self._settings.budget_of(operation)
        # A budget that several operations share has a counter of its own, for its worst minute.
        names = (operation,) if budget == operation else (operation, budget)
        counts = [self._counts.setdefault(name, OperationCounter()) for name in names]
        for counter in counts:
            counter.count(now)
        throttle = self._throttles.get(budget)
        if throttle is None:
            throttle = self._throttles[budget] = self._build(budget)
        wait = throttle.admit(now)
        if wait > 0.0:
            self._refused += 1
            for counter in counts:
                counter.refused += 1
        return counts[0].arrived, wait

    def note_unauthorized(self, operation: str) -> None:
        """Count a 401 for a call that has arrived."""
        self._counts[operation].unauthorized += 1

    def call_counts(self) -> CallCounts:
        """Return the calls that arrived so far."""
        return CallCounts(
            operations={name: counter.read(self._settings.limit_of(name)) for name, counter in self._counts.items()},
            refused=self._refused,
        )

    def minute(self, now: float) -> dict[str, tuple[int, int]]:
        """Return by operation how much of its budget is used, and how many calls arrived during the last minute."""
        taken = {name: throttle.used(now) for name, throttle in self._throttles.items()}
        return {name: (taken.get(name, 0), counter.recent(now)) for name, counter in self._counts.items()}

    def _build(self, budget: str) -> Throttle:
        kind: ThrottleKind = self._settings.throttle
        limit = self._settings.limit_of(budget)
        if limit is None:
            return Unlimited()
        if kind == "fixed":
            # A client cannot know where the gateway's minute begins.
            phase = random.Random(f"{self._settings.seed}/phase/{budget}").uniform(0.0, MINUTE)
            return FixedWindow(limit, phase)
        if kind == "sliding":
            return SlidingWindow(limit)
        if kind == "bucket":
            return TokenBucket(limit)
        return Unlimited()


def _forget_before(times: deque[float], now: float) -> None:
    while times and now - times[0] >= MINUTE - _TOLERANCE:
        times.popleft()
