"""Whole runs that are drawn: processes that share a store, what befalls them, and what the gateway saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import NamedTuple

import anyio

from bms_async import WaitTooLongError
from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.messages import Answer, Question
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._processes import OPERATION, make_exchange, opened_state, worst_window
from tests.support.virtual_clock import run_virtually

LIMIT = 20
_CALLS = 30
_TROUBLE = 250.0
"""Seconds in which things go wrong; after that all is well, and every call has to end."""
_PATIENCE = 3000.0
_LONGEST_CALL = 40.0


class Judged(NamedTuple):
    """What came of a run.

    Attributes:
        worst: The most calls that any window held.
        served: How many calls were made.
        left: How many tasks were left when all was closed.
        hanging: How many calls did not end.
        busiest: The most questions that a process asked about one limit in a second.
        decreases: How often the statistics counted fewer calls than before.
        befell: What happened, for a failed test's text.
    """

    worst: int
    served: int
    left: int
    hanging: int
    busiest: int
    decreases: int
    befell: Sequence[str]


class CountedStore(MemoryStore):
    """A store that counts the questions of each second."""

    def __init__(self, state: MemoryState, delay: float) -> None:
        super().__init__(state, delay=delay)
        self.seconds: Counter[int] = Counter()

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        self.seconds[int(anyio.current_time())] += 1
        return await super().ask(account, questions)


class Process:
    """A process with a client of its own."""

    def __init__(self, run: Run, share: float | None) -> None:
        self._run = run
        self.store = CountedStore(run.state, run.draw.choice([0.0, 0.001, 0.02, 0.3]))
        self.exchange = make_exchange(self.store, without_store=share)
        self.limiter = self.exchange.make_limiter(OPERATION, LIMIT, reserve=0.1, binding=LoopBinding())
        self.calls: set[asyncio.Task[None]] = set()
        self.is_open = False
        self.counted = 0

    async def open(self) -> None:
        await self.exchange.open()
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False
        await self._end_calls()
        await self.exchange.aclose()

    async def die(self) -> None:
        """End without a word; what it has sent is under way."""
        self.is_open = False
        await self.exchange._tasks.aclose()
        await self._end_calls()

    def call(self) -> None:
        task = asyncio.ensure_future(self._call())
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)

    def look(self) -> None:
        calls = self.limiter.statistics().calls
        # A slot that is handed back was none for a call.
        self._run.decreases += calls + self._run.refunds < self.counted
        self.counted = calls
        self.limiter.snapshot()
        repr(self.limiter)

    async def _call(self) -> None:
        run, draw = self._run, self._run.draw
        lane = draw.choice([Lane.INTERACTIVE, Lane.BULK])
        max_wait = draw.choice([None, None, None, 5.0, 100.0])
        try:
            slot = await self.limiter.acquire(lane, max_wait=max_wait)
        except WaitTooLongError:
            return
        if draw.random() < 0.1:
            run.refunds += 1
            slot.refund()
            return
        await asyncio.sleep(draw.choice([0.0, 0.0, 0.0, 3.0, 20.0]))
        if not slot.is_valid():
            slot.release()
            return
        wire = draw.choice([0.05, 0.2, 1.0, _LONGEST_CALL])
        arrives = draw.uniform(0.0, wire)
        # It arrives whatever becomes of the process.
        loop = asyncio.get_running_loop()
        loop.call_later(arrives, lambda: run.came.append(loop.time()))
        try:
            await asyncio.sleep(wire)
        except asyncio.CancelledError:
            if not self.is_open and not self.exchange._tasks.open_count:
                # The process is dead, and nobody is there to note the end.
                raise
            await asyncio.sleep(max(0.0, arrives))
            raise
        finally:
            slot.release()

    async def _end_calls(self) -> None:
        calls = list(self.calls)
        for task in calls:
            task.cancel()
        if calls:
            await asyncio.wait(calls)


class Run:
    """One drawn run.

    Args:
        seed: What it is drawn from.
        kind: Which faults it has besides those that every run has: ``deaths``, ``jumps`` or ``alone``.
    """

    def __init__(self, seed: int, kind: str) -> None:
        self.draw, self.kind = Random(f"{kind} {seed}"), kind
        self.state = MemoryState()
        self.came: list[float] = []
        self.befell: list[str] = []
        self.processes: list[Process] = []
        self.refunds = self.decreases = 0
        self._share: float | None = None

    async def play(self) -> Judged:
        draw = self.draw
        self.state = await opened_state()
        count = draw.randint(1, 4)
        self._share = 1 / count if self.kind == "alone" else None
        for _ in range(count):
            await self._start()
        ends = anyio.current_time() + _TROUBLE
        while anyio.current_time() < ends:
            await asyncio.sleep(draw.expovariate(1 / 12))
            await draw.choice(self._faults())()
            for process in self.processes:
                process.look()
        self.state.away, self.state.lost_answers = False, 0
        calls = [call for process in self.processes for call in process.calls]
        pending: set[asyncio.Task[None]] = set()
        if calls:
            _, pending = await asyncio.wait(calls, timeout=_PATIENCE)
        for process in self.processes:
            if process.is_open:
                await process.close()
        return Judged(
            worst=worst_window(self.came),
            served=len(self.came),
            left=len(asyncio.all_tasks()) - 1,
            hanging=len(pending),
            busiest=max(max(process.store.seconds.values(), default=0) for process in self.processes),
            decreases=self.decreases,
            befell=self.befell,
        )

    def _faults(self) -> list[Callable[[], Awaitable[None]]]:
        always = [self._work, self._work, self._go_away, self._lose_answers, self._refuse, self._cancel]
        more: dict[str, list[Callable[[], Awaitable[None]]]] = {
            "deaths": [self._kill, self._reopen, self._forget],
            "jumps": [self._jump, self._set_back, self._live_anew],
            "alone": [self._go_away_for_long],
        }
        return [*always, *more[self.kind]]

    def _note(self, what: str) -> None:
        self.befell.append(f"{anyio.current_time():.2f} {what}")

    async def _start(self) -> None:
        process = Process(self, self._share)
        self.processes.append(process)
        await process.open()
        # One that never asked before would not see the store's clock jump.
        process.call()
        await asyncio.sleep(1)

    def _one(self) -> Process | None:
        living = [process for process in self.processes if process.is_open]
        return self.draw.choice(living) if living else None

    async def _work(self) -> None:
        if (process := self._one()) is not None:
            for _ in range(self.draw.randint(1, _CALLS)):
                process.call()

    async def _go_away(self) -> None:
        await self._stay_away(self.draw.choice([0.3, 4.0, 17.0, 40.0]))

    async def _go_away_for_long(self) -> None:
        await self._stay_away(self.draw.uniform(136, 260))

    async def _stay_away(self, seconds: float) -> None:
        self._note(f"the store is away for {seconds:g} s")
        self.state.away = True
        if self.draw.random() < 0.5 and (process := self._one()) is not None:
            process.call()
        await asyncio.sleep(seconds)
        self.state.away = False

    async def _lose_answers(self) -> None:
        self.state.lost_answers = self.draw.choice([1, 3, 40])
        self._note(f"{self.state.lost_answers} answers are lost")

    async def _refuse(self) -> None:
        if (process := self._one()) is not None:
            self._note("a 429")
            process.limiter.on_rate_limited(self.draw.choice([None, 0.5, 10.0]))

    async def _cancel(self) -> None:
        if (process := self._one()) is not None:
            self._note("calls are cancelled")
            for task in list(process.calls):
                if self.draw.random() < 0.5:
                    task.cancel()

    async def _kill(self) -> None:
        if (process := self._one()) is not None:
            self._note("a process dies")
            await process.die()
            await self._start()

    async def _reopen(self) -> None:
        if (process := self._one()) is not None:
            self._note("a client is closed and opened again")
            await process.close()
            await asyncio.sleep(self.draw.choice([0.0, 0.1, 20.0]))
            await process.open()

    async def _forget(self) -> None:
        self._note("the store forgets")
        self.state.forget()

    async def _live_anew(self) -> None:
        self._note("the store lives anew")
        self.state.life += "'"

    async def _jump(self) -> None:
        self._note("the clock jumps ahead")
        self.state.ahead += self.draw.choice([0.5, 30.0, 70.0, 4000.0])

    async def _set_back(self) -> None:
        self._note("the clock is set back")
        self.state.ahead -= self.draw.choice([0.5, 70.0, 4000.0])


def play(seed: int, kind: str) -> Judged:
    """Play a run on the virtual clock."""
    return run_virtually(Run(seed, kind).play)
