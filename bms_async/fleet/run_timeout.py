"""The end of a run by its `total_timeout`: states are read once more, and the rest is UNKNOWN."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError, FleetTimeoutError

from .batch import Batch
from .outcome import OutcomeState
from .tracker import YIELD_EVERY, RunTracker
from .work import Work

_log = logging.getLogger("bms_async.fleet")

_LAST_READ_TIMEOUT = 10.0
"""Seconds that reading the states of the servers in flight may take."""


class RunTimeout:
    """Ends a run whose time is over.

    Args:
        tracker: The run's.
        work: The run's work.
        total_timeout: The run's timeout, in seconds.
    """

    def __init__(self, tracker: RunTracker, work: Work, total_timeout: float) -> None:
        self._tracker = tracker
        self._work = work
        self._text = f"{tracker.action}: the run's total_timeout of {total_timeout:g} s is over"
        self._batches: list[Batch] = []
        self._errors: dict[int, FleetTimeoutError] = {}

    def begin(self) -> None:
        """Note that the time is over: no further batch is sent."""
        tracker = self._tracker
        tracker.timed_out = tracker.stopping = True
        tracker.skip_error = FleetTimeoutError(
            f"{self._text}, and the server was not sent; run it again", code=None, server_ids=()
        )
        _log.warning("%s: %d servers are in flight", self._text, tracker.in_flight)

    async def prove(self) -> None:
        """Read the states of the servers in flight once, and conclude those whose state proves something."""
        await self._work.drain(unknown=self._batches)
        self._batches += [batch for batch in self._tracker.open_batches if batch.default_state is OutcomeState.UNKNOWN]
        try:
            with anyio.move_on_after(_LAST_READ_TIMEOUT):
                await self._work.read_states(self._batches)
        except BmsError as error:
            _log.info("%s, and states cannot be read: %s", self._text, type(error).__name__)

    async def conclude(self) -> None:
        """Give the servers whose state proved nothing their outcome."""
        tracker = self._tracker
        while self._batches:
            batch = self._batches.pop()
            for index, server_id in enumerate(batch.remaining, 1):
                earlier = batch.earlier.get(server_id)
                error = batch.error or (earlier.error if earlier is not None else None)
                tracker.conclude(
                    server_id,
                    OutcomeState.UNKNOWN,
                    batch=batch,
                    job_id=batch.job_id or (earlier.job_id if earlier is not None else None),
                    error=self._timeout_error(error),
                )
                if index % YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
            tracker.open_batches.discard(batch)

    def _timeout_error(self, cause: BmsError | None) -> FleetTimeoutError:
        """Return the error for servers whose state proves nothing: one for all that have the same cause."""
        error = self._errors.get(id(cause))
        if error is None:
            text = f"{self._text} before it was known how it ended for the server; read its state"
            error = FleetTimeoutError(
                f"{text} (known so far: {cause})" if cause is not None else text, code=None, server_ids=()
            )
            error.__cause__ = cause
            self._errors[id(cause)] = error
        return error
