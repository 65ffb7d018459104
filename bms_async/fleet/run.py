"""A fleet run: one action on any number of servers, and what its users hold of it.

What it guarantees: every waiter, by ``await``, ``async for`` or ``async with``, is served or gets the run's error
(R4), and the report comes in any case: after a cancellation, a timeout, the client's close, and a fault of this
package.

The run is a task of the client. It puts the parts together, `source -> work -> tracker -> report`, and concludes what
is left when they have ended, however they did. Waiters only wait for changes of
the tracker, so that one that leaves, by ``break`` or a timeout, ends nothing. `on_outcome` is called in a task of its
own: a slow one delays no server, and only the end of the run waits for it.

An error that is not a server's is kept, and raised to all waiters once all servers have their outcomes. If nobody
waits, it is logged when the run is dropped or the client is closed.

Rejected: to end a run when the last waiter leaves. That would depend on when a generator is finalized, which nobody
sees.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

import anyio
import anyio.lowlevel

from bms_async._tasks import check_loop, runs_on
from bms_async.errors import ClientClosedError

from .callbacks import OutcomeCallback
from .frozen import FrozenDict
from .options import RunOptions
from .outcome import Outcome, Progress
from .outcomes import Outcomes
from .plan import AbortRule
from .report import FleetReport
from .run_timeout import RunTimeout
from .source import IdSource, Servers
from .tracker import YIELD_EVERY, RunTracker
from .walk import make_intake
from .work import MakeWork

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

_log = logging.getLogger("bms_async.fleet")

_CALLBACK_GRACE = 5.0
"""Seconds that `on_outcome` has for the outcomes that are left when the client is closed or the run times out."""

EXIT_TIMEOUT = 60.0
"""Seconds that an ``async with`` that is left by an error waits for the run's end, which comes at once as a rule."""


