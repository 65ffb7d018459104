"""A scenario: workers that carry on one run, the cloud that judges them, and what is done to them meanwhile.

Scenarios are played several at once, each with a journal, a cloud and processes of its own, because nearly all of their
time is waiting.

What may be UNKNOWN is known beforehand: a worker says which batch it is about to mark as sent, and again once the
answer is written down. What was said once and not twice is what only a dead process could know.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeAlias
from unittest.mock import patch

import msgspec

from bms_async import BmsClient, FleetReport, Limits, Outcome, Rollout, StaticToken
from bms_async.limits.shared.stores import find_store
from bms_async.runs import Runs, options
from bms_async.runs import run as reading
from bms_async.simulator import ScriptedFault, Throttled
from bms_async.simulator.core.availability import most_away
from bms_async.simulator.core.faults import Script
from bms_async.simulator.core.servers import PowerAction
from tests.runs.failures._gateway import Gateway, Window
from tests.runs.failures._guards import Guard
from tests.runs.failures._points import Fate, Points
from tests.runs.failures._times import SHORT, Times, cloud_of
from tests.runs.failures._worker import ACCOUNT, Budget, Part, Said
from tests.support.changes import Changes
from tests.support.listener import Listener
from tests.support.machine import patience
from tests.support.nursery import Nursery
from tests.support.seen import SeenProcess

_IN_THE_WAY: Mapping[str, PowerAction] = {"reboot": "stop", "stop": "reboot", "start": "reboot"}
"""What somebody else does to servers meanwhile, so that they are busy."""


_POLL = 0.05


class Scenario(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be played.

    Attributes:
        journal: The address of the journal.
        action: What the run does.
        seed: What the cloud is drawn from.
        servers: How many there are.
        batch: How many of them a batch has.
        wave: How many may be in flight at once; None for no bound.
        away: How many may be away at once, by a rollout; None for a run without one.
        busy: How many are busy with something else when they are asked first.
        refusals: Which power calls are refused although there is no limit, the first being 1.
        fates: What happens at which passage of which point.
        play: What is done besides; None for nothing.
        without: The guard that the workers do without; None if they have all.
        times: The times that they go by.
        workers: How many there are at once.
        budget: The limits that they share; None for none.
        withholds: Whether nobody is answered while a process stands still.
        bound: The seconds within which it is over on an idle machine, several times over.
    """

    journal: str
    action: PowerAction = "reboot"
    seed: int = 0
    servers: int = 160
    batch: int = 8
    wave: int | None = None
    away: int | None = None
    busy: int = 0
    refusals: tuple[int, ...] = ()
    fates: Mapping[str, Mapping[int, Fate]] = {}
    play: Callable[[Stage], Awaitable[None]] | None = None
    without: Guard | None = None
    times: Times = SHORT
    workers: int = 3
    budget: Budget | None = None
    withholds: bool = False
    bound: float = 60.0


class Result(msgspec.Struct, kw_only=True):
    """What came of a scenario.

    Attributes:
        outcomes: The outcomes of the run's report.
        servers: All servers.
        obeyed: How often each server has done what the run asked for, by the cloud's books.
        wanted: The servers that are as asked in the end.
        doubtful: The servers of batches whose answer only a dead process could have known.
        passed: The points at which somebody died or stood still.
        crowded: Jobs with more than one poll in flight, although no process stood still and none of these was slow.
        very_crowded: Jobs with more than two.
        refused: Calls that were refused by the limit.
        takeovers: Seconds from the death of a job's worker to the next poll.
        deaths: How many workers were killed.
        away: How many servers were away at once, at most, by the cloud's books.
        seconds: How long it took.
        error: Why it did not come to its end; empty if it did.
    """

    outcomes: list[Outcome] = []
    servers: list[str] = []
    obeyed: Counter[str] = msgspec.field(default_factory=Counter)
    wanted: set[str] = set()
    doubtful: set[str] = set()
    passed: set[str] = set()
    crowded: int = 0
    very_crowded: int = 0
    refused: int = 0
    takeovers: list[float] = []
    deaths: int = 0
    away: int = 0
    seconds: float = 0.0
    lease: float = 1.0
    error: str = ""

    @property
    def by_state(self) -> Counter[str]:
        return Counter(outcome.state.value for outcome in self.outcomes)

    @property
    def twice(self) -> int:
        """How many servers have obeyed more than once."""
        return sum(times > 1 for times in self.obeyed.values())

    def __str__(self) -> str:
        late = f", taken over within {max(self.takeovers) / self.lease:.2f} leases" if self.takeovers else ""
        return (
            f"{dict(self.by_state)} of {len(self.servers)} servers, {self.twice} twice, {self.deaths} workers killed"
            f"{late}, {self.refused} refused, {self.seconds:.1f} s; {self.error or 'came to its end'}"
        )


class Worker(SeenProcess):
    """A worker, as it is seen from here."""

    def __init__(self, name: str, changes: Changes) -> None:
        super().__init__(name, changes)
        self.has: set[int] = set()

    @property
    def is_over(self) -> bool:
        return super().is_over or self.has_said("dying")


