"""Servers that change without a call: by a plan, by chance, and by the hand of another operator.

The servers never depend on when the cloud is read: what is due is applied before each read, in the order of its
moments, after the work on its server has been brought up to that moment. Nothing runs in between, and only the next
change of a plan is known, so that a plan may be without end. A task that wakes at each change was rejected: it would
tie the cloud to an event loop, and a day of 100,000 servers has a million changes that nobody may look at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from typing import Final, Literal, NamedTuple, get_args

from bms_async.simulator.core.availability import Availability
from bms_async.simulator.core.inventory import Inventory
from bms_async.simulator.core.servers import Action, Server
from bms_async.simulator.core.settings import CloudSettings

__all__ = ["AnyDrift", "Drift", "DriftStatus", "Drifting"]

DriftStatus = Literal["ACTIVE", "SHUTOFF", "ERROR"]

_STATUSES: Final = get_args(DriftStatus)
_OTHER: Final[dict[str, DriftStatus]] = {"ACTIVE": "SHUTOFF", "SHUTOFF": "ACTIVE"}
_MINUTE: Final = 60.0


class Drift(NamedTuple):
    """A change of one server that no call asks for.

    A server that is under way at that moment, or removed, is left alone, and so is one that is in that status already.

    Attributes:
        after: When, in seconds from the planning.
        server_id: The server.
        status: ``ACTIVE``, ``SHUTOFF`` or ``ERROR``; None turns it off if it is on, and on if it is off.
        seconds: For how many seconds the change shows as a task before, like the work of another operator, during which
            power operations are refused; with 0 the server changes at once, as by its power button.
    """

    after: float
    server_id: str
    status: DriftStatus | None = None
    seconds: float = 0.0


AnyDrift = (
    Drift | tuple[float, str] | tuple[float, str, DriftStatus | None] | tuple[float, str, DriftStatus | None, float]
)
Apply = Callable[[float], None]
"""Applies a change that was due at a moment."""


class Drifting:
    """Changes servers without calls.

    Args:
        settings: How much happens by chance.
        clock: The cloud's clock.
        draw: Makes a named source of random values.
        inventory: The servers.
        availability: The books of who is away.

    Attributes:
        changes: How many changes have begun.
        switching: How many of them show as a task now.
    """

    __slots__ = ("_availability", "_clock", "_due", "_inventory", "_pushed", "changes", "switching")

    def __init__(
        self,
        settings: CloudSettings,
        clock: Callable[[], float],
        draw: Callable[[str], random.Random],
        inventory: Inventory,
        availability: Availability,
    ) -> None:
        self._clock = clock
        self._inventory = inventory
        self._availability = availability
        self._due: list[tuple[float, int, Apply]] = []
        self._pushed = 0
        self.changes = self.switching = 0
        if settings.drift_share:
            self._follow(clock(), self._by_chance(settings, draw("drift")))

    def plan(self, plan: Iterable[AnyDrift]) -> None:
        """Plan changes, beside those that are planned already.

        Args:
            plan: The changes, as `Drift` or as tuples of the same order. A generator gives them in the order of their
                moments: it is asked for the next one when the one before has come, and may be without end.

        Raises:
            ValueError: A change is none that can happen. A generator's is found when its turn comes, by whoever reads
                the cloud then.
        """
        entries: Iterator[tuple[float, Apply]] = map(self._check, plan)
        if isinstance(plan, Collection):
            # All are checked before the first one is planned.
            entries = iter(sorted(entries, key=lambda entry: entry[0]))
        self._follow(self._clock(), entries)

    def switch(self, server: Server, status: DriftStatus | None, seconds: float) -> bool:
        """Have another operator switch a server; returns False if it is under way, or in that status already."""
        return self._change(server, status, seconds, self._clock())

    def catch_up(self, most: float = math.inf) -> bool:
        """Apply up to `most` changes that are due; return whether more are due."""
        if not self._due:
            return False
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            if most <= 0:
                return True
            most -= 1
            at, _, apply = heappop(self._due)
            apply(at)
        return False

    def _follow(self, began: float, entries: Iterator[tuple[float, Apply]]) -> None:
        entry = next(entries, None)
        if entry is None:
            return
        after, change = entry

        def apply(at: float) -> None:
            change(at)
            self._follow(began, entries)

        self._push(began + after, apply)

    def _push(self, at: float, apply: Apply) -> None:
        self._pushed += 1
        heappush(self._due, (at, self._pushed, apply))

    def _by_chance(self, settings: CloudSettings, rng: random.Random) -> Iterator[tuple[float, Apply]]:
        servers, after = self._inventory.servers(), 0.0

        def drift(at: float) -> None:
            server = rng.choice(servers)
            is_failure = rng.random() < settings.drift_error_share
            seconds = rng.uniform(*settings.drift_task_seconds)
            recovery = seconds + rng.uniform(*settings.drift_error_seconds)
            before = server.status
            if self._change(server, "ERROR" if is_failure else None, seconds, at) and is_failure:
                self._push(at + recovery, partial(self._recover, server, before))

        while servers:
            after += rng.expovariate(settings.drift_share * len(servers) / _MINUTE)
            yield after, drift

    def _recover(self, server: Server, before: str, at: float) -> None:
        if server.status == "ERROR":
            self._change(server, "ACTIVE" if before == "ACTIVE" else "SHUTOFF", 0.0, at)

    def _change(self, server: Server, status: DriftStatus | None, seconds: float, at: float) -> bool:
        server.advance(at)
        before = server.status
        wanted = _OTHER.get(before) if status is None else status
        if server.is_deleted or server.action is not None or wanted is None or before in (wanted, "BUILD"):
            return False
        self.changes += 1
        if seconds:
            self._begin(server, wanted, at, at + seconds)
            return True
        if wanted == "ACTIVE" and not (before == "SHUTOFF" and self._is_well(server, at)):
            self._availability.note_back(server.id, at)
        server.become(wanted, at)
        return True

    def _is_well(self, server: Server, at: float) -> bool:
        """Whether the books of who is away have nothing against it."""
        return not server.faulty and self._availability.has_booted(server.id, at)

    def _begin(self, server: Server, status: DriftStatus, at: float, end: float) -> None:
        action: Action = "start" if status == "ACTIVE" or not server.powered else "stop"
        switch = _Switch(server, status, end)
        server.accept(action, switch)
        server.begin(action, at)
        self._availability.note_single(server.id, action, at, end, done=status != "ERROR")
        self.switching += 1
        self._push(end, partial(self._end, switch))

    def _end(self, switch: _Switch, at: float) -> None:
        self.switching -= 1
        switch.advance(at)

    def _check(self, entry: AnyDrift) -> tuple[float, Apply]:
        drift = Drift(*entry)
        if not (0 <= drift.after < math.inf and 0 <= drift.seconds < math.inf):
            raise ValueError(f"{drift}: expected 0 or more seconds, and no infinity")
        if drift.status is not None and drift.status not in _STATUSES:
            raise ValueError(f"{drift}: expected one of {', '.join(_STATUSES)}, or None to turn it over")
        server = self._inventory.by_id.get(drift.server_id)
        if server is None:
            raise ValueError(f"{drift}: this cloud has no such server")
        return drift.after, partial(self._apply, server, drift)

    def _apply(self, server: Server, drift: Drift, at: float) -> None:
        self._change(server, drift.status, drift.seconds, at)


class _Switch:
    """The work of another operator on one server."""

    __slots__ = ("_server", "_status", "ended", "next_event")

    def __init__(self, server: Server, status: DriftStatus, end: float) -> None:
        self._server = server
        self._status: DriftStatus = status
        self.ended = False
        self.next_event = end

    def advance(self, now: float) -> None:
        """Change the server once it is due, unless a deletion has come between."""
        if self.ended or now < self.next_event:
            return
        self.ended = True
        if self._server.work is self:
            self._server.become(self._status, self.next_event)
