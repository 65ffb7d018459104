"""One action on any number of servers, as fast as the limit allows."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Generator, Iterable
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, TaskGroup

from bms_async._owner import is_cancelled
from bms_async.errors import BmsError, CallError, ClientClosedError, FleetError, InvalidRequestError, JobLostError
from bms_async.jobs import JobHandle

from .outcome import FleetReport, Outcome, OutcomeState, Progress, judge_refusal, judge_sub_job, reason_of
from .plan import Intake

_log = logging.getLogger("bms_async.fleet")

_SUBMITTERS = 50
"""How many batches may be on their way to the cloud at once: what the limit lets go in one burst."""

_LINGER = 1.0
"""Seconds after which a slow source's ids go as they are, in a batch that is not full."""

_AT_A_TIME = 500
"""How many ids are dealt with before others get their turn."""

_MUTABLE = (list, set, dict, deque)
"""What its owner may well use again while the run goes on, and what is copied in no time."""

Submit = Callable[[tuple[str, ...], Callable[[], None], Callable[[], None]], Awaitable[JobHandle]]


class _Batch:
    """Servers on their way to the cloud.

    Attributes:
        started: When the cloud was first asked, None before.
        asked: How often.
        in_doubt: Whether the cloud may act on it: it was asked and has not surely refused.
    """

    __slots__ = ("asked", "ids", "in_doubt", "scope", "started")

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids
        self.scope = anyio.CancelScope()
        self.started: datetime | None = None
        self.asked = 0
        self.in_doubt = False

    @property
    def fate(self) -> OutcomeState:
        """What its servers are if it comes to no job: the cloud surely did nothing, or nobody knows."""
        return OutcomeState.UNKNOWN if self.in_doubt else OutcomeState.SKIPPED


