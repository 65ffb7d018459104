"""What a reconciler with a journal does: each wave is a durable run, which the next leader finds and follows.

What is guaranteed: `bms_async.runs.led` has it. A server that an earlier leader has sent is under way for the next one
until its outcome is there, whoever polls its job. A run is deleted a day after its end: the journal does not grow.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import anyio

from bms_async._tasks import BackgroundTasks
from bms_async.errors import CallError, ClientClosedError, JournalError
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.journal.transactions.desired import trim_forgotten
from bms_async.runs.led import LedRuns
from bms_async.runs.options import CheckedOptions, DurableOptions
from bms_async.runs.run import DurableRun

from .ledger import ACTIONS
from .options import ReconcilerOptions
from .ports import ReconcileAction

_log = logging.getLogger("bms_async.reconcile")

_RETRY_EVERY = 1.0
"""Seconds between two attempts to find what an earlier leader has begun."""

_PRUNE_EVERY = 600.0
_KEEP_RUNS = 86_400.0
"""Seconds for which a run that has ended can still be looked at."""

_KEEP_FORGOTTEN = 86_400.0
"""Seconds for which a replica may be away without reading all desired states anew."""

_ENDING_GRACE = 3.0
"""Seconds that a reconciler which is left waits for its journal."""


class DurableActor:
    """Acts by durable runs.

    Args:
        runs: The runs of the leader, and its term.
        options: The options of each run.
    """

    def __init__(self, runs: LedRuns, options: DurableOptions) -> None:
        self._runs = runs
        self._options = options

    async def act(self, action: ReconcileAction, ids: Sequence[str], on_outcome: Callable[[Outcome], None]) -> None:
        """Ask servers, and return once each has its outcome. Cancelled, it has no further server sent.

        Args:
            action: What is done to them.
            ids: The servers.
            on_outcome: Called with the outcome of each as soon as it is known.

        Raises:
            LeadershipLostError: This replica does not lead, and nothing was sent.
            JournalError: The run could not be written down or read.
            ClientClosedError: The client is closed.
        """
        run = await self._runs.begin(action, ids, self._options)
        try:
            async for outcome in run:
                on_outcome(outcome)
        finally:
            # Without the lead nothing is sent any more, and whoever leads next cancels it.
            if run.ended is None and self._runs.is_leading:
                await _cancel(run)

    @asynccontextmanager
    async def resume(
        self, on_begin: Callable[[ReconcileAction, Sequence[str]], None], on_outcome: Callable[[Outcome], None]
    ) -> AsyncIterator[None]:
        """Follow what earlier leaders have begun, for as long as the block lasts.

        Args:
            on_begin: Called with the servers of each run that were sent and have no outcome, before the block begins.
            on_outcome: Called with the outcome of each.

        Raises:
            ClientClosedError: The client is closed.
        """
        tasks = BackgroundTasks("bms_async reconciler")
        await tasks.open()
        try:
            for run, sent in await self._take_over():
                on_begin(cast("ReconcileAction", run.action), sorted(sent))
                tasks.start(_follow, run, sent, on_outcome, name="bms_async reconciler")
            tasks.start(self._prune, name="bms_async reconciler")
            yield
        finally:
            await tasks.aclose()

    async def _take_over(self) -> list[tuple[DurableRun, set[str]]]:
        while True:
            try:
                return await self._runs.take_over()
            except (JournalError, CallError) as error:
                _log.warning("what earlier leaders of %s have begun cannot be read now: %s", self._runs.name, error)
                await anyio.sleep(_RETRY_EVERY)

    async def _prune(self) -> None:
        while True:
            try:
                await self._runs.prune(_KEEP_RUNS)
                place, journal = await self._runs.place(), self._runs.journal
                while await journal.run(trim_forgotten, place, self._runs.name, _KEEP_FORGOTTEN):
                    pass
            except (JournalError, CallError) as error:
                _log.info("what %s does not need any more is deleted later: %s", self._runs.name, error)
            except ClientClosedError:
                return
            await anyio.sleep(_PRUNE_EVERY)


def make_actor(runs: LedRuns, options: ReconcilerOptions) -> DurableActor:
    """Return what acts for a reconciler.

    Args:
        runs: The runs of the leader, and its term.
        options: The options of the reconciler.

    Raises:
        InvalidRequestError: `ready` of the rollout is one that only this process can call.
    """
    # A server that is busy is tried again after a reading, by what is desired then.
    durable = DurableOptions(retry_transient=False, rollout=options.rollout)
    for action in ACTIONS.values():
        CheckedOptions(**durable).check(action)
    return DurableActor(runs, durable)


async def _follow(run: DurableRun, sent: set[str], on_outcome: Callable[[Outcome], None]) -> None:
    """Hand on the outcomes of servers; those of a run that cannot be read any more are UNKNOWN."""
    left = set(sent)
    try:
        async for outcome in run:
            if outcome.server_id in left:
                left.remove(outcome.server_id)
                on_outcome(outcome)
    except ClientClosedError:
        return
    except JournalError as error:
        _log.warning("a run of an earlier leader is lost: %s", error)
        for server_id in left:
            on_outcome(make_outcome(server_id, OutcomeState.UNKNOWN, error=error, ended=datetime.now(UTC)))


async def _cancel(run: DurableRun) -> None:
    """Have nothing more of a run sent."""
    with anyio.move_on_after(_ENDING_GRACE, shield=True):
        try:
            await run.cancel()
        except (JournalError, ClientClosedError) as error:
            _log.info("the run %r is cancelled by whoever leads next: %s", run.key, error)
