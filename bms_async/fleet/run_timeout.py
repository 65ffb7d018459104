"""What is done when a run's `total_timeout` is over: one last look, and the rest is UNKNOWN."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError, FleetTimeoutError

from .batch import Batch
from .outcome import OutcomeState
from .reconcile import Reconciler
from .scheduler import BatchScheduler
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

_LAST_READ_TIMEOUT = 10.0
"""Seconds that reading the states of what is under way may take."""


class RunTimeout:
    """Ends a run whose time is over.

    Args:
        tracker: The run's.
        line: Where those are that wait to be asked again.
        reconciler: What looks at states.
        total_timeout: Seconds that the run had.
    """

    def __init__(self, tracker: RunTracker, line: BatchScheduler, reconciler: Reconciler, total_timeout: float) -> None:
        self._tracker = tracker
        self._scheduler = line
        self._reconciler = reconciler
        self._over = f"{tracker.action}: the run's total_timeout of {total_timeout:g} s is over"
        self._batches: list[Batch] = []
        self._errors: dict[int, FleetTimeoutError] = {}

    def begin(self) -> None:
        """Note that the time is over: from now on nothing is asked for."""
        tracker = self._tracker
        tracker.timed_out = tracker.stopping = True
        tracker.why_skipped = FleetTimeoutError(
            f"{self._over}, and the server was not asked for; run it again", code=None, server_ids=()
        )
        _log.warning("%s: %d servers are under way", self._over, tracker.in_flight)

    async def look(self) -> None:
        """Look once at what is under way, and conclude what its states prove."""
        await self._scheduler.drain(unknown=self._batches)
        self._batches += [batch for batch in self._tracker.open_batches if batch.default_state is OutcomeState.UNKNOWN]
        try:
            with anyio.move_on_after(_LAST_READ_TIMEOUT):
                await self._reconciler.reconcile_now(self._batches)
        except BmsError as error:
            _log.info("%s, and states cannot be read: %s", self._over, type(error).__name__)

    async def conclude(self) -> None:
        """Give what was looked at and proves nothing its outcome."""
        tracker = self._tracker
        while self._batches:
            batch = self._batches.pop()
            for place, server_id in enumerate(batch.remaining, 1):
                past = batch.earlier.get(server_id)
                error = batch.error or (past.error if past is not None else None)
                tracker.conclude(
                    server_id,
                    OutcomeState.UNKNOWN,
                    batch=batch,
                    job_id=batch.job_id or (past.job_id if past is not None else None),
                    error=self._why(error),
                )
                if place % YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
            tracker.open_batches.discard(batch)

    def _why(self, cause: BmsError | None) -> FleetTimeoutError:
        """Return the error for servers that prove nothing: one for all that have the same cause."""
        error = self._errors.get(id(cause))
        if error is None:
            text = f"{self._over} before it was known what became of the server; read its state"
            error = FleetTimeoutError(
                f"{text} (known so far: {cause})" if cause is not None else text, code=None, server_ids=()
            )
            error.__cause__ = cause
            self._errors[id(cause)] = error
        return error
