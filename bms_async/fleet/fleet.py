"""Any number of servers at once: ``bms.fleet``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import nullcontext

from bms_async.api import Servers
from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.models import JobAccepted
from bms_async.session import Session
from bms_async.wire import Operation

from .options import ABORT_SAMPLE, OnJob, OnOutcome, RunOptions, read_jobs
from .run import FleetRun
from .state_reader import StateReader

Ids = Iterable[str] | AsyncIterable[str]


class Fleet:
    """Power actions on any number of servers, in batches, as fast as the limits allow: ``bms.fleet``."""

    def __init__(self, servers: Servers, session: Session, *, check: bool) -> None:
        self._servers = servers
        self._session = session
        self._check = check

    def start(
        self,
        ids: Ids,
        *,
        lane: Lane = Lane.BULK,
        wave_size: int | None = None,
        abort_above: float | None = None,
        abort_sample: int = ABORT_SAMPLE,
        retry_transient: bool = True,
        verify: bool = False,
        total_timeout: float | None = None,
        on_outcome: OnOutcome | None = None,
        on_job: OnJob | None = None,
        jobs: Iterable[JobHandle] = (),
    ) -> FleetRun:
        """Start servers.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice, in whatever spelling,
                counts once. A list of more than 200,000, and a set or dict of more than 20,000, is read while the run
                goes on and must not change meanwhile. An iterator that has to be closed is closed when the run ends.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.
            wave_size: How many servers may be under way at once, those included that wait to be asked again. A wave is
                refilled when a quarter of a batch has ended, or after 5 s: a call is scarcer than a server that waits.
            abort_above: The share of failures, 0 to 1, above which nothing more is asked for: FAILED and UNKNOWN of all
                that ended. What is left is SKIPPED, and the report tells why.
            abort_sample: How many servers must have ended before that share counts.
            retry_transient: Ask again for a server that is busy (BMS.0035 to BMS.0037, BMS.1001, BMS.1006): after 10 s,
                then after twice as long each time, six times in all.
            verify: When all have ended, read the states back. A server that is not as it was said to be is FAILED, or
                UNKNOWN while it is busy or shows no status that is known; one that nothing was told of has what its
                state proves. Outcomes other than FAILED and SKIPPED are told only then.
            total_timeout: Seconds after which the run ends, whatever it waits for; None waits as long as it takes. What
                was not asked for then is SKIPPED. The states of what is under way are read once, for some seconds, and
                what they do not prove is UNKNOWN, with a `FleetTimeoutError`. The report says so in `timed_out`.
            on_outcome: Called with each outcome, one after another in their order; may be a coroutine function. If it
                raises, it is called for the others all the same, and the first error is raised when all has ended.
                The run does not end before it has been told everything, so it must not await the run.
            on_job: Called with the handle of each job as soon as the cloud has accepted it, to save its ``to_json()``
                for another process. If it raises, that is raised when all has ended.
            jobs: Handles of what an earlier run began, from ``bms.jobs.restore()``. Their servers belong to this run;
                they are watched, and asked for again only as any other is: when it was busy, or its job was lost and
                it is not as asked. `retry_transient` rules that out.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids, or an option cannot be. A single unfit id is an outcome,
                SKIPPED.
            ClientClosedError: The client is not open.

        IdSource: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        options = RunOptions(
            lane=lane,
            wave_size=wave_size,
            abort_above=abort_above,
            abort_sample=abort_sample,
            retry_transient=retry_transient,
            verify=verify,
            total_timeout=total_timeout,
            on_outcome=on_outcome,
            on_job=on_job,
            jobs=read_jobs(jobs),
        )
        return self._run(START, ids, options)

    def stop(
        self,
        ids: Ids,
        *,
        lane: Lane = Lane.BULK,
        wave_size: int | None = None,
        abort_above: float | None = None,
        abort_sample: int = ABORT_SAMPLE,
        retry_transient: bool = True,
        verify: bool = False,
        total_timeout: float | None = None,
        on_outcome: OnOutcome | None = None,
        on_job: OnJob | None = None,
        jobs: Iterable[JobHandle] = (),
    ) -> FleetRun:
        """Stop servers by cutting their power.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice, in whatever spelling,
                counts once. A list of more than 200,000, and a set or dict of more than 20,000, is read while the run
                goes on and must not change meanwhile. An iterator that has to be closed is closed when the run ends.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.
            wave_size: How many servers may be under way at once, those included that wait to be asked again. A wave is
                refilled when a quarter of a batch has ended, or after 5 s: a call is scarcer than a server that waits.
            abort_above: The share of failures, 0 to 1, above which nothing more is asked for: FAILED and UNKNOWN of all
                that ended. What is left is SKIPPED, and the report tells why.
            abort_sample: How many servers must have ended before that share counts.
            retry_transient: Ask again for a server that is busy (BMS.0035 to BMS.0037, BMS.1001, BMS.1006): after 10 s,
                then after twice as long each time, six times in all.
            verify: When all have ended, read the states back. A server that is not as it was said to be is FAILED, or
                UNKNOWN while it is busy or shows no status that is known; one that nothing was told of has what its
                state proves. Outcomes other than FAILED and SKIPPED are told only then.
            total_timeout: Seconds after which the run ends, whatever it waits for; None waits as long as it takes. What
                was not asked for then is SKIPPED. The states of what is under way are read once, for some seconds, and
                what they do not prove is UNKNOWN, with a `FleetTimeoutError`. The report says so in `timed_out`.
            on_outcome: Called with each outcome, one after another in their order; may be a coroutine function. If it
                raises, it is called for the others all the same, and the first error is raised when all has ended.
                The run does not end before it has been told everything, so it must not await the run.
            on_job: Called with the handle of each job as soon as the cloud has accepted it, to save its ``to_json()``
                for another process. If it raises, that is raised when all has ended.
            jobs: Handles of what an earlier run began, from ``bms.jobs.restore()``. Their servers belong to this run;
                they are watched, and asked for again only as any other is: when it was busy, or its job was lost and
                it is not as asked. `retry_transient` rules that out.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids, or an option cannot be. A single unfit id is an outcome,
                SKIPPED.
            ClientClosedError: The client is not open.

        IdSource: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        options = RunOptions(
            lane=lane,
            wave_size=wave_size,
            abort_above=abort_above,
            abort_sample=abort_sample,
            retry_transient=retry_transient,
            verify=verify,
            total_timeout=total_timeout,
            on_outcome=on_outcome,
            on_job=on_job,
            jobs=read_jobs(jobs),
        )
        return self._run(STOP, ids, options)

    def reboot(
        self,
        ids: Ids,
        *,
        lane: Lane = Lane.BULK,
        wave_size: int | None = None,
        abort_above: float | None = None,
        abort_sample: int = ABORT_SAMPLE,
        retry_transient: bool = True,
        verify: bool = False,
        total_timeout: float | None = None,
        on_outcome: OnOutcome | None = None,
        on_job: OnJob | None = None,
        jobs: Iterable[JobHandle] = (),
    ) -> FleetRun:
        """Restart servers; none is asked for again that may have been restarted.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice, in whatever spelling,
                counts once. A list of more than 200,000, and a set or dict of more than 20,000, is read while the run
                goes on and must not change meanwhile. An iterator that has to be closed is closed when the run ends.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.
            wave_size: How many servers may be under way at once, those included that wait to be asked again. A wave is
                refilled when a quarter of a batch has ended, or after 5 s: a call is scarcer than a server that waits.
            abort_above: The share of failures, 0 to 1, above which nothing more is asked for: FAILED and UNKNOWN of all
                that ended. What is left is SKIPPED, and the report tells why.
            abort_sample: How many servers must have ended before that share counts.
            retry_transient: Ask again for a server that is busy (BMS.0035 to BMS.0037, BMS.1001, BMS.1006): after 10 s,
                then after twice as long each time, six times in all.
                One whose part of a job failed with BMS.0037 is not: that reboot may be this one.
            verify: When all have ended, read the states back. A server that is not as it was said to be is FAILED, or
                UNKNOWN while it is busy or shows no status that is known; one that nothing was told of has what its
                state proves. Outcomes other than FAILED and SKIPPED are told only then.
            total_timeout: Seconds after which the run ends, whatever it waits for; None waits as long as it takes. What
                was not asked for then is SKIPPED. The states of what is under way are read once, for some seconds, and
                what they do not prove is UNKNOWN, with a `FleetTimeoutError`. The report says so in `timed_out`.
            on_outcome: Called with each outcome, one after another in their order; may be a coroutine function. If it
                raises, it is called for the others all the same, and the first error is raised when all has ended.
                The run does not end before it has been told everything, so it must not await the run.
            on_job: Called with the handle of each job as soon as the cloud has accepted it, to save its ``to_json()``
                for another process. If it raises, that is raised when all has ended.
            jobs: Handles of what an earlier run began, from ``bms.jobs.restore()``. Their servers belong to this run;
                they are watched, and asked for again only as any other is: when it was busy with a start or a stop.
                `retry_transient` rules that out.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids, or an option cannot be. A single unfit id is an outcome,
                SKIPPED.
            ClientClosedError: The client is not open.

        IdSource: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        options = RunOptions(
            lane=lane,
            wave_size=wave_size,
            abort_above=abort_above,
            abort_sample=abort_sample,
            retry_transient=retry_transient,
            verify=verify,
            total_timeout=total_timeout,
            on_outcome=on_outcome,
            on_job=on_job,
            jobs=read_jobs(jobs),
        )
        return self._run(REBOOT, ids, options)

    def _run(self, operation: Operation[JobAccepted], ids: Ids, options: RunOptions) -> FleetRun:
        async def act(batch: tuple[str, ...], on_send: Callable[[], None], on_refused: Callable[[], None]) -> JobHandle:
            async with nullcontext() if options.asking is None else options.asking(batch):
                return await self._servers.act(
                    operation, batch, lane=options.lane, on_send=on_send, on_refused=on_refused
                )

        options.check(operation.name)
        self._session.check_open()
        reader = StateReader(self._session, options.lane)
        hooks = self._session.hooks
        run = FleetRun(operation.name, ids, act, reader, options, check=self._check, hooks=hooks)
        self._session.log_error_on_close(run)
        self._session.start(run.run, name=f"bms_async fleet {operation.name}")
        return run