class Stage:
    """Where a scenario is played, open inside its context.

    Attributes:
        scenario: What is played.
        gateway: The judge.
        workers: The processes by name.
    """

    def __init__(self, scenario: Scenario, nursery: Nursery[Part]) -> None:
        self.scenario, self._nursery = scenario, nursery
        self.changes = Changes()
        budget = scenario.budget
        self.gateway = Gateway(
            cloud_of(scenario.times, scenario.servers, scenario.seed, is_off=scenario.action == "start"),
            latency=scenario.times.latency,
            on_read=self._on_read,
            window=None if budget is None else Window(budget.calls, budget.terms.window),
            changes=self.changes,
            patience=scenario.times.margin,
        )
        self._control = Listener(self._hear)
        self.workers: dict[str, Worker] = {}
        self.stood: set[str] = set()
        self._in_doubt: dict[int, tuple[str, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._disturbed: set[str] = set()
        self._is_ending = False
        self.deaths = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bms_async-points-"))
        self._folder = Path(folder)
        self._reads = Points(self._folder, {}, _say_nothing)
        await self._stack.enter_async_context(self._control)
        await self._stack.enter_async_context(self.gateway)
        if self.scenario.budget is not None:
            await _open_account(self.scenario.budget.store)
        cloud = self.gateway.cloud
        operation = f"servers.{self.scenario.action}"
        cloud.faults.append(
            Script(ScriptedFault(operation=operation, nth=nth, fault=Throttled()) for nth in self.scenario.refusals)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        for worker in self.workers.values():
            worker.kill()
        await self._stack.aclose()

    async def play(self) -> FleetReport:
        """Have the run carried out, and return its report."""
        scenario, settings = self.scenario, self.gateway.cloud.settings
        async with BmsClient(
            endpoint=self.gateway.address,
            project_id=settings.project_id,
            auth=StaticToken(settings.token),
            limits=Limits(),
            runs=Runs(scenario.journal),
        ) as bms:
            begin = getattr(bms.runs, scenario.action)
            rollout = None if scenario.away is None else Rollout(max_unavailable=scenario.away)
            run = await begin(
                list(self.gateway.cloud.servers), key="tonight", detach=True, wave_size=scenario.wave, rollout=rollout
            )
            for _ in range(scenario.workers):
                self.begin()
            if scenario.play is not None:
                self._start(scenario.play(self))
            report: FleetReport = await run
        self._is_ending = True
        # What still stands has nothing to hand back that anybody waits for.
        for worker in self.workers.values():
            if worker.pid and not worker.is_over:
                worker.go()
        await self.changes.until(lambda: all(worker.is_over for worker in self.workers.values()))
        return report

    def begin(self, *, locks_the_file: bool = False) -> Worker:
        """Begin a process."""
        scenario, settings = self.scenario, self.gateway.cloud.settings
        worker = Worker(f"worker-{len(self.workers) + 1}", self.changes)
        self.workers[worker.name] = worker
        part = Part(
            name=worker.name,
            journal=scenario.journal,
            endpoint=self.gateway.address,
            project=settings.project_id,
            token=settings.token,
            times=scenario.times,
            operation=f"servers.{scenario.action}",
            batch=scenario.batch,
            points=str(self._folder),
            fates={point: dict(fates) for point, fates in scenario.fates.items()},
            without=scenario.without,
            budget=scenario.budget,
            act="locks the file" if locks_the_file else "",
        )
        self._nursery.begin(part, self._control.port)
        return worker

    async def until_obeyed(self, servers: int) -> None:
        """Wait until so many servers were asked."""
        await self.changes.until(lambda: len(self.gateway.cloud.obeyed) >= servers)

    def result(self, report: FleetReport | None, seconds: float, error: str) -> Result:
        """Return what came of it."""
        gateway, scenario = self.gateway, self.scenario
        wanted = "SHUTOFF" if scenario.action == "stop" else "ACTIVE"
        passed = {path.name for path in self._folder.iterdir()} if self._folder.exists() else set()
        crowded = {job for job, polls in gateway.most_polls.items() if polls > 1}
        return Result(
            outcomes=[] if report is None else list(report.outcomes),
            servers=list(gateway.cloud.servers),
            obeyed=gateway.cloud.obeyed,
            wanted={server.id for server in gateway.cloud.servers.values() if server.status == wanted},
            doubtful={server_id for ids in self._in_doubt.values() for server_id in ids},
            passed={
                point
                for point, fates in scenario.fates.items()
                if any(f"{point}.{number}" in passed for number in fates)
            },
            crowded=sum(self.stood.isdisjoint(gateway.pollers[job]) for job in crowded - gateway.slow_polls),
            very_crowded=sum(gateway.most_polls[job] > 2 for job in crowded),
            refused=gateway.refused,
            takeovers=gateway.takeovers,
            deaths=self.deaths,
            away=sum(
                most.servers for most in most_away(gateway.cloud.availability.absences(), lambda _: "all").values()
            ),
            seconds=seconds,
            lease=scenario.times.lease,
            error=error,
        )

    def _on_read(self, name: str, ids: list[str]) -> None:
        if len(self._disturbed) < self.scenario.busy and ids[0] not in self._disturbed:
            # Now, so that it is busy when the cloud looks at it.
            self._disturbed.add(ids[0])
            self.gateway.cloud.interfere(_IN_THE_WAY[self.scenario.action], ids[:1])
        fates = self.scenario.fates.get("read")
        if fates is not None and fates.get(self._reads.count("read")) is not None and name in self.workers:
            self.workers[name].kill()
            self._lose(name)

    def _lose(self, name: str) -> None:
        self.gateway.lose(name)
        self.deaths += 1
        if not self._is_ending:
            self.begin()

    def _start(self, what: Awaitable[None]) -> None:
        async def do() -> None:
            await what

        task = asyncio.create_task(do())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            said = msgspec.json.decode(line, type=Said)
            worker = self.workers[said.name]
            worker.note(said, writer)
            if said.what == "has":
                worker.has.add(said.number)
            elif said.what == "sending":
                self._in_doubt[said.number] = said.ids
            elif said.what in ("watching", "refused"):
                self._in_doubt.pop(said.number, None)
            elif said.what == "dying":
                self._lose(said.name)
            elif said.what in ("lost", "late"):
                self.stood.add(said.name)
            elif said.what == "standing" and said.point != "locking":
                self.stood.add(said.name)
                self._start(self._resume(worker, said.number))
            elif said.what == "ready" and self._is_ending:
                worker.go()
            self.changes.tell()

    async def _resume(self, worker: Worker, number: int) -> None:
        """Let a process go on once another one has what it had, or for other reasons nobody can."""

        def is_taken() -> bool:
            return any(number in other.has for other in self.workers.values() if other is not worker)

        if self.scenario.withholds:
            self.gateway.withheld |= self.workers.keys() - {worker.name}
        with suppress(TimeoutError):
            # It may stand in the middle of a transaction, for which all others wait then.
            await asyncio.wait_for(self.changes.until(is_taken), 2 * self.scenario.times.lease)
        while self.scenario.withholds and not self._has_ended(number):  # noqa: ASYNC110 - the cloud has no event
            await asyncio.sleep(_POLL)
        await worker.resume()
        if self.scenario.withholds:
            await worker.until("lost")
            self.gateway.withheld.clear()
            self.changes.tell()

    def _has_ended(self, number: int) -> bool:
        """Whether all servers of a batch, for which nobody has had an answer, have done what was asked for."""
        ids = self._in_doubt.get(number)
        servers = self.gateway.cloud.servers
        return ids is not None and all(servers[server_id].reboots for server_id in ids)


async def _open_account(address: str) -> None:
    """Vouch that no earlier call counts."""
    store = find_store("store", address)()
    await store.open()
    try:
        await store.open_account(ACCOUNT)
    finally:
        await store.aclose()


def _say_nothing(what: str, *, point: str = "", number: int = -1, ids: tuple[str, ...] = ()) -> None:
    """Say nothing: nobody dies here."""


Until: TypeAlias = Callable[[Stage], bool]


async def play(scenario: Scenario, nursery: Nursery[Part], *, until: Until | None = None) -> Result:
    """Play one scenario, to its end or until something is so."""
    error, report = "", None
    began = time.monotonic()
    async with Stage(scenario, nursery) as stage:
        played = asyncio.ensure_future(stage.play())
        ends: list[asyncio.Future[Any]] = [played]
        if until is not None:
            ends.append(asyncio.ensure_future(stage.changes.until(lambda: until(stage))))
        try:
            await asyncio.wait(ends, timeout=patience(scenario.bound), return_when=asyncio.FIRST_COMPLETED)
            if not any(end.done() for end in ends):
                error = "it did not come to its end"
            elif played.done():
                report = played.result()
        except Exception as failure:  # noqa: BLE001 - a test says what it was
            error = f"{type(failure).__name__}: {failure}"
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait(ends, timeout=patience(10.0))
        return stage.result(report, time.monotonic() - began, error)


async def play_all(
    scenarios: Mapping[str, Scenario], nursery: Nursery[Part], *, at_once: int, until: Mapping[str, Until] = {}
) -> dict[str, Result]:
    """Play scenarios, several at once.

    Args:
        scenarios: By name; their batches are of one size, which this process has to know too.
        nursery: What begins processes.
        at_once: How many at once.
        until: When those are over that need not come to their end.
    """
    results: dict[str, Result] = {}
    slots = asyncio.Semaphore(at_once)

    async def play_one(name: str) -> None:
        async with slots:
            results[name] = await play(scenarios[name], nursery, until=until.get(name))

    (batch,) = {scenario.batch for scenario in scenarios.values()}
    look = min(scenario.times.look for scenario in scenarios.values())
    with patch.object(options, "MAX_BATCH_SIZE", batch), patch.object(reading, "_LOOK_EVERY", look):
        async with asyncio.TaskGroup() as tasks:
            for name in scenarios:
                tasks.create_task(play_one(name))
    return results