class FleetRun:
    """An action on any number of servers; every id ends in exactly one `Outcome`, whatever fails.

    The run begins at once, whether anything waits for it or not. Await it for the report, or iterate over it for the
    outcomes as they happen; several tasks may do both, and more than once. Leaving before the end, by ``break``, a
    timeout or a cancellation, only detaches, as with a job. A run ends early by `cancel`, by closing the client, and by
    leaving its ``async with``: servers that were not sent are SKIPPED, and the block ends when the run has ended.

    ::

        async for outcome in bms.fleet.reboot(ids):
            print(outcome.server_id, outcome.state)
        report = await bms.fleet.stop(ids)
        async with bms.fleet.stop(ids) as run:  # it does not outlive the block
            report = await asyncio.wait_for(run, 600)

    An error that is not a server's, such as one of the source of ids, is raised by ``await`` and ``async for`` once all
    servers have their outcomes. If nothing waits for the run, it is logged.
    """

    def __init__(
        self,
        action: str,
        servers: Servers,
        make_work: MakeWork,
        options: RunOptions,
        *,
        check: bool = True,
        hooks: Hooks | None = None,
    ) -> None:
        self._tracker = tracker = RunTracker(
            action, make_intake(options, check=check), AbortRule(*options.abort_rule), hold=options.verify
        )
        if hooks is not None:
            from .hook_events import RunHookEvents  # noqa: PLC0415 - most clients have no hooks

            tracker.hook_events = RunHookEvents(hooks, action)
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._source = IdSource(servers, tracker)
        self._work = make_work(tracker, self._source)
        self._callback = OutcomeCallback(tracker, options.on_outcome) if options.on_outcome is not None else None
        self._scope = anyio.CancelScope()
        timeout = options.total_timeout
        self._timeout = RunTimeout(tracker, self._work, timeout) if timeout is not None else None
        self._callback_scope: anyio.CancelScope | None = None
        self._cancelled = self._completed = self._is_error_seen = False
        self._waiters = 0
        self._report: FleetReport | None = None

    @property
    def progress(self) -> Progress:
        """The progress so far."""
        tracker = self._tracker
        return Progress(
            total=tracker.intake.admitted if tracker.source_exhausted else None,
            submitted=tracker.submitted,
            done=len(tracker.outcomes),
            by_state=FrozenDict(tracker.by_state),
            in_flight=tracker.in_flight,
            to_verify=tracker.to_verify,
            extra_calls=self._work.extra_calls,
            waits_for=None if self._report is not None else self._work.walk.waits_for(),
            rollout=self._work.walk.standing(),
        )

    @property
    def wave_size(self) -> int | None:
        """How many servers may be in flight at once, of those that its source has given so far; None for no bound."""
        return self._work.walk.wave_size

    @property
    def report(self) -> FleetReport | None:
        """The report, None until the run has ended."""
        return self._report

    @property
    def error(self) -> BaseException | None:
        """The error that is not a server's, None if there is none so far; waiters get it once the run has ended.

        Reading it then counts as retrieving it, and it is not logged.
        """
        if self._report is not None:
            self._is_error_seen = True
        return self._tracker.error

    def cancel(self, *, detach: bool = False) -> None:
        """Send no further batch: servers that were not sent, or were refused and wait to be retried, are SKIPPED.

        The cloud has no call that aborts a job, so actions that were accepted go on there. May be called from another
        thread; it then takes effect a moment later.

        Args:
            detach: Do not follow the accepted actions either: their servers are UNKNOWN. By default the run follows
                them to their end.
        """
        self._on_loop(partial(self._cancel, detach=detach))

    def pause(self) -> None:
        """Begin nothing more until `resume`: what is under way is followed to its end.

        A batch that waits for a slot of its limit is not sent either. May be called from another thread, as `cancel`.
        """
        self._on_loop(self._work.walk.pause)

    def resume(self) -> None:
        """Go on after `pause`. May be called from another thread, as `cancel`."""
        self._on_loop(self._work.walk.resume)

    def _on_loop(self, change: Callable[[], None]) -> None:
        """Do something on the run's loop: at once there, and a moment later where a thread asks for it."""
        if runs_on(self._loop):
            change()
            return
        with suppress(RuntimeError):  # a closed loop has ended the run
            self._loop.call_soon_threadsafe(change)

    def _cancel(self, *, detach: bool) -> None:
        if self._report is not None:
            return
        self._cancelled = True
        self._tracker.stop()
        self._work.stop()
        if detach:
            self._scope.cancel()

    def __await__(self) -> Generator[object, None, FleetReport]:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        outcomes = self._tracker.outcomes
        yielded = 0
        check_loop(self._loop, "the run")
        while True:
            while yielded < len(outcomes):
                for outcome in outcomes.since(yielded):
                    yielded += 1
                    yield outcome
                    if yielded % YIELD_EVERY == 0:
                        await anyio.lowlevel.checkpoint()
            if self._report is not None:
                break
            await self._wait_for_change()
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
        # Only `on_outcome` could delay it for long, and must not do so for ever.
        with anyio.move_on_after(EXIT_TIMEOUT, shield=True):
            while self._report is None:
                await self._wait_for_change()

    if not TYPE_CHECKING:  # a type checker reports these mistakes by itself

        def __getattr__(self, name: str) -> object:
            hint = "; the report has it: report = await run" if hasattr(FleetReport, name) else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

        def __iter__(self) -> Never:
            raise TypeError("'FleetRun' object is not iterable: use `async for`, or await it for its report")

    def __repr__(self) -> str:
        state = "running" if self._report is None else "ended"
        tracker = self._tracker
        return f"<FleetRun {tracker.action} {state}: {tracker.submitted} submitted, {len(tracker.outcomes)} done>"

    def attach(self, on_change: Callable[[], None]) -> Outcomes:
        """Have a function called at each change until the run has ended; return the outcomes, which grow meanwhile.

        It is for a run of many clouds, which thereby needs no task of its own.
        """
        self._tracker.on_change = on_change
        return self._tracker.outcomes

    async def run(self) -> None:
        """Carry out the run; the client calls this in a task of its own."""
        if self._tracker.hook_events is not None:
            self._tracker.hook_events.on_start(self._options, servers=self._source.size)
        timeout = self._options.total_timeout
        timer = None if timeout is None else self._loop.call_later(timeout, self._end_in_time)
        try:
            async with anyio.create_task_group() as callbacks:
                if self._callback is not None:
                    callbacks.start_soon(self._callback.run)
                with self._scope:
                    await self._work.carry_out()
                    self._completed = not self._cancelled
                if self._timeout is not None and self._tracker.timed_out:
                    await self._timeout.prove()
                await self._conclude()
                if self._callback is not None:
                    self._callback.close()
                self._callback_scope = callbacks.cancel_scope
                if self._tracker.timed_out:
                    self._bound_callback()
        except Exception as error:  # noqa: BLE001 - R2 holds for faults of this package, too; the waiters get the error
            # A reading may see that the client is being closed before the run is cancelled by that.
            if not _is_closing(error):
                _log.exception("%s: the run failed", self._tracker.action)
                self._tracker.record_error(_unwrapped(error))
        finally:
            if timer is not None:
                timer.cancel()
            await self._finish_despite_cancellation()

    def _end_in_time(self) -> None:
        """End the run: its `total_timeout` is over."""
        if self._timeout is not None:
            self._timeout.begin()
        self._scope.cancel()
        self._bound_callback()

    def _bound_callback(self) -> None:
        """Bound the time of `on_outcome` once the run waits for nothing else."""
        if self._callback_scope is not None:
            self._callback_scope.deadline = self._loop.time() + _CALLBACK_GRACE

    async def _conclude(self) -> None:
        """Give the servers that have no outcome theirs; in an ordinary run there are none."""
        tracker = self._tracker
        if self._timeout is not None:
            await self._timeout.conclude()
        await self._source.finish(admit=not self._completed or tracker.stopping)
        # What is left has the outcome of a run that was ended, which is no reason to abort it.
        tracker.stopping = True
        await self._work.drain()
        for batch in tuple(tracker.open_batches):
            tracker.conclude_batch(batch, batch.default_state, batch.error, job_id=batch.job_id)
            await anyio.lowlevel.checkpoint()
        await self._work.release()
        if tracker.awaiting_verification:
            tracker.unverified = len(tracker.awaiting_verification) - tracker.verified_count
            await tracker.release_held()

    async def _finish_despite_cancellation(self) -> None:
        """Make the report, even if a client that is being closed cancels the run again: a large one takes long."""
        cancelled: asyncio.CancelledError | None = None
        while self._report is None:
            try:
                with anyio.CancelScope(shield=True):
                    await self._finish(drain=cancelled is None)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _finish(self, *, drain: bool) -> None:
        await self._conclude()
        if self._callback is not None and drain:
            with anyio.move_on_after(_CALLBACK_GRACE):
                await self._callback.drain()
        tracker = self._tracker
        self._report = FleetReport(
            action=tracker.action,
            outcomes=tracker.outcomes,
            by_state=FrozenDict(tracker.by_state),
            by_code=FrozenDict(tracker.by_code.most_common()),
            batches=tracker.accepted,
            cancelled=not self._completed and (self._cancelled or not tracker.timed_out),
            started=tracker.clock.created,
            ended=tracker.clock.now(),
            aborted=tracker.aborted,
            timed_out=tracker.timed_out,
            extra_calls=self._work.extra_calls,
            unverified=tracker.unverified,
            rollout=await self._work.walk.report(),
            wave_size=self._work.walk.wave_size,
        )
        if tracker.hook_events is not None:
            tracker.hook_events.on_end(self._report, tracker.error)
        tracker.notify()
        tracker.on_change = None
        await self._work.walk.dismantle()

    async def _wait(self) -> FleetReport:
        check_loop(self._loop, "the run")
        while self._report is None:
            await self._wait_for_change()
        self._raise_error()
        return self._report

    async def _wait_for_change(self) -> None:
        self._waiters += 1
        try:
            await self._tracker.wait_for_change()
        finally:
            self._waiters -= 1

    def _raise_error(self) -> None:
        if self._tracker.error is not None:
            self._is_error_seen = True
            self._tracker.raise_error()

    def log_error(self) -> None:
        """Log the run's error if it has ended and no waiter got it: when it is dropped, or its client is closed."""
        tracker = self._tracker
        is_unseen = not self._is_error_seen and not self._waiters
        if self._report is not None and tracker.error is not None and is_unseen:
            self._is_error_seen = True
            _log.error("%s: the error of the run %r was never retrieved", tracker.action, self, exc_info=tracker.error)

    def __del__(self) -> None:
        # A run whose arguments were refused was never initialized.
        if "_is_error_seen" in self.__dict__:
            self.log_error()


def _is_closing(error: Exception) -> bool:
    """Return whether an error says that the client was closed, and nothing else."""
    if isinstance(error, ExceptionGroup):
        return error.split(ClientClosedError)[1] is None
    return isinstance(error, ClientClosedError)


def _unwrapped(error: Exception) -> Exception:
    """Return the error without the groups that task groups have put around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
