"""How a gateway counts calls against a minute's limit, and exact books of what arrived."""

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

# asyncio fires a timer up to one clock resolution early, and `then + 60 - then` may round to less
# than 60: calls that are this close to a minute apart are a minute apart.
_GRAIN: Final = 1e-7


class Throttle(Protocol):
    """One operation's budget."""

    def admit(self, now: float) -> float:
        """Count a call that arrives now: 0.0 lets it in, else the seconds until one would be."""
        ...

    def used(self, now: float) -> int:
        """How much of the budget is taken now."""
        ...


class FixedWindow:
    """Counts from one boundary to the next, so two windows' worth may pass around a boundary."""

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
        """How many calls the window that is running has let in."""
        return self._count if (now - self._phase) // MINUTE == self._window else 0


class SlidingWindow:
    """Remembers when each admitted call came; refused ones take no room."""

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
        """How many calls were let in during the minute before."""
        _forget_before(self._admitted, now)
        return len(self._admitted)


class TokenBucket:
    """A full bucket lets a minute's worth in at once, then refills evenly."""

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
        if self._level >= 1.0 - _GRAIN:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / rate

    def used(self, now: float) -> int:
        """How much the bucket lacks, in calls; looking does not change its level."""
        return self._limit - math.floor(self._filled(now) + _GRAIN)

    def _filled(self, now: float) -> float:
        if self._at is None:
            return self._level
        return min(float(self._limit), self._level + (now - self._at) * (self._limit / MINUTE))


class Unlimited:
    """Lets everything in."""

    __slots__ = ()

    def admit(self, now: float) -> float:  # noqa: ARG002 - the protocol's argument
        """Let the call in."""
        return 0.0

    def used(self, now: float) -> int:  # noqa: ARG002 - the protocol's argument
        """Nothing: there is no budget."""
        return 0


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived for one operation.

    Attributes:
        limit: Calls a minute that the cloud allows; None where it sets no limit.
        arrived: Calls that came, the refused ones too.
        refused: Calls that the throttle answered with 429.
        unauthorized: Calls that were answered 401, for whatever reason.
        worst_minute: Most arrivals within any 60 seconds, the window open at one end.
        first: When the first call came, in seconds of the cloud's clock.
        last: When the last call came.
    """

    limit: int | None
    arrived: int
    refused: int
    unauthorized: int
    worst_minute: int
    first: float | None
    last: float | None


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived, by operation, and how many calls were refused in all."""

    operations: dict[str, OperationCounts]
    refused: int


class OperationCounter:
    """Counts one operation's arrivals exactly, whatever the throttle makes of them."""

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
        """Write down an arrival. The worst window of all ends at some arrival, so looking there is enough."""
        self.arrived += 1
        self.last = now
        if self.first is None:
            self.first = now
        _forget_before(self._recent, now)
        self._recent.append(now)
        self.worst_minute = max(self.worst_minute, len(self._recent))

    def recent(self, now: float) -> int:
        """How many calls arrived during the minute before."""
        _forget_before(self._recent, now)
        return len(self._recent)

    def read(self, limit: int | None) -> OperationCounts:
        """The book as it stands."""
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
    """The gateway's counter: every call passes here before anything else looks at it."""

    __slots__ = ("_counts", "_refused", "_settings", "_throttles")

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._throttles: dict[str, Throttle] = {}
        self._counts: dict[str, OperationCounter] = {}
        self._refused = 0

    def arrive(self, operation: str, now: float) -> tuple[int, float]:
        """Count a call.

        Returns:
            Which call of its operation this is, from 1, and the seconds to wait if it is refused.
        """
        budget = self._settings.budget_of(operation)
        # A budget that several operations share has a book of its own: its minutes are the law.
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
        """Write down that a call which has arrived was answered 401."""
        self._counts[operation].unauthorized += 1

    def call_counts(self) -> CallCounts:
        """What arrived so far."""
        return CallCounts(
            operations={name: counter.read(self._settings.limit_of(name)) for name, counter in self._counts.items()},
            refused=self._refused,
        )

    def minute(self, now: float) -> dict[str, tuple[int, int]]:
        """By name, how much of its budget is taken now, and how many calls arrived during the minute before."""
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
    while times and now - times[0] >= MINUTE - _GRAIN:
        times.popleft()
