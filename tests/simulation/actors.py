"""The users of a scenario: what they do, when they leave, and what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from bms_async import (
    BmsClient,
    BmsError,
    ClientClosedError,
    FleetError,
    FleetRun,
    ForeignCodeError,
    Job,
    JobHandle,
    Outcome,
    Runs,
    SubJob,
)
from bms_async.fleet.source import ServerRef
from bms_async.models.ids import canonical_id
from bms_async.testing import suspend
from tests.simulation.foreign import ForeignFault, Raiser
from tests.simulation.ledger import RecordingCloud
from tests.simulation.network import Network
from tests.simulation.reconciling import Reconciled, reconcile
from tests.simulation.rollouts import as_listed, make_call, rollout_of
from tests.simulation.scenario import (
    Call,
    Close,
    Consumer,
    Deed,
    Listen,
    Read,
    Rename,
    Revoke,
    RunFleet,
    Scenario,
    Suspend,
)
from tests.simulation.wants import Reconcile, WishMany
from tests.simulation.wishing import Wished, wish_many
from tests.simulation.workers import KeptFleet, Workers
from tests.simulation.world_time import world_time

_LOOK = 3.0
"""Seconds between two looks at a run that nobody may be seen to wait for."""
_LOOKS = 60
"""How many looks after its begin are at its progress too; one of so many is later."""

UNFIT = ("no/such id", "")


@dataclass(slots=True)
class Evidence:
    """What somebody saw of a run: its outcomes, and whether he stayed to the end."""

    outcomes: list[Outcome] = field(default_factory=list)
    stayed: bool = False
    raised: BaseException | None = None


@dataclass(slots=True)
class RanFleet:
    """A fleet run, and what was told of it.

    Attributes:
        handed: The ids in the order in which they were handed over.
        given: How many of them the source had given when the run ended.
        raiser: What has a callback or the source break.
        pauses: When it was paused.
        returned: What the call for a server returned, by server.
    """

    deed: RunFleet
    handed: list[str]
    began: float
    run: FleetRun | KeptFleet | None = None
    ended: float | None = None
    given: int = 0
    cancelled_at: float | None = None
    told_back: list[str] = field(default_factory=list)
    seen: list[Evidence] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    raiser: Raiser = field(default_factory=lambda: Raiser(None))
    pauses: list[tuple[float, float]] = field(default_factory=list)
    returned: dict[str, Any] = field(default_factory=dict)

    @property
    def outcomes(self) -> list[Outcome]:
        report = None if self.run is None else self.run.report
        return [] if report is None else list(report.outcomes)

    @property
    def timed_out(self) -> bool:
        """Whether its report says that its time was over."""
        report = None if self.run is None else self.run.report
        return report is not None and report.timed_out

    @property
    def may_be_let_go(self) -> bool:
        """Whether somebody may have seen to it that what was asked for is not watched to its end."""
        return self.cancelled_at is not None and self.deed.let_go


@dataclass(slots=True)
class Waited:
    """Somebody who waited for a job, and what he got."""

    consumer: Consumer
    futures: dict[str, asyncio.Future[SubJob]] = field(default_factory=dict)
    subs: list[SubJob] = field(default_factory=list)
    job: Job | None = None
    error: BaseException | None = None
    left: bool = False
    ended: float | None = None


@dataclass(slots=True)
class Called:
    """One power call, and its waiters."""

    deed: Call
    servers: list[str]
    began: float
    handle: JobHandle | None = None
    error: BmsError | None = None
    waited: list[Waited] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """Somebody who subscribed to events, and what he heard before he left or the client was closed."""

    deed: Listen
    events: list[Any] = field(default_factory=list)
    began: float = 0.0
    was_closed: bool = False


@dataclass(slots=True)
class Done:
    """All that users did and were told; `surprises` are errors that nobody should get."""

    runs: list[RanFleet] = field(default_factory=list)
    calls: list[Called] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    wished: list[Wished] = field(default_factory=list)
    reconciled: list[Reconciled] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    closed_at: float | None = None
    surprises: list[str] = field(default_factory=list)
    whole: bool = False


def deed_reads(deed: RunFleet) -> bool:
    """Whether a run has to read its servers before it begins."""
    return deed.walk is not None and deed.walk.needs_servers


class Deeds:
    """Does what the users of a scenario do."""

    def __init__(
        self,
        scenario: Scenario,
        cloud: RecordingCloud,
        bms: BmsClient,
        network: Network,
        workers: Workers | None,
        make: Callable[[Runs], BmsClient],
    ) -> None:
        self._scenario = scenario
        self._cloud = cloud
        self._bms = bms
        self._network = network
        self._workers = workers
        self._make = make
        self._ids = list(cloud.servers)
        self.done = Done()
        self.most_tasks = 0

    async def do_all(self) -> None:
        """Do it all, and wait until everybody has been told what he waited for."""
        async with anyio.create_task_group() as users:
            for deed in self._scenario.deeds:
                users.start_soon(self._do, deed)
            if self._workers is not None:
                for death in self._scenario.deaths:
                    users.start_soon(self._workers.die, death, world_time)
        self.done.whole = True

    async def _do(self, deed: Deed) -> None:
        await anyio.sleep(deed.at)
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        try:
            match deed:
                case RunFleet():
                    await self._run(deed)
                case Call():
                    await self._call(deed)
                case Read():
                    await self._read(deed)
                case Rename():
                    await self._rename(deed)
                case Listen():
                    await self._listen(deed)
                case WishMany():
                    await wish_many(self._bms, deed, self._pick(deed.first, deed.count), self.done.wished)
                case Reconcile():
                    servers = self._pick(deed.first, deed.count)
                    await reconcile(
                        self._scenario, deed, self._bms, self._cloud, servers, self.done.reconciled, self._make
                    )
                case Revoke():
                    self._cloud.revoke_tokens()
                case Suspend():
                    suspend(deed.seconds)
                case Close():
                    self.done.closed_at = world_time()
                    await self._bms.aclose()
        except Exception as error:  # noqa: BLE001 - it is what the harness looks for
            self.done.surprises.append(f"{deed}: {error!r}")

    def _pick(self, first: int, count: int, step: int = 1) -> list[str]:
        return self._ids[first : first + count : step]

    async def _run(self, deed: RunFleet) -> None:
        ids = self._pick(deed.first, deed.count, deed.step)
        ids += UNFIT[: deed.odd] + tuple(ids[: deed.odd])
        ids += [f"no-such-server-{number}" for number in range(deed.unknown)]
        if deed.spelling == "both":
            ids = [server_id for server_id in ids for _ in range(2)]
        ran = RanFleet(deed, ids, world_time(), raiser=Raiser(deed.foreign))
        self.done.runs.append(ran)
        ran.options = self._options(deed, ran)
        if deed.durable is not None and self._workers is not None:
            await self._run_durably(self._workers, deed, ran)
            return
        try:
            ran.run = run = self._start(deed, ran)
        except ClientClosedError:
            return
        async with anyio.create_task_group() as users:
            for consumer in deed.consumers:
                users.start_soon(self._consume, run, ran, consumer)
            if deed.cancel_after is not None:
                users.start_soon(self._cancel, run, ran, deed.cancel_after)
            for after, seconds in deed.pauses:
                users.start_soon(self._pause, run, ran, after, seconds)
            looks = 0
            while run.report is None:
                await anyio.sleep(_LOOK)
                looks += 1
                # Whoever looks is told something at any time. Runs of many hours are looked at as often in all.
                if looks <= _LOOKS or looks % _LOOKS == 0:
                    str(run.progress)
                    self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
            ran.ended = world_time()

    async def _run_durably(self, workers: Workers, deed: RunFleet, ran: RanFleet) -> None:
        key = f"run {len(self.done.runs)}"
        try:
            ran.run = run = await workers.begin(deed, key, self._source(deed, ran), ran.options)
        except (ClientClosedError, ForeignFault, ForeignCodeError):
            return
        except BmsError:
            # Its servers could not be read, which the rules judge.
            if not deed_reads(deed):
                raise
            return
        # Nothing is sent while the source is read.
        ran.began = world_time()
        async with anyio.create_task_group() as users:
            for consumer in deed.consumers:
                users.start_soon(self._consume, run, ran, consumer)
            if deed.cancel_after is not None:
                users.start_soon(self._cancel, run, ran, deed.cancel_after)
            if deed.durable is not None and deed.durable.pause_after is not None:
                users.start_soon(self._pause, run, ran, deed.durable.pause_after, deed.durable.pause)
            run.report = await run
            self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
            ran.ended = world_time()

    def _start(self, deed: RunFleet, ran: RanFleet) -> FleetRun:
        source = self._source(deed, ran)
        if deed.is_each:
            return self._bms.fleet.each(source, make_call(self._bms, deed, ran), action=deed.action, **ran.options)
        fleet = self._bms.nova.fleet if deed.native else self._bms.fleet
        start: Callable[..., FleetRun] = getattr(fleet, deed.action)
        return start(source, **ran.options)

    async def _pause(self, run: FleetRun | KeptFleet, ran: RanFleet, after: float, seconds: float) -> None:
        await anyio.sleep(after)
        if isinstance(run, KeptFleet):
            await run.run.pause()
        elif run.report is None:
            run.pause()
        else:
            return
        began = world_time()
        await anyio.sleep(seconds)
        ran.pauses.append((began, world_time()))
        if isinstance(run, KeptFleet):
            await run.run.resume()
        else:
            run.resume()

    def _options(self, deed: RunFleet, ran: RanFleet) -> dict[str, Any]:
        """Return the options that were drawn, with callbacks that note what they are called with."""
        breaks = None if deed.foreign is None else deed.foreign.where

        def note(outcome: Outcome) -> None:
            ran.told_back.append(outcome.server_id)
            if breaks == "on_outcome":
                ran.raiser.call()

        async def note_later(outcome: Outcome) -> None:
            await anyio.sleep(0.01)
            note(outcome)

        async def save(_: JobHandle) -> None:
            await anyio.sleep(0.01)
            ran.raiser.call()

        drawn = deed.options
        options: dict[str, Any] = {
            "wave_size": drawn.wave_size,
            "abort_above": drawn.abort_above,
            "abort_sample": None if drawn.abort_above is None else drawn.abort_sample,
            "verify": drawn.verify or None,
            "retry_transient": drawn.retry_transient,
            "on_outcome": {"sync": note, "async": note_later}.get(
                drawn.on_outcome or ("async" if breaks == "on_outcome" else "")
            ),
            "on_job": save if breaks == "on_job" else None,
            "total_timeout": drawn.total_timeout,
        }
        if deed.walk is not None:
            options |= {"abort_above": None, "abort_sample": None}
            options["rollout"] = rollout_of(deed.walk, deed, ran, self._cloud)
        return {name: value for name, value in options.items() if value is not None}

    def _source(self, deed: RunFleet, ran: RanFleet) -> Iterable[ServerRef] | AsyncIterator[ServerRef]:
        breaks = deed.foreign is not None and deed.foreign.where == "source"

        def in_capitals(number: int) -> bool:
            return deed.spelling == "capitals" or (deed.spelling == "both" and number % 2 == 0)

        def give() -> Iterable[ServerRef]:
            came: set[str] = set()
            for number, server_id in enumerate(ran.handed):
                if breaks:
                    ran.raiser.call()
                ran.given += 1
                # Who names a server twice may well write it in two ways.
                written = server_id.upper() if in_capitals(number) or server_id in came else server_id
                came.add(server_id)
                if deed.as_servers and server_id in self._cloud.born_with:
                    yield as_listed(self._cloud, server_id)
                    continue
                # What is not a UUID is another id in capitals.
                yield written if canonical_id(written) == server_id else server_id

        async def give_slowly() -> AsyncIterator[ServerRef]:
            for server_id in give():
                yield server_id
                await anyio.sleep(deed.pause)

        if deed.source == "list" and not breaks:
            return list(give())
        return give_slowly() if deed.source == "slow" else give()

    async def _cancel(self, run: FleetRun | KeptFleet, ran: RanFleet, after: float) -> None:
        await anyio.sleep(after)
        if run.report is None:
            ran.cancelled_at = world_time()
        if isinstance(run, KeptFleet):
            await run.cancel()
            return
        run.cancel(detach=ran.deed.let_go)

    async def _consume(self, run: FleetRun | KeptFleet, ran: RanFleet, consumer: Consumer) -> None:
        seen = Evidence()
        ran.seen.append(seen)
        try:
            with anyio.move_on_after(consumer.leaves_after):
                if consumer.kind == "await":
                    seen.outcomes = list((await run).outcomes)
                else:
                    async for outcome in run:
                        seen.outcomes.append(outcome)
                seen.stayed = True
        except (ForeignFault, BmsError, SystemExit) as error:
            is_own = isinstance(error, ForeignFault | FleetError | ForeignCodeError | SystemExit)
            # A rollout whose servers cannot be read is not begun.
            may_be_unread = deed_reads(ran.deed) and not is_own
            if not (may_be_unread or (is_own and (ran.raiser.raised or self._scenario.foreign))):
                raise
            # It comes once all has ended.
            seen.stayed, seen.raised = True, error
            seen.outcomes = ran.outcomes

    async def _call(self, deed: Call) -> None:
        servers = self._pick(deed.first, deed.count)
        called = Called(deed, servers, world_time())
        self.done.calls.append(called)
        ask: Callable[[list[str]], Awaitable[JobHandle]] = getattr(self._bms.servers, deed.action)
        try:
            called.handle = handle = await ask(servers)
        except BmsError as error:
            called.error = error
            return
        except ForeignFault:
            return
        async with anyio.create_task_group() as users:
            for consumer in deed.waiters:
                users.start_soon(self._wait, called, handle, consumer)

    async def _wait(self, called: Called, handle: JobHandle, consumer: Consumer) -> None:
        waited = Waited(consumer)
        called.waited.append(waited)
        try:
            if called.deed.restored:
                handle = self._bms.jobs.restore(handle.to_json())
            for server_id in called.servers[: called.deed.asked]:
                waited.futures[server_id] = handle.sub_job(server_id)
            with anyio.move_on_after(consumer.leaves_after) as scope:
                if consumer.kind == "await":
                    waited.job = await handle
                else:
                    async for sub in handle.sub_jobs():
                        waited.subs.append(sub)
            waited.left = scope.cancelled_caught
        except (BmsError, asyncio.CancelledError) as error:
            waited.error = error
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
        finally:
            waited.ended = world_time()
            if waited.left:
                # Who leaves takes his own futures with him, and nobody else's.
                for future in waited.futures.values():
                    future.cancel()

    async def _read(self, deed: Read) -> None:
        with anyio.move_on_after(deed.leaves_after):
            try:
                if deed.what == "get":
                    await self._bms.servers.get(self._ids[deed.server])
                else:
                    self.done.lists.append([server.id async for server in self._bms.servers.list()])
                self.done.reads.append("answered")
            except (BmsError, ForeignFault) as error:
                self.done.reads.append(type(error).__name__)

    async def _rename(self, deed: Rename) -> None:
        try:
            await self._bms.servers.rename(self._ids[deed.server], f"renamed-at-{deed.at:g}")
            self.done.reads.append("renamed")
        except (BmsError, ForeignFault) as error:
            self.done.reads.append(type(error).__name__)

    async def _listen(self, deed: Listen) -> None:
        heard = Heard(deed, began=world_time())
        self.done.heard.append(heard)
        try:
            with anyio.move_on_after(deed.leaves_after):
                async with self._bms.jobs.events(max_buffer_size=deed.limit) as events:
                    async for event in events:
                        heard.events.append(event)
                        await anyio.sleep(deed.pause)
        except ClientClosedError:
            heard.was_closed = True
