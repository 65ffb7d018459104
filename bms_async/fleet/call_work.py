"""The work of ``each``: a function of the application is called for each server.

What it guarantees: one outcome a server, whatever the function does (R2). It may raise anything, cancel its own task,
never return, or swallow a cancellation; that is its server's outcome, and no other's. It is called again for a server
that was busy only if it has done nothing that must not be done twice (R3).

How: as many workers as the limit of the function's calls and their latency need (`crew`), never a task a server. A
probe sees the calls that the function makes (`call_probe`). So a server whose call waits for its slot, and for which
nothing was changed yet, can be taken back, by a pause, the end of the window or the end of the run; and one for which
something was sent is UNKNOWN if the function is ended before it returns. A job that the function returns is followed
without a task of its own.

Rejected: to read the limit of the function's call from a table. A function may make several calls, or none of ours.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

import anyio

from bms_async._foreign import call_foreign, contain
from bms_async.errors import FleetError
from bms_async.session.probe import current_probe

from .batch import Batch
from .call_ends import CallEnds, Follow
from .call_probe import CallProbe
from .crew import Crew
from .options import RunOptions
from .outcome import OutcomeState
from .scheduler import BatchScheduler
from .source import IdSource
from .tracker import RunTracker
from .walk import Walk

CallOne: TypeAlias = Callable[[str], Awaitable[object]]
"""A coroutine function of a server's id."""


class CallWork:
    """Calls a function for each server.

    Args:
        tracker: The run's.
        source: The source of ids.
        walk: As the attribute.
        call: The function.
        options: The run's options.
        max_workers: How many calls may be under way at once.
        keeps_results: Whether outcomes have what the function returned.
        follow: Follows each server to its end once the function has returned; None where that was the end, or a job
            says what is.
        only_calls: Whether the function is one of the SDK's own, which does nothing but calls.

    Attributes:
        walk: How the fleet is walked through.
        extra_calls: How many calls were made only to find out what no response says.
    """

    def __init__(
        self,
        tracker: RunTracker,
        source: IdSource,
        walk: Walk,
        call: CallOne,
        options: RunOptions,
        *,
        max_workers: int,
        keeps_results: bool,
        follow: Follow | None = None,
        only_calls: bool = False,
    ) -> None:
        self._tracker = tracker
        self._source = source
        self.walk = walk
        self._call = call
        self._options = options
        self._only_calls = only_calls
        self._scheduler = BatchScheduler(tracker, walk.feed, walk.gate, retry=options.retry_transient)
        self._ends = CallEnds(
            tracker, self._scheduler, on_job=options.on_job, keeps_results=keeps_results, follow=follow
        )
        self._crew = Crew(self._call_one, max_workers, f"bms_async {tracker.action} worker")

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to find out what no response says."""
        return self.walk.calls

    async def carry_out(self) -> None:
        """Read the source, and call the function for each server."""
        try:
            async with self.walk, self._crew, anyio.create_task_group() as tasks:
                tasks.start_soon(self._source.read)
                tasks.start_soon(self._ends.run)
                await self.walk.prepare()
                await self._hand_out()
                await self.drain()
                self._source.scope.cancel()
                await self._wait_for_ends()
                self._ends.finish()
        finally:
            await self._ends.close()

    def stop(self) -> None:
        """Call the function no more."""
        self._source.scope.cancel()
        self.walk.stop()
        self._crew.dismiss()

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give all servers that wait their outcome."""
        await self._scheduler.drain(unknown=unknown)
        if unknown is None:
            await self._tracker.skip_unasked(self.walk.feed.pop_waiting)

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read nothing: no state of a server says what a function has done."""

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        await self.walk.release()

    async def _hand_out(self) -> None:
        while True:
            await self._crew.wait_for_one()
            batch = await self._scheduler.next_batch()
            if batch is None:
                return
            await self._crew.hand(batch)

    async def _wait_for_ends(self) -> None:
        """Wait for the ends of calls and jobs that are under way, after the run was told to stop as well."""
        tracker = self._tracker
        while tracker.in_flight:
            tracker.wake.clear()
            await tracker.wake.wait()

    async def _call_one(self, batch: Batch) -> None:
        try:
            await self._call_for(batch)
        except Exception as fault:  # noqa: BLE001 - R2 holds for faults of this package, too
            self._ends.on_fault(batch, fault)

    async def _ask(self, server_id: str) -> object:
        """Call the function, and await what it returns.

        Raises:
            FleetError: That cannot be awaited: a function that drops the coroutine of its call has done nothing.
            Exception: The function raised it.
        """
        awaitable: object = self._call(server_id)
        if inspect.isawaitable(awaitable):
            return await awaitable
        raise FleetError(
            f"{self._tracker.action}: server {server_id}: expected a coroutine from the function, got "
            f"{type(awaitable).__name__}; make it an `async def` that awaits its calls, or return the call itself",
            code=None,
            server_ids=(server_id,),
        )

    async def _call_for(self, batch: Batch) -> None:
        probe = CallProbe(
            batch,
            self._tracker,
            self._crew,
            self._scheduler,
            lane=self._options.lane,
            sees_all=self._only_calls,
        )
        token = current_probe.set(probe)
        is_called = is_over = False
        result: object = None
        error: Exception | None = None
        try:
            with batch.scope:
                if not self._tracker.stopping:
                    is_called = True
                    probe.begin()
                    result = await call_foreign("the call of a server", self._ask, batch.ids[0])
                    is_over = True
        except Exception as raised:  # noqa: BLE001 - one server of many, whose outcome it is
            error = raised
        except asyncio.CancelledError as raised:
            if self._crew.is_ending:
                raise
            error = contain("the call of a server", raised)
        finally:
            probe.end()
            current_probe.reset(token)
        await self._take_back_cancellation(batch.scope)
        if not is_called or (batch.scope.cancel_called and not probe.changes):
            # Whatever the function makes of its cancellation: nothing was sent.
            probe.forget()
            self._take_back(batch)
        elif error is not None:
            self._ends.on_error(batch, error, probe)
        elif is_over:
            probe.note()
            await self._ends.on_result(batch, result, probe)
        else:
            self._ends.conclude(batch, OutcomeState.UNKNOWN)

    async def _take_back_cancellation(self, scope: anyio.CancelScope) -> None:
        """Take back cancellations that are over, or that the function has asked for: its worker goes on."""
        task = asyncio.current_task()
        if task is None or self._crew.is_ending or not (task.cancelling() or scope.cancel_called):
            return
        while task.cancelling():
            task.uncancel()
        try:
            # The last one may not be delivered yet.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._crew.is_ending:
                raise

    def _take_back(self, batch: Batch) -> None:
        if self._tracker.stopping:
            self._tracker.conclude_batch(batch, batch.default_state, self._tracker.skip_error)
        else:
            self._scheduler.take_back(batch)
