"""A scenario: processes that share an account, the gateway that judges them, and what is done to them meanwhile.

All scenarios of a file are played at once, each with an account, a gateway and processes of its own, because nearly all
of their time is waiting. What a scenario waits for is something that is said or counted, never a time.

A guarded scenario is over when all of its processes have made their calls. A control, which does without one guard, is
over with the first refusal: its window and its timeout are of a real length, so that until then nothing has come back
and nothing was late, however slow the machine is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

import msgspec

from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.store import Store
from bms_async.limits.shared.stores import find_store
from tests.limits.shared.failures._gateway import Gateway
from tests.limits.shared.failures._guards import Guard
from tests.limits.shared.failures._seen import Worker
from tests.limits.shared.failures._worker import OPERATION, Part, Said
from tests.support.listener import Listener
from tests.support.machine import patience
from tests.support.nursery import Nursery

LIMIT = 12
SHORT = Terms(window=3.0, lease=1.5, timeout=2.0)
LONG = Terms(window=60.0, lease=6.0, timeout=60.0)

_EACH = 9
"""Calls of a process; four of them fill three windows."""

_POLL = 0.05

_numbers = itertools.count(1)


class Scenario(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be played.

    Attributes:
        play: What is done.
        terms: The times of the account.
        without: The guard that the processes do without; None if they have all.
        is_control: Whether a refusal is expected, and ends it.
        limit: Calls a window.
        bound: The seconds within which it is over on an idle machine, several times over.
    """

    play: Callable[[Stage], Awaitable[None]]
    terms: Terms = SHORT
    without: Guard | None = None
    is_control: bool = False
    limit: int = LIMIT
    bound: float = 45.0


def guarded(play: Callable[[Stage], Awaitable[None]], *, limit: int = LIMIT) -> Scenario:
    return Scenario(play=play, limit=limit)


def control(
    play: Callable[[Stage], Awaitable[None]],
    *,
    without: Guard | None = None,
    terms: Terms = LONG,
    limit: int = LIMIT,
) -> Scenario:
    return Scenario(play=play, terms=terms, without=without, is_control=True, limit=limit, bound=25.0)


class Stage:
    """Where a scenario is played, open inside its context.

    Attributes:
        gateway: The judge.
        workers: The processes by name.
    """

    def __init__(self, scenario: Scenario, nursery: Nursery[Part]) -> None:
        self._scenario, self._nursery = scenario, nursery
        self._account = f"account-{os.getpid()}-{next(_numbers)}"
        self._control = Listener(self._hear)
        terms = scenario.terms
        # As 20 to 300 ms are to a minute.
        latency = (0.02 * terms.window / 60, 0.3 * terms.window / 60) if not scenario.is_control else (0.001, 0.02)
        self.gateway = Gateway(limit=scenario.limit, window=terms.window, latency=latency)
        self.changes = self.gateway.changes
        self.workers: dict[str, Worker] = {}
        self.is_control = scenario.is_control

    def __str__(self) -> str:
        calls = {worker.name: (worker.calls, dict(worker.said)) for worker in self.workers.values()}
        return f"{self.gateway}; {calls}"

    async def __aenter__(self) -> Self:
        await self.gateway.__aenter__()
        await self._control.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.kill()
        await self._control.__aexit__()
        await self.gateway.__aexit__()

    async def begin(
        self,
        name: str,
        store: str,
        *,
        calls: int = _EACH,
        callers: int = 6,
        clock: str = "",
        act: str = "",
    ) -> Worker:
        """Begin a process; return it when it is connected to its store."""
        worker = self._worker(name)
        scenario = self._scenario
        part = Part(
            name=name,
            store=store,
            account=self._account,
            terms=scenario.terms,
            limit=scenario.limit,
            reserve=0 if act else 1,
            gateway=self.gateway.port,
            interactive=calls if act else calls - calls // 3,
            bulk=0 if act else calls // 3,
            callers=callers,
            without=scenario.without,
            clock=clock,
            act=act,
        )
        self._nursery.begin(part, self._control.port)
        await worker.until("ready")
        return worker

    async def begin_four(
        self, store: str, *, calls: int = _EACH, callers: int = 6, clock: str = "", act: str = ""
    ) -> list[Worker]:
        """Begin four processes, which have the account to themselves; they make calls from now on.

        One that is not answered goes ahead, so that calls of it are under way when the others begin.
        """
        await self.open_account(store)
        workers = await asyncio.gather(
            *(
                self.begin(name, store, calls=calls, callers=callers, clock=clock, act=act)
                for name in ("one", "two", "three", "four")
            )
        )
        for worker in workers:
            worker.go()
            if worker.name in self.gateway.withheld:
                await self.changes.until(partial(self._has_calls_under_way, worker))
        return list(workers)

    def _has_calls_under_way(self, worker: Worker) -> bool:
        return self.gateway.arrived[worker.name] >= 2

    async def until_begun(self, name: str) -> Worker:
        """Wait until a process that another one has begun is connected to its store."""
        worker = self._worker(name)
        await worker.until("ready")
        return worker

    async def until_arrived(self, calls: int) -> None:
        await self.changes.until(lambda: self.gateway.arrivals >= calls)

    async def until_all(self, what: str, *, once_more: bool = False) -> None:
        """Wait until each process that is not over has said it, or has said it once more from now on."""
        times = {one: one.count(what) + 1 if once_more else 1 for one in self.workers.values()}
        await self.changes.until(lambda: all(one.is_over or one.count(what) >= times[one] for one in times))

    async def until_over(self) -> None:
        await self.changes.until(lambda: all(worker.is_over for worker in self.workers.values()))

    async def open_account(self, store: str) -> None:
        """Vouch that no earlier call counts, as an operator does at the first use, or by mistake."""
        async with _opened(store) as opened:
            await opened.open_account(self._account)

    async def until_forgotten(self, worker: Worker, store: str) -> None:
        """Wait until the ledger has ended a process's lease."""
        async with _opened(store) as opened:
            while True:
                usage = await opened.read(self._account)
                ledger = usage.ledgers.get(OPERATION)
                ends = [] if ledger is None else [one.ends for one in ledger.holders if one.id == worker.holder]
                if all(one <= usage.now for one in ends):
                    return
                await asyncio.sleep(_POLL)

    def _worker(self, name: str) -> Worker:
        if name not in self.workers:
            self.workers[name] = Worker(name, self.changes)
        return self.workers[name]

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            said = msgspec.json.decode(line, type=Said)
            self._worker(said.name).hear(said, writer)
            self.changes.tell()


