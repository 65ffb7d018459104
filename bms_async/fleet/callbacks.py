"""Calling `on_outcome` for each outcome, one after another."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign
from bms_async.jobs import JobHandle

from .options import OnJob, OnOutcome
from .outcome import Outcome
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")


class OutcomeCallback:
    """Calls a function once for each outcome, in the order of the outcomes and never twice at once.

    Args:
        tracker: The run's.
        on_outcome: The function.
    """

    def __init__(self, tracker: RunTracker, on_outcome: OnOutcome) -> None:
        self._tracker = tracker
        self._on_outcome = on_outcome
        self._called = 0
        self._errors = 0
        self._closed = False

    async def run(self) -> None:
        """Call it for outcomes as they come, until this is closed and it was called for all."""
        while True:
            await self.drain()
            if self._closed:
                break
            await self._tracker.wait_for_change()

    def close(self) -> None:
        """Have `run` end once the function was called for all known outcomes."""
        self._closed = True
        self._tracker.notify()

    async def drain(self) -> None:
        """Call it for the known outcomes for which it was not called yet."""
        outcomes = self._tracker.outcomes
        while self._called < len(outcomes):
            self._called += 1
            await self._call(outcomes[self._called - 1])
            if self._called % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def _call(self, outcome: Outcome) -> None:
        try:
            await call_foreign("on_outcome", self._on_outcome, outcome)
        except Exception as error:  # noqa: BLE001 - the caller's own fault, raised once all servers have ended
            self._errors += 1
            if self._errors == 1:
                _log.exception("%s: on_outcome raised; it is still called for the others", self._tracker.action)
            self._tracker.record_error(error)


async def call_on_job(tracker: RunTracker, on_job: OnJob | None, job: JobHandle) -> None:
    """Call `on_job` for a job that the cloud has accepted; what it raises is the run's error.

    Args:
        tracker: The run's.
        on_job: The function; None for none.
        job: The job.
    """
    if on_job is None:
        return
    try:
        await call_foreign("on_job", on_job, job)
    except Exception as error:  # noqa: BLE001 - the caller's own fault, raised once all servers have ended
        _log.exception("%s: on_job raised for job %s, which is still followed", tracker.action, job.id)
        tracker.record_error(error)
