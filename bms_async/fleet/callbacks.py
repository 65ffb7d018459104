"""Calling back for each outcome, one after another."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign

from .options import OnOutcome
from .outcome import Outcome
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")


class OutcomeCallback:
    """Tells each outcome once, in the order in which they are known, and never two at once.

    Args:
        tracker: Whose outcomes are told.
        on_outcome: What is called.
    """

    def __init__(self, tracker: RunTracker, on_outcome: OnOutcome) -> None:
        self._tracker = tracker
        self._on_outcome = on_outcome
        self._told = 0
        self._errors = 0
        self._closed = False

    async def run(self) -> None:
        """Tell outcomes as they come, until it is closed and all are told."""
        while True:
            await self.drain()
            if self._closed:
                break
            await self._tracker.wait_for_change()

    def close(self) -> None:
        """Have `run` end once all that is known is told."""
        self._closed = True
        self._tracker.notify()

    async def drain(self) -> None:
        """Tell what is known and was not told."""
        outcomes = self._tracker.outcomes
        while self._told < len(outcomes):
            self._told += 1
            await self._tell(outcomes[self._told - 1])
            if self._told % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def _tell(self, outcome: Outcome) -> None:
        try:
            await call_foreign("on_outcome", self._on_outcome, outcome)
        except Exception as error:  # noqa: BLE001 - the caller's own fault, which is raised once all has ended
            self._errors += 1
            if self._errors == 1:
                _log.exception("%s: on_outcome raised, and is called for the others all the same", self._tracker.action)
            self._tracker.record_error(error)