async def eventually(check: Callable[[], bool]) -> None:
    """Wait until something is so that nobody says."""
    while not check():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(_POLL)


@asynccontextmanager
async def _opened(address: str) -> AsyncIterator[Store]:
    store = find_store("store", address)()
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


class Outcome(msgspec.Struct, frozen=True):
    """What came of a scenario.

    Attributes:
        refused: How many calls were refused.
        answered: How many calls were answered and not refused, of processes that were not killed.
        busiest: How many calls the busiest window held.
        summary: All that was seen, for people.
        error: Why it did not come to its end; empty if it did.
    """

    refused: int
    answered: int
    busiest: int
    summary: str
    error: str = ""


_MORE_PLAYS = 2
"""How often a control is played again that showed no harm."""


async def play_all(scenarios: Mapping[str, Scenario], nursery: Nursery[Part]) -> dict[str, Outcome]:
    """Play scenarios at once."""
    outcomes = await asyncio.gather(*(_play_until_shown(scenario, nursery) for scenario in scenarios.values()))
    return dict(zip(scenarios, outcomes, strict=True))


async def _play_until_shown(scenario: Scenario, nursery: Nursery[Part]) -> Outcome:
    """Play a scenario; a control that shows no harm is played again, for whether it does is a matter of chance."""
    outcome = await play(scenario, nursery)
    for _ in range(_MORE_PLAYS if scenario.is_control else 0):
        if outcome.refused:
            break
        outcome = await play(scenario, nursery)
    return outcome


async def play(scenario: Scenario, nursery: Nursery[Part]) -> Outcome:
    """Play one scenario."""
    error = ""
    async with Stage(scenario, nursery) as stage:
        played = asyncio.ensure_future(scenario.play(stage))
        ends = [played]
        if scenario.is_control:
            ends.append(asyncio.ensure_future(stage.changes.until(lambda: stage.gateway.refused > 0)))
        try:
            await asyncio.wait(ends, timeout=patience(scenario.bound), return_when=asyncio.FIRST_COMPLETED)
            if not any(end.done() for end in ends):
                error = "it did not come to its end"
            elif played.done() and (failure := played.exception()) is not None:
                error = f"{type(failure).__name__}: {failure}"
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait(ends, timeout=patience(10.0))
        gateway, answered = stage.gateway, sum(worker.calls for worker in stage.workers.values())
        return Outcome(gateway.refused, answered, gateway.busiest, str(stage), error)
