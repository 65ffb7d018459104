"""When what differs is acted on: as many servers at once as a wave has, in as few calls as possible."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from bms_async._foreign import call_foreign
from bms_async.errors import ClientClosedError, LeadershipLostError
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.plan import REFILL_TIMEOUT, WaveLimit
from bms_async.jobs import schedule

from .books import Books
from .ports import Actor, ReconcileAction

_log = logging.getLogger("bms_async.reconcile")

_MAX_HOLD = 60.0
"""Seconds for which servers are held back as long as their call would wait for its slot.

What waits here can still be forgotten, or wished otherwise, and takes along what differs by then. After that it stands
in line like everybody else, so that others who always wait do not keep it from its turn.
"""

_MIN_HOLD = 0.05
"""Seconds between two looks for a slot."""


class Doing:
    """Has an actor act, as long as it runs.

    Args:
        books: What is known.
        actor: Acts.
        wave_size: How many servers may be under way at once.
        one_at_a_time: Whether one run ends before the next one begins.
        random: Draws a number from 0 to 1.
        may_begin: Whether servers may be taken now; more may be ready in a moment.
        wait_for_call: Returns the seconds that a call for an action would wait for its slot.
        on_change: Called when servers may have to be looked at.

    Attributes:
        runs: How many runs have begun.
        asked: How many servers were in them.
        succeeded: How many of these are as desired.
        failed: How many are not.
    """

    def __init__(
        self,
        books: Books,
        actor: Actor,
        *,
        wave_size: int,
        one_at_a_time: bool,
        random: Callable[[], float],
        may_begin: Callable[[], bool],
        wait_for_call: Callable[[ReconcileAction], float],
        on_change: Callable[[], None],
    ) -> None:
        self._books = books
        self._actor = actor
        self._wave_limit = WaveLimit(wave_size)
        self._one_at_a_time = one_at_a_time
        self._random = random
        self._may_begin = may_begin
        self._wait_for_call = wait_for_call
        self._held_since: dict[ReconcileAction, float] = {}
        self._call_due = math.inf
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._waits_since: float | None = None
        self._failures = 0
        self._paused_until = -math.inf
        self._held_up_until: float | None = None
        self.runs = self.asked = self.succeeded = self.failed = 0

    def wake(self) -> None:
        """See whether anything can be done."""
        self._wake.set()

    async def run(self) -> None:
        """Act, until this is cancelled; what an earlier leader has begun is followed first.

        Raises:
            ClientClosedError: The client was closed.
        """
        try:
            async with self._actor.resume(self._on_begin, self._on_outcome), anyio.create_task_group() as tasks:
                while True:
                    self._wake.clear()
                    while self._begin(tasks):
                        # Many servers in a row may have a state that is too old to act on.
                        await anyio.lowlevel.checkpoint()
                    with anyio.move_on_after(self._next_due() - anyio.current_time()):
                        await self._wake.wait()
        finally:
            # Of a leader that is none any more, another one follows them.
            with anyio.CancelScope(shield=True):
                while self._books.abandon_some(anyio.current_time()):
                    await anyio.lowlevel.checkpoint()

    def _begin(self, tasks: TaskGroup) -> bool:
        """Begin a run if there is something to do and room for it; return whether one has begun."""
        books, now = self._books, anyio.current_time()
        in_flight = len(books.under_way)
        is_paused = now < self._paused_until
        if is_paused or not self._may_begin() or (self._one_at_a_time and in_flight):
            self._held_up_until = self._paused_until if is_paused else math.inf
            return False
        self._held_up_until = None
        room = self._wave_limit.room(in_flight)
        has_to_wait = False
        self._call_due = math.inf
        for action in sorted(books.ready, key=lambda action: -len(books.ready[action])):
            ready = len(books.ready[action])
            waited = 0.0 if self._waits_since is None else now - self._waits_since
            count = self._wave_limit.next_batch_size(ready=ready, in_flight=in_flight, complete=True, waited=waited)
            if count and self._has_slot(action, now):
                self._waits_since = None
                ids = books.begin(action, count, now)
                if ids:
                    tasks.start_soon(self._act, action, ids)
                self._on_change()
                return True
            if not count:
                self._held_since.pop(action, None)
                has_to_wait = has_to_wait or ready > room > 0
        if not has_to_wait:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        return False

    def _has_slot(self, action: ReconcileAction, now: float) -> bool:
        """Return whether a call for an action need not wait for its slot, or has been held back for long enough."""
        wait = self._wait_for_call(action)
        held_since = self._held_since.setdefault(action, now)
        if wait <= 0 or now - held_since >= _MAX_HOLD:
            del self._held_since[action]
            return True
        self._call_due = min(self._call_due, now + max(wait, _MIN_HOLD), held_since + _MAX_HOLD)
        return False

    def _next_due(self) -> float:
        """Return when something may begin without a wake-up."""
        if self._held_up_until is not None:
            # What was due before that would be due again at once, for as long as it lasts.
            return self._held_up_until
        return min(self._call_due, math.inf if self._waits_since is None else self._waits_since + REFILL_TIMEOUT)

    async def _act(self, action: ReconcileAction, ids: Sequence[str]) -> None:
        left = dict.fromkeys(ids)
        self.runs += 1
        self.asked += len(ids)

        def on_outcome(outcome: Outcome) -> None:
            left.pop(outcome.server_id, None)
            self._on_outcome(outcome)

        try:
            await call_foreign("acting on servers", self._actor.act, action, ids, on_outcome)
            self._failures = 0
        except ClientClosedError:
            raise
        except LeadershipLostError as error:
            self._paused_until = anyio.current_time() + schedule.failure_delay(1)
            _log.info("%s of %d servers was not begun: %s", action, len(ids), error)
        except Exception as error:  # noqa: BLE001 - what becomes of the servers is seen by the next reading
            self._failures += 1
            self._paused_until = anyio.current_time() + schedule.failure_delay(self._failures)
            _log.error("%s of %d servers broke, and their states are read again", action, len(ids), exc_info=error)
        finally:
            self._books.abandon(left, anyio.current_time())
            self._on_change()
            self.wake()

    def _on_begin(self, action: ReconcileAction, ids: Sequence[str]) -> None:
        self._books.adopt(action, ids, anyio.current_time())

    def _on_outcome(self, outcome: Outcome) -> None:
        if outcome.state.is_success:
            self.succeeded += 1
        else:
            self.failed += 1
        self._books.on_outcome(outcome, anyio.current_time(), self._random())
        self._on_change()
        self.wake()
