"""Which waves a rollout will have, and when its end is to be expected: pure, on the planner that the run has.

The planner is led through the whole rollout as if each server took the same time and were well. So what is foreseen
follows the rules of the rollout, and no second description of them can disagree. The window is asked for its next
opening wherever something could begin, and the limit of the calls is kept as a count of those of the last minute.

Only the first waves are kept: a rollout of one server at a time has as many waves as servers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from bms_async.validation.common import MAX_BATCH_SIZE

from .packing import MAX_LINGER
from .standing import RolloutPhase

if TYPE_CHECKING:
    from .planner import RolloutPlanner
    from .window import Window

MAX_WAVES = 20
"""How many waves are described."""

MAX_GROUPS = 5
"""How many groups of a wave are named."""

HORIZON = timedelta(days=366)
"""How far is looked ahead."""

_MINUTE = 60.0
_STEP = 500


class PlannedWave(msgspec.Struct, frozen=True, kw_only=True):
    """Servers of a rollout that go together: within five seconds, for which a small batch may wait for more.

    Attributes:
        begins: When the first of them are asked, in UTC.
        servers: How many they are.
        calls: How many calls that takes.
        groups: How many groups they are of.
        first_groups: The names of the first of these; empty for servers that are in none.
        is_canary: Whether they are canaries.
    """

    begins: datetime
    servers: int
    calls: int
    groups: int
    first_groups: tuple[str, ...]
    is_canary: bool


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which waves a rollout will have if each server takes the same time and is well.

    Attributes:
        servers: How many servers go.
        skipped: How many never will: their id is invalid, or the cloud does not show them.
        groups: How many groups there are.
        calls: How many calls the servers take.
        waves: How many waves there are.
        first_waves: The first 20 of these.
        begins: When the first servers are asked, in UTC; None if there are none.
        ends: When the last server will be well, in UTC; None if that is more than 366 days away.
        left: How many servers will not have been asked by then; 0 if `ends` is known.
        wave_size: How many servers may be in flight at once; None for no bound.
    """

    servers: int
    skipped: int
    groups: int
    calls: int
    waves: int
    first_waves: tuple[PlannedWave, ...]
    begins: datetime | None
    ends: datetime | None
    left: int
    wave_size: int | None = None


