"""Durable runs of a client: ``bms.runs``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Unpack

import anyio

from bms_async.errors import ConfigurationError, InvalidRequestError, RunNotFoundError
from bms_async.fleet import Outcome, OutcomeState
from bms_async.fleet.rollout.reader import RolloutReader
from bms_async.fleet.source import Servers
from bms_async.jobs import Watcher
from bms_async.journal import Journal, LedBy
from bms_async.journal.journal import PATIENCE
from bms_async.journal.transactions.runs import find_run, list_runs
from bms_async.session import Session

from .begin import write_down
from .leader import Leaders, Term, check_name
from .led import LedRuns
from .options import CheckedOptions, DurableOptions, check_key
from .pruning import prune
from .run import DurableRun
from .runs import Runs
from .steps import BatchSteps
from .worker import Worker

_LISTED_AT_ONCE = 100


class DurableRuns(BatchSteps):
    """Runs that outlive the process: ``bms.runs``, for a client that was made with ``runs=``.

    A run is written down with all of its servers before the first call, and any worker that lives finishes it: the
    client that began it, for as long as it is open; `work`, in any program; and ``bms worker``. Workers work for the
    endpoint and the project of their client.
    """

    def __init__(self, runs: Runs | None, session: Session, watcher: Watcher, *, endpoint: str, check: bool) -> None:
        super().__init__(runs, session, watcher, check=check)
        self._endpoint = endpoint
        self._leaders = Leaders(self._tasks)
        self._is_open = False

    async def start(self, servers: Servers, *, key: str | None = None, **options: Unpack[DurableOptions]) -> DurableRun:
        """Start servers, durably.

        Args:
            servers: Any number of servers, from any iterable: their ids, or the servers themselves.
            key: The run's name in this project. The same key is the same run, with the options of the first call, so
                that a call that is made twice acts once. None makes a new name.
            **options: See `DurableOptions`.

        Returns:
            The run, which is written down.

        Raises:
            InvalidRequestError: An argument is invalid, or the key is that of another run.
            JournalError: The run could not be written down, or that was not confirmed. This call has sent nothing; made
                again with the same key, it finds the run or writes it.

        Source: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        return await self._begin("servers.start", servers, key, options)

    async def stop(self, servers: Servers, *, key: str | None = None, **options: Unpack[DurableOptions]) -> DurableRun:
        """Stop servers by cutting their power, durably.

        Args:
            servers: Any number of servers, from any iterable: their ids, or the servers themselves.
            key: The run's name in this project, as for `start`.
            **options: See `DurableOptions`.

        Returns:
            The run, which is written down.

        Raises:
            InvalidRequestError: An argument is invalid, or the key is that of another run.
            JournalError: The run could not be written down, or that was not confirmed. This call has sent nothing; made
                again with the same key, it finds the run or writes it.

        Source: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        return await self._begin("servers.stop", servers, key, options)

    async def reboot(
        self, servers: Servers, *, key: str | None = None, **options: Unpack[DurableOptions]
    ) -> DurableRun:
        """Restart servers, durably: a server is rebooted at most once for a run, whichever process dies.

        Args:
            servers: Any number of servers, from any iterable: their ids, or the servers themselves.
            key: The run's name in this project, as for `start`.
            **options: See `DurableOptions`.

        Returns:
            The run, which is written down.

        Raises:
            InvalidRequestError: An argument is invalid, or the key is that of another run.
            JournalError: The run could not be written down, or that was not confirmed. This call has sent nothing; made
                again with the same key, it finds the run or writes it.

        Source: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        return await self._begin("servers.reboot", servers, key, options)

    async def get(self, key: str) -> DurableRun:
        """Return the run of a key in this project.

        Args:
            key: The key.

        Raises:
            RunNotFoundError: There is none; an `InvalidRequestError` too.
            InvalidRequestError: It is no key.
            JournalError: The journal cannot be read.
        """
        journal = self._journal
        kept = await journal.run(find_run, await self._place(), check_key(key), writes=False)
        if kept is None:
            raise RunNotFoundError("key", key, "expected the key of a run of this project; bms.runs.list() has them")
        return DurableRun(journal, kept)

    async def list(self, *, open: bool | None = None, all_places: bool = False) -> AsyncIterator[DurableRun]:  # noqa: A002 - the caller's word
        """Iterate over runs, the latest first.

        Args:
            open: True for those that have not ended, False for those that have, None for both.
            all_places: Those of all endpoints and projects in the journal, and not of this client's alone.

        Raises:
            JournalError: The journal cannot be read.
        """
        journal = self._journal
        place = None if all_places else await self._place()
        after: tuple[float, str] | None = None
        while True:
            read = partial(list_runs, place, is_open=open, after=after, limit=_LISTED_AT_ONCE)
            page = await journal.run(read, writes=False)
            for kept in page:
                yield DurableRun(journal, kept)
            if len(page) < _LISTED_AT_ONCE:
                return
            after = page[-1].created, page[-1].id

    async def carry_on(self, run: DurableRun) -> None:
        """Do this client's part of a run for as long as the client is open, as it does for those that it begins.

        Args:
            run: A run of this project, such as one of `get`.

        Raises:
            InvalidRequestError: It is a run of another project.
        """
        place = await self._place()
        if run.place != place:
            raise InvalidRequestError("run", run.key, f"expected a run of {place}, got one of {run.place}")
        self._session.check_open()
        if run.ended is None:
            self._work_on(self._journal, run.id, place)

    def _count_to_verify(self, run: DurableRun) -> int:
        """Return how many servers of a run have ended in this client's hands and wait for their state to be read."""
        worker = self._workers.get(run.id)
        return 0 if worker is None else worker.to_verify

    async def retry(
        self, run: DurableRun, *, key: str | None = None, unknown: bool | None = None, **options: Unpack[DurableOptions]
    ) -> DurableRun:
        """Begin a new run with the servers of one that has ended that are not as asked.

        Args:
            run: The run.
            key: The name of the new one, as for `start`.
            unknown: Whether servers that are UNKNOWN are among them. By default they are for a start or a stop, and
                never for a reboot, since they may have been rebooted.
            **options: See `DurableOptions`.

        Raises:
            InvalidRequestError: The run has not ended, or an argument is invalid.
            JournalError: The new run could not be written down, or that was not confirmed, as for `start`.
        """
        await run.refresh()
        if run.ended is None:
            raise InvalidRequestError("run", run.key, "expected a run that has ended; cancel it first, or await it")
        with_unknown = run.action != "servers.reboot" if unknown is None else unknown
        wanted = {OutcomeState.FAILED, OutcomeState.SKIPPED} | ({OutcomeState.UNKNOWN} if with_unknown else set())
        ids = [outcome.server_id async for outcome in run if outcome.state in wanted and _may_be_asked(outcome)]
        return await self._begin(run.action, ids, key, options)

    async def prune(self, *, older_than: float, all_places: bool = False, prefix: str = "") -> int:
        """Delete runs that have ended, with all that is kept of them, and the jobs and events of that age.

        The keys of these runs are free again. A reader of ``bms.jobs.events(since=)`` that had not read the events gets
        an `EventGap` in their place. Events of a job that goes on stay, and so do those after them. A job of that age
        that nobody polls is forgotten, and so are the servers that a `Reconciler` was to forget that long ago.

        Args:
            older_than: Those that ended more than so many seconds ago.
            all_places: Those of all endpoints and projects in the journal, and not of this client's alone.
            prefix: Those whose key begins with it. Then jobs, events and forgotten servers stay, which have no key.

        Returns:
            How many runs were deleted.

        Raises:
            InvalidRequestError: `older_than` is negative.
            JournalError: The journal cannot be written.
        """
        # Not `older_than < 0`, which lets NaN pass: a database may hold that for older than everything.
        if not older_than >= 0:
            raise InvalidRequestError("older_than", older_than, "expected 0 or more seconds")
        return await prune(self._journal, None if all_places else await self._place(), older_than, prefix)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[Worker]:
        """Be a worker for all runs of this project for as long as the block lasts; then hand back what is left.

        Raises:
            ClientClosedError: The client is not open.
        """
        journal = self._journal
        self._session.check_open()
        worker = Worker(journal, self._session, self._watcher, place=await self._place())
        self._session.check_open()
        self._workers[worker.owner] = worker
        task = self._tasks.start(worker.run, name="bms_async worker")
        try:
            yield worker
        finally:
            self._workers.pop(worker.owner, None)
            with anyio.CancelScope(shield=True):
                await worker.drain()
                # Cancelling the task instead looks like a fault in it: its group of tasks takes that cancellation back.
                worker.end()
                await asyncio.wait({task})

    def lead(self, name: str) -> AbstractAsyncContextManager[Term]:
        """Lead, alone among all processes that share the journal, for as long as the block lasts.

        ::

            async with bms.runs.lead("power-controller") as term:
                while True:
                    await switch_on_what_should_run(fence=term.fence)

        Entering waits until nobody else leads by this name. Leaving lets the next one lead at once; after a process
        that died, it leads once the lease of 15 s is over. When the lease cannot be renewed in time the block is
        cancelled, before another process can have it, and leaving raises.

        Args:
            name: What is led; the same in all processes, whatever cloud or project their clients are for.

        Raises:
            InvalidRequestError: The name is not a printable text of 1 to 200 characters.
            LeadershipLostError: The lease was lost. It replaces the cancellation of the block, and no other error.
            JournalError: The journal could not be used while this waited to lead.
            ClientClosedError: The client is not open, or was closed inside of the block.
        """
        return self._leaders.lead(self._journal, check_name(name))

    def led_by(self, name: str) -> LedRuns:
        """Return the runs of one leader of this project; a `Reconciler` calls this.

        Args:
            name: Its name.
        """

        async def begin(action: str, servers: Servers, key: str, options: DurableOptions, term: LedBy) -> DurableRun:
            return await self._begin(action, servers, key, options, term=term)

        return LedRuns(
            name,
            journal=lambda: self._journal,
            find_place=self._place,
            leaders=self._leaders,
            begin=begin,
            carry_on=self.carry_on,
        )

    async def open(self) -> None:
        """Open the journal, if there is one; the client calls this."""
        if self._runs is not None:
            await self._runs.journal.open()
            self._is_open = True
            await self._tasks.open()

    async def aclose(self) -> None:
        """Hand back what this client's workers have, and close the journal; the client calls this first of all."""
        if self._runs is None or not self._is_open:
            return
        self._is_open = False
        try:
            async with anyio.create_task_group() as tasks:
                for worker in self._workers.values():
                    tasks.start_soon(worker.drain)
        finally:
            try:
                await self._leaders.aclose()
            finally:
                try:
                    await self._tasks.aclose()
                finally:
                    await self._runs.journal.aclose()

    @property
    def _journal(self) -> Journal:
        if self._runs is None:
            raise ConfigurationError(
                "runs=None: expected a journal for durable runs; make the client with runs=Runs(), or set BMS_RUNS"
            )
        return self._runs.journal

    async def _place(self) -> str:
        return f"{self._endpoint}|{await self._session.find_project_id('runs')}"

    async def _begin(
        self,
        action: str,
        servers: Servers,
        key: str | None,
        options: DurableOptions,
        *,
        patience: float = PATIENCE,
        term: LedBy | None = None,
    ) -> DurableRun:
        journal = self._journal
        checked = CheckedOptions(**options)
        checked.check(action)
        self._session.check_open()
        name = f"{action.removeprefix('servers.')}-{secrets.token_hex(6)}" if key is None else check_key(key)
        place = await self._place()
        kept, _ = await write_down(
            journal,
            servers,
            action=action,
            key=name,
            place=place,
            options=checked,
            check=self._check,
            servers=RolloutReader(self._session, checked.lane),
            patience=patience,
            term=term,
        )
        if not checked.detach and kept.ended is None:
            self._work_on(journal, kept.id, place)
        return DurableRun(journal, kept)

    def _work_on(self, journal: Journal, run: str, place: str) -> None:
        """Work on one run for as long as the client is open."""
        if run in self._workers:
            return
        worker = self._workers[run] = Worker(journal, self._session, self._watcher, place=place, run=run)
        self._tasks.start(self._run_worker, worker, run, name="bms_async worker")

    async def _run_worker(self, worker: Worker, run: str) -> None:
        try:
            await worker.run()
        finally:
            self._workers.pop(run, None)


def _may_be_asked(outcome: Outcome) -> bool:
    """Return whether a server can be asked for at all; one with an invalid id never can."""
    return not isinstance(outcome.error, ValueError)