class FleetRun:
    """An action on any number of servers; every id ends in exactly one `Outcome`, whatever fails.

    It begins at once. Await it for the report, or iterate over it for the outcomes as they happen; both may be done
    by several tasks, and more than once. When the last of them leaves before the end, by ``break`` or cancelled, so
    does the run: what was not asked for is not asked for any more.

    ::

        async for outcome in bms.fleet.reboot(ids):
            print(outcome.server_id, outcome.state)
        report = await bms.fleet.stop(ids)
    """

    def __init__(
        self, action: str, ids: Iterable[str] | AsyncIterable[str], submit: Submit, *, check: bool = True
    ) -> None:
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError("ids", ids, "an iterable or async iterable of ids is wanted")
        self._action = action
        self._source: Iterable[str] | AsyncIterable[str] = tuple(ids) if type(ids) in _MUTABLE else ids  # type: ignore[arg-type]
        self._submit = submit
        self._intake = Intake(check=check)
        self._told_all = False
        self._outcomes: list[Outcome] = []
        self._by_state = dict.fromkeys(OutcomeState, 0)
        self._by_code: Counter[str] = Counter()
        self._open: set[_Batch] = set()
        self._reading = anyio.CancelScope()
        self._whole = anyio.CancelScope()
        self._taken = self._submitted = self._accepted = 0
        self._cancelled = self._completed = False
        self._consumers = 0
        self._changed = asyncio.Event()
        self._source_error: BaseException | None = None
        self._report: FleetReport | None = None
        self._clock = _Clock()

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return Progress(
            total=self._intake.admitted if self._told_all else None,
            submitted=self._submitted,
            done=len(self._outcomes),
            by_state=MappingProxyType(self._by_state.copy()),
        )

    @property
    def report(self) -> FleetReport | None:
        """The report, None as long as the run goes on."""
        return self._report

    def cancel(self, *, let_go: bool = False) -> None:
        """Stop asking: servers that were not asked for yet, or were refused and wait for their turn, are SKIPPED.

        The cloud has no call that aborts a job, so what was asked for goes on there.

        Args:
            let_go: Do not wait for that either: its servers are UNKNOWN. By default they are watched to their end.
        """
        if self._report is not None:
            return
        self._cancelled = True
        self._reading.cancel()
        for batch in self._open:
            if not batch.in_doubt:
                batch.scope.cancel()
        if let_go:
            self._whole.cancel()

    def __await__(self) -> Generator[object, None, FleetReport]:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        told = 0
        self._consumers += 1
        try:
            while True:
                while told < len(self._outcomes):
                    told += 1
                    yield self._outcomes[told - 1]
                    if told % _AT_A_TIME == 0:
                        await anyio.lowlevel.checkpoint()
                if self._report is not None:
                    break
                await self._changed.wait()
        finally:
            self._leave()
        if self._source_error is not None:
            raise self._source_error

    def __repr__(self) -> str:
        state = "ended" if self._report else "running"
        return f"<FleetRun {self._action} {state}: {self._submitted} submitted, {len(self._outcomes)} done>"

    async def run(self) -> None:
        """Do it all; the client runs this in a task of its own."""
        try:
            with self._whole:
                async with anyio.create_task_group() as watching:
                    await self._submit_all(watching)
                    await self._skip_unasked()
                self._completed = not self._cancelled
        except Exception as error:  # noqa: BLE001 - R2 holds for faults of ours too, and the caller gets them
            _log.exception("%s broke", self._action)
            self._source_error = self._source_error or error
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()

    async def _wait(self) -> FleetReport:
        self._consumers += 1
        try:
            while self._report is None:
                await self._changed.wait()
        finally:
            self._leave()
        if self._source_error is not None:
            raise self._source_error
        return self._report

    def _leave(self) -> None:
        self._consumers -= 1
        if self._consumers == 0 and self._report is None:
            self.cancel(let_go=True)

    async def _submit_all(self, watching: TaskGroup) -> None:
        batches, incoming = anyio.create_memory_object_stream[_Batch]()
        async with anyio.create_task_group() as submitters, batches, incoming:
            for _ in range(_SUBMITTERS):
                submitters.start_soon(self._submit_batches, incoming.clone(), watching)
            incoming.close()
            with self._reading:
                await self._read_source(batches.send)
            batches.close()

    async def _read_source(self, send: Callable[[_Batch], Awaitable[None]]) -> None:
        try:
            if isinstance(self._source, AsyncIterable):
                await self._read_async(self._source, send)
            elif isinstance(self._source, Collection):
                await self._admit_all(self._source)
            else:
                for value in self._source:
                    await self._take_in(value, send)
        except Exception as error:  # noqa: BLE001 - the source's own fault; the caller gets it once all has ended
            self._source_error = _unwrapped(error)
        self._told_all = True
        while self._intake.ready:
            await self._flush(send)

    async def _read_async(self, source: AsyncIterable[str], send: Callable[[_Batch], Awaitable[None]]) -> None:
        ended = anyio.Event()
        async with anyio.create_task_group() as lingering:
            lingering.start_soon(self._flush_when_slow, send, ended)
            try:
                async for value in source:
                    await self._take_in(value, send)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                if is_cancelled(error):
                    raise
                self._source_error = error
                if isinstance(error, asyncio.CancelledError):
                    # Raised as it is, it would look as if the caller were cancelled.
                    self._source_error = FleetError("the source of ids was cancelled", code=None, server_ids=())
                    self._source_error.__cause__ = error
            # What lingers is on its way already: it is not cancelled, for it would be lost.
            ended.set()

    async def _admit_all(self, source: Collection[str]) -> None:
        for position, value in enumerate(source):
            self._admit(value)
            if position % _AT_A_TIME == 0:
                await anyio.lowlevel.checkpoint()

    async def _take_in(self, value: object, send: Callable[[_Batch], Awaitable[None]]) -> None:
        self._admit(value)
        self._taken += 1
        if self._intake.is_full:
            await self._flush(send)
        elif self._taken % _AT_A_TIME == 0:
            await anyio.lowlevel.checkpoint()

    async def _flush(self, send: Callable[[_Batch], Awaitable[None]]) -> None:
        ids = self._intake.take()
        if ids:
            batch = _Batch(ids)
            self._open.add(batch)
            await send(batch)

    async def _flush_when_slow(self, send: Callable[[_Batch], Awaitable[None]], ended: anyio.Event) -> None:
        while not ended.is_set():
            before = self._intake.admitted
            with anyio.move_on_after(_LINGER):
                await ended.wait()
                return
            if self._intake.admitted == before:
                await self._flush(send)

    def _admit(self, value: object) -> None:
        refused = self._intake.admit(value)
        if refused is not None:
            name, error = refused
            self._conclude(name, OutcomeState.SKIPPED, error=error)

    async def _submit_batches(self, incoming: ObjectReceiveStream[_Batch], watching: TaskGroup) -> None:
        async with incoming:
            async for batch in incoming:
                await self._submit_batch(batch, watching)

    async def _submit_batch(self, batch: _Batch, watching: TaskGroup) -> None:
        def asked() -> None:
            if batch.started is None:
                batch.started = self._clock.now()
                self._submitted += len(batch.ids)
            batch.asked += 1
            batch.in_doubt = True

        def refused() -> None:
            batch.in_doubt = False
            if self._cancelled:
                batch.scope.cancel()

        accepted = False
        try:
            with batch.scope:
                if self._cancelled:
                    return
                job = await self._submit(batch.ids, asked, refused)
                accepted = True
                self._accepted += 1
                watching.start_soon(self._watch, job, batch)
        except ClientClosedError as error:
            self._conclude_batch(batch, batch.fate, error)
        except BmsError as error:
            # What never left, for want of a token for instance, was not asked for.
            judged = batch.in_doubt or (isinstance(error, CallError) and batch.asked > 0)
            self._conclude_batch(batch, judge_refusal(error, len(batch.ids)) if judged else batch.fate, error)
        except Exception as error:  # noqa: BLE001 - credentials may raise anything, and this is but one batch of many
            _log.exception("%s: a batch broke", self._action)
            self._source_error = self._source_error or error
        finally:
            if not accepted:
                self._conclude_batch(batch, batch.fate)

    async def _watch(self, job: JobHandle, batch: _Batch) -> None:
        error: BmsError | None = None
        try:
            async for sub in job.sub_jobs():
                if sub.server_id is None:
                    continue
                state, why = judge_sub_job(sub, sub.server_id, job.id, asked=batch.asked)
                self._conclude(sub.server_id, state, batch=batch, job_id=job.id, sub_job_id=sub.job_id, error=why)
            error = JobLostError(
                f"job {job.id} ended without telling of this server; read its own state", job_id=job.id, job=None
            )
        except BmsError as lost:
            error = lost
        finally:
            self._conclude_batch(batch, OutcomeState.UNKNOWN, error, job_id=job.id)

    def _conclude_batch(
        self, batch: _Batch, state: OutcomeState, error: BmsError | None = None, *, job_id: str | None = None
    ) -> None:
        for server_id in batch.ids:
            self._conclude(server_id, state, batch=batch, job_id=job_id, error=error)
        self._open.discard(batch)

    def _conclude(
        self,
        server_id: str,
        state: OutcomeState,
        *,
        batch: _Batch | None = None,
        job_id: str | None = None,
        sub_job_id: str | None = None,
        error: BmsError | None = None,
    ) -> None:
        if not self._intake.settle(server_id):
            return
        outcome = Outcome(
            server_id=server_id,
            state=state,
            job_id=job_id,
            sub_job_id=sub_job_id,
            error=error if state is not OutcomeState.UNCHANGED else None,
            attempts=batch.asked if batch else 0,
            started=batch.started if batch else None,
            ended=self._clock.now(),
        )
        self._outcomes.append(outcome)
        self._by_state[state] += 1
        if not state.is_good:
            self._by_code[reason_of(outcome)] += 1
        self._notify()

    async def _skip_unasked(self) -> None:
        """Once nothing more will be submitted, skip what was taken in and never came to the cloud."""
        for batch in [batch for batch in self._open if not batch.in_doubt]:
            self._conclude_batch(batch, batch.fate)
        while ids := self._intake.take():
            for server_id in ids:
                self._conclude(server_id, OutcomeState.SKIPPED)
            await anyio.lowlevel.checkpoint()

    async def _finish(self) -> None:
        if not self._completed and isinstance(self._source, Collection):
            # All of a collection was handed over, also what was not come to.
            try:
                await self._admit_all(self._source)
            except Exception as error:  # noqa: BLE001 - what it gave before has its outcomes, and the caller is told
                self._source_error = self._source_error or error
        await self._skip_unasked()
        for batch in tuple(self._open):
            self._conclude_batch(batch, batch.fate)
            await anyio.lowlevel.checkpoint()
        self._told_all = True
        # Whoever keeps the run does not keep its source open.
        self._source = ()
        self._report = FleetReport(
            action=self._action,
            outcomes=self._outcomes,
            by_state=MappingProxyType(self._by_state),
            by_code=MappingProxyType(dict(self._by_code.most_common())),
            batches=self._accepted,
            cancelled=not self._completed,
            started=self._clock.began,
            ended=self._clock.now(),
        )
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class _Clock:
    """Tells the time of day by the loop's clock, so that a run's times fit together even when the day's is set."""

    __slots__ = ("_began_at", "_last", "began")

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self._began_at = anyio.current_time()
        self._last = (self._began_at, self.began)

    def now(self) -> datetime:
        at = anyio.current_time()
        if at - self._last[0] > 0.001:  # noqa: PLR2004 - outcomes of one poll share one object
            self._last = (at, self.began + timedelta(seconds=at - self._began_at))
        return self._last[1]


def _unwrapped(error: Exception) -> Exception:
    """Return the source's own error, which a task group may have wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
