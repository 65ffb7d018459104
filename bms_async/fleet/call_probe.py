"""What the function of ``each`` does with clients while it is called for one server.

What it guarantees: a server is taken for one to which nothing was done only while no call that changes anything was
sent for it, those that were surely refused left out (R2). Before its first call a function of the application's may do
anything; one of the SDK's own does nothing. A call is held up by a pause, a closed window or a stop only as long as
that is so: what has begun is carried to its end.

A call that is held up ends its function with a cancellation, and not with an error: a function that catches errors and
tries again would try for ever.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from bms_async.limits import Lane
from bms_async.wire import Operation, Safety

from .batch import Batch, BatchWithdrawnError
from .crew import Crew

if TYPE_CHECKING:
    from .scheduler import BatchScheduler
    from .tracker import RunTracker


class CallProbe:
    """Sees the calls that a function makes for one server, until it has returned.

    Args:
        batch: The server, as a batch of its own.
        tracker: The run's.
        crew: The run's.
        scheduler: Says whether something may begin now.
        lane: The lane that calls wait in which name none.
        sees_all: Whether the function does nothing but calls that this sees, so that nothing was done before the first
            one was sent.

    Attributes:
        changes: How many requests were sent that change something, without those that were surely refused.
    """

    def __init__(
        self,
        batch: Batch,
        tracker: RunTracker,
        crew: Crew[Batch],
        scheduler: BatchScheduler,
        *,
        lane: Lane,
        sees_all: bool = False,
    ) -> None:
        self.lane = lane
        self.changes = 0
        self._sees_all = sees_all
        self._batch = batch
        self._tracker = tracker
        self._crew = crew
        self._scheduler = scheduler
        self._waiting = 0
        self._is_over = self._is_noted = False
        self._unsafe: Counter[str] = Counter()

    def begin(self) -> None:
        """Note that the function is called, which may do anything before its first call."""
        if not self._sees_all:
            self.note()

    def note(self) -> None:
        """Note that the function may have done something for its server: it was called, or a request was sent."""
        batch, tracker = self._batch, self._tracker
        batch.in_doubt = True
        if not self._is_noted:
            self._is_noted = True
            batch.send_count += 1
            if batch.started is None and not batch.earlier:
                batch.started = tracker.clock.now()
                tracker.submitted += 1

    def forget(self) -> None:
        """Note that it has done nothing yet, but reading."""
        batch = self._batch
        batch.in_doubt = False
        if self._is_noted:
            self._is_noted = False
            batch.send_count -= 1
            if not (batch.send_count or batch.earlier):
                batch.started = None
                self._tracker.submitted -= 1

    def may_repeat(self, *, besides: str | None = None) -> bool:
        """Return whether the function may be called again: whether it has done nothing that must not be done twice.

        Args:
            besides: A call that is known to have done nothing.
        """
        return self._unsafe.total() - (besides is not None and self._unsafe[besides] > 0) <= 0

    async def on_wait(self) -> None:
        """Note that a call begins to wait for its slot, unless it may not be sent now."""
        if self._is_over:
            return
        await self.check_may_send()
        if not self.changes:
            self.forget()
        self._waiting += 1
        if self._waiting == 1:
            self._crew.waiting += 1
            self._crew.note_change()

    def on_wait_end(self) -> None:
        """Note that it waits no more."""
        if not self._is_over and self._waiting:
            self._waiting -= 1
            if not self._waiting:
                self._stop_waiting()

    async def check_may_send(self) -> None:
        """Cancel the function if nothing may begin now, and it has not begun."""
        if self._is_over or self.changes:
            return
        try:
            self._scheduler.check_now()
        except BatchWithdrawnError:
            self._batch.scope.cancel()
            await anyio.lowlevel.checkpoint()
            # A task that the function has started is in no scope of ours.
            raise

    def on_begin(self) -> None:
        """Note that something was begun that goes on by itself, and makes calls which this does not see."""
        if not self._is_over:
            self.note()
            self.changes += 1
            self._unsafe["begun"] += 1

    def on_send(self, operation: Operation[Any]) -> None:
        """Note that a request was sent."""
        if not self._is_over:
            self.changes += operation.safety is not Safety.READ
            self._unsafe[operation.name] += operation.safety is Safety.UNSAFE
            # Between its calls a function may do anything.
            if self.changes or not self._sees_all:
                self.note()

    def on_refused(self, operation: Operation[Any]) -> None:
        """Note that a request was surely not executed."""
        if not self._is_over:
            self.changes -= operation.safety is not Safety.READ
            self._unsafe[operation.name] -= operation.safety is Safety.UNSAFE
            if self._sees_all and not self.changes:
                self._batch.in_doubt = False

    def end(self) -> None:
        """See nothing more: the function has returned, and what it has started goes on."""
        if self._waiting:
            self._stop_waiting()
        self._is_over = True

    def _stop_waiting(self) -> None:
        self._crew.waiting -= 1
        self._crew.note_change()
