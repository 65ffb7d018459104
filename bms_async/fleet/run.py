"""One action on any number of servers, as fast as the limit allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

import anyio
import anyio.lowlevel

from bms_async._tasks import check_loop, runs_on

from .callbacks import OutcomeCallback
from .frozen import FrozenDict
from .isolate import Isolation
from .options import RunOptions
from .outcome import Outcome, Progress
from .plan import AbortRule, Intake, WaveLimit
from .reconcile import Reconciler
from .report import FleetReport
from .run_timeout import RunTimeout
from .scheduler import BatchScheduler
from .source import IdSource
from .state_reader import StateReader
from .submit import SendBatch, Submitter
from .tracker import YIELD_EVERY, RunTracker

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

_log = logging.getLogger("bms_async.fleet")

_CALLBACK_GRACE = 5.0
"""Seconds that `on_outcome` has for what is left to tell when the client is closed, or the run's time is over."""


_LEAVING = 60.0
"""Seconds that leaving the ``async with`` of a run by an error waits for its end, which comes at once as a rule."""


class FleetRun:
    """An action on any number of servers; every id ends in exactly one `Outcome`, whatever fails.

    It begins at once, and goes on whoever looks on. Await it for the report, or iterate over it for the outcomes as
    they happen; both may be done by several tasks, and more than once. Leaving them before the end, by ``break``, by a
    timeout or cancelled, only detaches, as with a job. What ends a run early is `cancel`, closing the client, and
    leaving its ``async with``: there what was not asked for is skipped, and the block ends when the run has.

    ::

        async for outcome in bms.fleet.reboot(ids):
            print(outcome.server_id, outcome.state)
        report = await bms.fleet.stop(ids)
        async with bms.fleet.stop(ids) as run:  # it does not outlive the block
            report = await asyncio.wait_for(run, 600)

    What breaks the run and is no server's, such as an error of the source of its ids, is raised by `await` and by
    ``async for`` once all servers have their outcomes. If nobody is there to get it, it is logged.
    """

    def __init__(
        self,
        action: str,
        ids: Iterable[str] | AsyncIterable[str],
        act: SendBatch,
        reader: StateReader,
        options: RunOptions,
        *,
        check: bool = True,
        hooks: Hooks | None = None,
    ) -> None:
        waves = WaveLimit(options.wave_size)
        self._tracker = tracker = RunTracker(
            action,
            Intake(size=waves.size, check=check),
            AbortRule(options.abort_above, options.abort_sample),
            hold=options.verify,
        )
        if hooks is not None:
            from .hook_events import RunHookEvents  # noqa: PLC0415 - most clients have no hooks

            tracker.hook_events = RunHookEvents(hooks, action)
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._source = IdSource(ids, tracker)
        self._reader = reader
        self._reconciler = Reconciler(tracker, reader)
        self._scheduler = scheduler = BatchScheduler(tracker, self._source, waves, retry=options.retry_transient)
        isolation = Isolation(tracker, scheduler, reader)
        self._submitter = Submitter(
            tracker, scheduler, act, isolation=isolation, reconciler=self._reconciler, on_job=options.on_job
        )
        self._teller = OutcomeCallback(tracker, options.on_outcome) if options.on_outcome is not None else None
        self._whole = anyio.CancelScope()
        timeout = options.total_timeout
        self._overtime = RunTimeout(tracker, scheduler, self._reconciler, timeout) if timeout is not None else None
        self._telling: anyio.CancelScope | None = None
        self._cancelled = self._completed = self._told_error = False
        self._waiters = 0
        self._report: FleetReport | None = None

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        tracker = self._tracker
        return Progress(
            total=tracker.intake.admitted if tracker.source_exhausted else None,
            submitted=tracker.submitted,
            done=len(tracker.outcomes),
            by_state=FrozenDict(tracker.by_state),
            in_flight=tracker.in_flight,
            to_verify=len(tracker.awaiting_verification or ()),
            extra_calls=self._extra_calls,
        )

    @property
    def report(self) -> FleetReport | None:
        """The report, None as long as the run goes on."""
        return self._report

    def cancel(self, *, detach: bool = False) -> None:
        """Stop asking: servers that were not asked for yet, or were refused and wait for their turn, are SKIPPED.

        The cloud has no call that aborts a job, so what was asked for goes on there. From another thread it may be
        called as well; the run is then told a moment later.

        Args:
            detach: Do not wait for that either: its servers are UNKNOWN. By default they are watched to their end.
        """
        if runs_on(self._loop):
            self._cancel(detach=detach)
            return
        with suppress(RuntimeError):  # a loop that is closed has ended the run
            self._loop.call_soon_threadsafe(partial(self._cancel, detach=detach))

    def _cancel(self, *, detach: bool) -> None:
        if self._report is not None:
            return
        self._cancelled = True
        self._source.scope.cancel()
        self._tracker.stop()
        if detach:
            self._whole.cancel()

    def __await__(self) -> Generator[object, None, FleetReport]:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        outcomes = self._tracker.outcomes
        told = 0
        check_loop(self._loop, "the run")
        while True:
            while told < len(outcomes):
                for outcome in outcomes.since(told):
                    told += 1
                    yield outcome
                    if told % YIELD_EVERY == 0:
                        await anyio.lowlevel.checkpoint()
            if self._report is not None:
                break
            await self._change()
        self._raise_error()

    async def __aenter__(self) -> Self:
        check_loop(self._loop, "the run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel(detach=error is not None)
        if error is None:
            await self._wait()
            return
        # Of foreign code only `on_outcome` could hold it up, and that it must not do for ever.
        with anyio.move_on_after(_LEAVING, shield=True):
            while self._report is None:
                await self._change()

    if not TYPE_CHECKING:  # a type checker finds these mistakes by itself

        def __getattr__(self, name: str) -> object:
            hint = "; the report has it: report = await run" if hasattr(FleetReport, name) else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

        def __iter__(self) -> Never:
            raise TypeError("'FleetRun' object is not iterable: use `async for`, or await it for its report")

    def __repr__(self) -> str:
        state = "ended" if self._report else "running"
        tracker = self._tracker
        return f"<FleetRun {tracker.action} {state}: {tracker.submitted} submitted, {len(tracker.outcomes)} done>"

    async def run(self) -> None:
        """Do it all; the client runs this in a task of its own."""
        if self._tracker.hook_events is not None:
            self._tracker.hook_events.on_start(self._options)
        timeout = self._options.total_timeout
        bound = None if timeout is None else self._loop.call_later(timeout, self._end_in_time)
        try:
            async with anyio.create_task_group() as telling:
                if self._teller is not None:
                    telling.start_soon(self._teller.run)
                with self._whole:
                    await self._carry_out()
                    self._completed = not self._cancelled
                if self._overtime is not None and self._tracker.timed_out:
                    await self._overtime.look()
                await self._conclude()
                if self._teller is not None:
                    self._teller.close()
                self._telling = telling.cancel_scope
                if self._tracker.timed_out:
                    self._hurry()
        except Exception as error:  # noqa: BLE001 - R2 holds for faults of ours too, and the caller gets them
            _log.exception("%s broke", self._tracker.action)
            self._tracker.record_error(_unwrapped(error))
        finally:
            if bound is not None:
                bound.cancel()
            await self._finish_whatever_comes()

    def _end_in_time(self) -> None:
        """End the run, for its `total_timeout` is over."""
        if self._overtime is not None:
            self._overtime.begin()
        self._whole.cancel()
        self._hurry()

    def _hurry(self) -> None:
        """Give `on_outcome` a bound, once it alone is left."""
        if self._telling is not None:
            self._telling.deadline = self._loop.time() + _CALLBACK_GRACE

    @property
    def _extra_calls(self) -> int:
        return self._tracker.extra_calls + self._reader.calls

    async def _carry_out(self) -> None:
        async with anyio.create_task_group() as tasks:
            for job in self._options.jobs:
                self._submitter.adopt(job, tasks)
            tasks.start_soon(self._source.read)
            await self._submitter.run(tasks)
            # Nothing more is asked for: what the source has not told yet is not waited for.
            self._source.scope.cancel()
        if self._tracker.awaiting_verification:
            await self._reconciler.verify()

    async def _conclude(self) -> None:
        """Give an outcome to whatever has none; once all is done there is nothing of that kind."""
        tracker = self._tracker
        if self._overtime is not None:
            await self._overtime.conclude()
        await self._source.finish(admit=not self._completed or tracker.stopping)
        await self._scheduler.drain()
        await tracker.skip_unasked()
        for batch in tuple(tracker.open_batches):
            tracker.conclude_batch(batch, batch.default_state, batch.error, job_id=batch.job_id)
            await anyio.lowlevel.checkpoint()
        if tracker.awaiting_verification:
            tracker.unverified = sum(
                outcome.server_id not in tracker.judged for outcome in tracker.awaiting_verification
            )
            await tracker.release_held()

    async def _finish_whatever_comes(self) -> None:
        """Make the report, also where a client that is being closed cancels a large run again, for it takes long."""
        cancelled: asyncio.CancelledError | None = None
        while self._report is None:
            try:
                with anyio.CancelScope(shield=True):
                    await self._finish(tell=cancelled is None)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _finish(self, *, tell: bool) -> None:
        await self._conclude()
        if self._teller is not None and tell:
            with anyio.move_on_after(_CALLBACK_GRACE):
                await self._teller.drain()
        tracker = self._tracker
        self._report = FleetReport(
            action=tracker.action,
            outcomes=tracker.outcomes,
            by_state=FrozenDict(tracker.by_state),
            by_code=FrozenDict(tracker.by_code.most_common()),
            batches=tracker.accepted,
            cancelled=not self._completed and (self._cancelled or not tracker.timed_out),
            started=tracker.clock.began,
            ended=tracker.clock.now(),
            aborted=tracker.aborted,
            timed_out=tracker.timed_out,
            extra_calls=self._extra_calls,
            unverified=tracker.unverified,
        )
        if tracker.hook_events is not None:
            tracker.hook_events.on_end(self._report, tracker.error)
        tracker.notify()

    async def _wait(self) -> FleetReport:
        check_loop(self._loop, "the run")
        while self._report is None:
            await self._change()
        self._raise_error()
        return self._report

    async def _change(self) -> None:
        self._waiters += 1
        try:
            await self._tracker.wait_for_change()
        finally:
            self._waiters -= 1

    def _raise_error(self) -> None:
        if self._tracker.error is not None:
            self._told_error = True
            self._tracker.raise_error()

    def log_error(self) -> None:
        """Log what broke the run if it has ended and nobody was told: when it is dropped, or its client is closed."""
        tracker = self._tracker
        unheard = not self._told_error and not self._waiters
        if self._report is not None and tracker.error is not None and unheard:
            self._told_error = True
            _log.error("%s: nobody fetched the error of the run %r", tracker.action, self, exc_info=tracker.error)

    def __del__(self) -> None:
        # What was refused before it was made has no books.
        if "_told_error" in self.__dict__:
            self.log_error()


def _unwrapped(error: Exception) -> Exception:
    """Return the error itself, which a task group may have wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
