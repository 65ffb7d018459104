"""Walks through a fleet as a planner says, with calls that take no time, and judges the history from the outside."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from enum import Enum
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Any, NamedTuple

from bms_async.fleet.rollout.planner import RolloutPlanner


class End(Enum):
    """What becomes of a server."""

    WELL = "well"
    REFUSED = "refused"
    LOST = "lost"
    RECOVERS = "recovers"


class Fate(NamedTuple):
    """What becomes of a server, and when.

    Attributes:
        group: Its group.
        seconds: How long it takes.
        end: What becomes of it; one that recovers does so as long after its end.
        put_back: How often it is not sent after it was taken.
    """

    group: str
    seconds: float = 300.0
    end: End = End.WELL
    put_back: int = 0


@dataclass(kw_only=True)
class Limits:
    """What a planner is given."""

    canary: int = 0
    max_unavailable: float | None = None
    max_groups: int | None = None
    settle: float = 0.0
    max_in_flight: int | None = None
    packs: bool = True

    def planner(self, kind: Callable[..., RolloutPlanner] = RolloutPlanner, **changed: Any) -> RolloutPlanner:
        """Return a planner that is given them, or others in their place."""
        return kind(**{**vars(self), **changed})


class Event(NamedTuple):
    """Something that happened to servers at a time."""

    at: float
    what: str
    servers: tuple[str, ...]


@dataclass
class History:
    """What happened."""

    events: list[Event] = field(default_factory=list)
    takes: int = 0
    stuck: bool = False
    canary_failure: str | None = None

    @property
    def end(self) -> float:
        """When the last server ended."""
        return max((event.at for event in self.events if event.what in ("well", "refused", "lost")), default=0.0)


class _Walk:
    """A walk of which the state is here."""

    def __init__(self, planner: RolloutPlanner, fleet: Mapping[str, Fate]) -> None:
        self.planner = planner
        self.fleet = fleet
        self.history = History()
        self.happens: list[tuple[float, int, str, str]] = []
        self.put_back: Counter[str] = Counter()

    def take(self, now: float, max_count: int) -> None:
        """Take what may go, and give up what may never go."""
        while taken := self.planner.take(now, max_count):
            self.history.takes += 1
            self.history.events.append(Event(now, "taken", taken))
            back = tuple(name for name in taken if self.put_back[name] < self.fleet[name].put_back)
            if back:
                self.planner.put_back(back, now)
                self.put_back.update(back)
                self.history.events.append(Event(now, "put back", back))
            for name in taken:
                if name not in back:
                    self._plan(now, name, self.fleet[name].end.value)
        while blocked := self.planner.pop_blocked(7):
            self.history.events.append(Event(now, "blocked", tuple(name for name, _group in blocked)))

    def next_time(self, now: float) -> float | None:
        """Return when something happens or may be done."""
        times = [self.happens[0][0]] if self.happens else []
        due = self.planner.next_time(now)
        return min([*times, due]) if due is not None else min(times, default=None)

    def happen(self, now: float) -> None:
        """Have happen what is due."""
        while self.happens and self.happens[0][0] <= now:
            _at, _number, name, what = heappop(self.happens)
            if what == "recovered":
                self.planner.recover(name, now)
            else:
                self.planner.end(name, now, well=what == "well", available=what in {"well", "refused"})
            if what == "recovers":
                self._plan(now, name, "recovered")
                what = "lost"
            self.history.events.append(Event(now, what, (name,)))

    def die(self, now: float, planner: RolloutPlanner) -> None:
        """Go on with a new planner, which learns what one can read that is in the place of a dead one."""
        was_taken: set[str] = set()
        ended: dict[str, str] = {}
        for event in self.history.events:
            if event.what == "put back":
                was_taken.difference_update(event.servers)
            elif event.what in ("taken", "blocked"):
                was_taken.update(event.servers)
            if event.what not in ("taken", "put back"):
                ended.update(dict.fromkeys(event.servers, event.what))
        _fill(planner, self.fleet)
        for _ in planner.resuming(was_taken.__contains__, now):
            pass
        for name, what in ended.items():
            planner.end(name, now, well=what == "well", available=what != "lost")
        self.planner = planner

    def _plan(self, now: float, name: str, what: str) -> None:
        number = len(self.history.events) * 1000 + len(self.happens)
        heappush(self.happens, (now + self.fleet[name].seconds, number, name, what))


def _fill(planner: RolloutPlanner, fleet: Mapping[str, Fate]) -> None:
    for name, fate in fleet.items():
        planner.add(name, fate.group)
    planner.seal()


def walk(
    planner: RolloutPlanner,
    fleet: Mapping[str, Fate],
    *,
    max_count: int = 1000,
    deaths: Mapping[int, RolloutPlanner] = MappingProxyType({}),
) -> History:
    """Take all servers, put back and end each as its fate is, and stop when nothing happens any more.

    Args:
        planner: The planner.
        fleet: The servers.
        max_count: How many are taken at once.
        deaths: The planners that go on in the place of the one before, and after how many steps.
    """
    _fill(planner, fleet)
    way = _Walk(planner, fleet)
    now: float | None = 0.0
    for step in range(50 * len(fleet) + 100):
        assert now is not None
        way.happen(now)
        if step in deaths:
            way.die(now, deaths[step])
        way.take(now, max_count)
        before, now = now, way.next_time(now)
        if now is None:
            break
        assert now >= before
    way.history.stuck = now is not None
    way.history.canary_failure = way.planner.canary_failure
    return way.history


class Judge:
    """Reads a history, with books of its own, and says what breaks the law."""

    def __init__(self, limits: Limits, fleet: Mapping[str, Fate]) -> None:
        self.limits = limits
        self.fleet = fleet
        self.broken: list[str] = []
        self.canaries = set(list(fleet)[: limits.canary])
        self.size = Counter(fate.group for fate in fleet.values())
        self.waiting: dict[str, deque[str]] = defaultdict(deque)
        for server_id, fate in fleet.items():
            self.waiting[fate.group].append(server_id)
        self.under_way: set[str] = set()
        self.gone: set[str] = set()
        self.free_at: dict[str, float] = {}
        self.touched: set[str] = set()
        self.well_at: dict[str, float] = {}
        self.failed = False
        self.was_main = not self.canaries

    def read(self, history: History) -> list[str]:
        """Return what is broken, in words; nothing if all is as it should be."""
        for event in history.events:
            self._leave(event.at)
            {"taken": self._taken, "put back": self._put_back, "blocked": self._blocked}.get(event.what, self._ended)(
                event
            )
        left = set(self.fleet) - self.gone
        if history.stuck:
            self._note("it goes on for ever")
        if self.under_way or (left and not self.failed):
            self._note(f"left: {sorted(left)}")
        if self.failed is not (history.canary_failure is not None):
            self._note("it says something else of the canaries than what they did")
        return self.broken

    def allowed(self, group: str) -> int:
        """Return how many of a group may be unavailable."""
        bound = self.limits.max_unavailable
        if bound is None:
            return self.size[group]
        if isinstance(bound, int):
            return bound
        return max(1, int((Decimal(repr(bound)) * self.size[group]).to_integral_value(ROUND_FLOOR)))

    def unavailable(self, group: str, now: float) -> int:
        """Return how many of a group are unavailable."""
        return sum(self.fleet[server_id].group == group and at > now for server_id, at in self.free_at.items())

    def _note(self, what: str) -> None:
        self.broken.append(what)

    def _phase_is_over(self, group: str, now: float) -> bool:
        """Whether all servers of a group that may go in this phase have ended and settled, or it is blocked."""
        waiting = [s for s in self.waiting[group] if self._main(now) or s in self.canaries]
        lost = sum(self.fleet[s].group == group and at == math.inf for s, at in self.free_at.items() if s in self.gone)
        settled = all(at == math.inf or at <= now for s, at in self.free_at.items() if self.fleet[s].group == group)
        busy = any(self.fleet[s].group == group for s in self.under_way)
        return not busy and settled and (not waiting or lost >= self.allowed(group))

    def _main(self, now: float) -> bool:
        return len(self.well_at) == len(self.canaries) and all(
            at + self.limits.settle <= now for at in self.well_at.values()
        )

    def _leave(self, now: float) -> None:
        if self._main(now) and not self.was_main:
            # Each phase touches the groups anew: nothing of the canaries is under way any more.
            self.was_main = True
            self.touched.clear()
        self.touched -= {group for group in self.touched if self._phase_is_over(group, now)}

    def _taken(self, event: Event) -> None:
        limits = self.limits
        if self.failed:
            self._note("taken after a canary was not well")
        if not self._main(event.at) and not self.canaries >= set(event.servers):
            self._note("taken before the canaries were well and had settled")
        for server_id in event.servers:
            group = self.fleet[server_id].group
            if server_id not in self.waiting[group]:
                self._note(f"{server_id} was taken twice")
                continue
            if self.waiting[group][0] != server_id:
                self._note(f"{server_id} was not the first of {group}")
            self.waiting[group].remove(server_id)
            self.under_way.add(server_id)
            self.free_at[server_id] = math.inf
            self.touched.add(group)
        for group in {self.fleet[server_id].group for server_id in event.servers}:
            if self.unavailable(group, event.at) > self.allowed(group):
                self._note(f"too many of {group} are unavailable")
        if limits.max_in_flight is not None and len(self.under_way) > limits.max_in_flight:
            self._note("too many are under way")
        if limits.max_groups is not None and len(self.touched) > limits.max_groups:
            self._note("too many groups are touched")

    def _put_back(self, event: Event) -> None:
        for server_id in reversed(event.servers):
            group = self.fleet[server_id].group
            self.waiting[group].appendleft(server_id)
            self.under_way.discard(server_id)
            self.free_at.pop(server_id)
            if len(self.waiting[group]) == self.size[group]:
                self.touched.discard(group)

    def _blocked(self, event: Event) -> None:
        for server_id in event.servers:
            group = self.fleet[server_id].group
            lost = [s for s, at in self.free_at.items() if self.fleet[s].group == group and at == math.inf]
            if len(lost) < self.allowed(group) or set(lost) & self.under_way:
                self._note(f"{server_id} was given up too early")
            self.waiting[group].remove(server_id)
            self.gone.add(server_id)

    def _ended(self, event: Event) -> None:
        (server_id,) = event.servers
        self.under_way.discard(server_id)
        self.gone.add(server_id)
        if event.what == "refused":
            self.free_at.pop(server_id)
        elif event.what in ("well", "recovered"):
            self.free_at[server_id] = event.at + self.limits.settle
        if server_id in self.canaries and not self._main(event.at):
            if event.what == "well":
                self.well_at[server_id] = event.at
            elif event.what != "recovered":
                self.failed = True


def broken_laws(limits: Limits, fleet: Mapping[str, Fate], planner: RolloutPlanner, **options: Any) -> list[str]:
    """Return which laws a planner breaks on a walk through a fleet."""
    return Judge(limits, fleet).read(walk(planner, fleet, **options))


def fleet_of(groups: Sequence[int], seconds: Sequence[float] | float = 300.0) -> dict[str, Fate]:
    """Return a fleet of groups of given sizes, of which the servers take turns in the order given."""
    each = [seconds] * len(groups) if isinstance(seconds, float) else seconds

    def servers() -> Iterator[tuple[str, Fate]]:
        for number in range(max(groups, default=0)):
            for group, size in enumerate(groups):
                if number < size:
                    yield f"{group}-{number}", Fate(f"rack {group}", each[group])

    return dict(servers())