class Forecast:
    """Leads a planner through its rollout.

    Args:
        planner: The planner, with all servers. It is used up.
        group: Returns the group of a server.
        start: When the rollout begins, aware and in UTC.
        seconds_each: Seconds from the asking of a server until it is well.
        window: When something may begin; None for always.
        calls_a_minute: The limit of the calls; None for none.
        batch_size: How many servers one call carries at most.
    """

    def __init__(
        self,
        planner: RolloutPlanner,
        group: Callable[[str], str],
        *,
        start: datetime,
        seconds_each: float,
        window: Window | None = None,
        calls_a_minute: int | None = None,
        batch_size: int = MAX_BATCH_SIZE,
    ) -> None:
        self._planner = planner
        self._group = group
        self._start = start
        self._seconds_each = seconds_each
        self._opening = _Opening(window, start)
        self._limit = calls_a_minute
        self._batch_size = batch_size
        self._recent: deque[float] = deque(maxlen=calls_a_minute)
        self._under_way: deque[tuple[float, tuple[str, ...]]] = deque()
        self._waves = _Waves(start)
        self._servers = self._calls = 0
        self._last_end = 0.0

    def steps(self) -> Iterator[None]:
        """Look ahead in steps of some milliseconds."""
        planner, now, horizon = self._planner, 0.0, HORIZON.total_seconds()
        while not planner.is_over and now <= horizon:
            yield from self._send(now)
            due = self._next_due(now)
            if due is None:
                # The planner would let nothing go any more, though servers wait.
                return
            now = due
            yield from self._end(now)

    def result(self, *, skipped: int = 0) -> RolloutPlan:
        """Return what was foreseen.

        Args:
            skipped: How many servers never go.
        """
        planner, waves = self._planner, self._waves
        is_known = planner.is_over and self._last_end <= HORIZON.total_seconds()
        return RolloutPlan(
            servers=self._servers + planner.waiting,
            skipped=skipped,
            groups=planner.standing(self._last_end).groups,
            calls=self._calls,
            waves=waves.count,
            first_waves=waves.first(),
            begins=waves.begins,
            ends=self._start + timedelta(seconds=self._last_end) if is_known and self._servers else None,
            left=planner.waiting,
            wave_size=planner.wave_size,
        )

    def _send(self, now: float) -> Iterator[None]:
        planner = self._planner
        while self._may_send_at(now) <= now:
            ids = planner.take(now, self._batch_size)
            if not ids:
                return
            self._waves.add(now, ids, self._group, is_canary=planner.phase is RolloutPhase.CANARY)
            self._servers += len(ids)
            self._calls += 1
            self._recent.append(now)
            self._last_end = now + self._seconds_each
            self._under_way.append((self._last_end, ids))
            yield

    def _end(self, now: float) -> Iterator[None]:
        while self._under_way and self._under_way[0][0] <= now:
            _, ids = self._under_way.popleft()
            for index, server_id in enumerate(ids, 1):
                self._planner.end(server_id, now, well=True, available=True)
                if index % _STEP == 0:
                    yield
        yield

    def _may_send_at(self, now: float) -> float:
        """Return the first moment, from the given one on, at which the limit and the window let a call be sent."""
        if self._limit is not None and len(self._recent) == self._limit:
            now = max(now, self._recent[0] + _MINUTE)
        return self._opening.at(now)

    def _next_due(self, now: float) -> float | None:
        """Return when something happens next."""
        ends = self._under_way[0][0] if self._under_way else math.inf
        may_go = self._planner.next_time(now)
        due = ends if may_go is None else min(ends, self._may_send_at(may_go))
        return None if due == math.inf else due


class _Opening:
    """The window, by seconds since the start."""

    def __init__(self, window: Window | None, start: datetime) -> None:
        self._window = window
        self._start = start
        self._opens, self._closes = 0.0, math.inf if window is None else 0.0

    def at(self, now: float) -> float:
        """Return the first moment, from the given one on, at which it is open."""
        while self._window is not None and now >= self._closes:
            if now > HORIZON.total_seconds():
                return math.inf
            opens = self._window.next_opening(self._start + timedelta(seconds=now))
            closes = self._window.next_change(opens)
            self._opens = (opens - self._start).total_seconds()
            self._closes = math.inf if closes is None else (closes - self._start).total_seconds()
        return max(now, self._opens)


class _Waves:
    """Counts the waves, and keeps the first ones."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._first: list[tuple[float, bool, list[int], dict[str, None]]] = []
        self._last: tuple[float, bool] | None = None
        self.count = 0
        self.begins: datetime | None = None

    def add(self, now: float, ids: tuple[str, ...], group: Callable[[str], str], *, is_canary: bool) -> None:
        if self._last is None:
            self.begins = self._start + timedelta(seconds=now)
        if self._last is None or now > self._last[0] + MAX_LINGER or self._last[1] is not is_canary:
            self._last = now, is_canary
            self.count += 1
            if self.count <= MAX_WAVES:
                self._first.append((now, is_canary, [0, 0], {}))
        if self.count <= MAX_WAVES:
            _, _, counts, groups = self._first[-1]
            counts[0] += len(ids)
            counts[1] += 1
            groups.update(dict.fromkeys(map(group, ids)))

    def first(self) -> tuple[PlannedWave, ...]:
        return tuple(
            PlannedWave(
                begins=self._start + timedelta(seconds=now),
                servers=servers,
                calls=calls,
                groups=len(groups),
                first_groups=tuple(groups)[:MAX_GROUPS],
                is_canary=is_canary,
            )
            for now, is_canary, (servers, calls), groups in self._first
        )
