"""Several holders of one limit on the virtual clock, with a store in memory: exact figures for whole minutes.

The holders are exchanges as in processes of their own, and share nothing but the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import NamedTuple

from benchmarks._shared_gateway import WIRE
from benchmarks._shared_limiters import OPERATION
from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.ledger import deal, open_account
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Account, Answer, Ledger, Question, Terms
from bms_async.limits.shared.store import AccountUsage
from tests.support.virtual_clock import run_virtually

_LIFE = "one"
_ROUND_TRIP = 0.001


class Memory:
    """The state of the only account."""

    def __init__(self) -> None:
        self.account: Account | None = open_account(None, now=0.0, life=_LIFE)
        self.ledgers: dict[str, Ledger] = {}


class MemoryStore:
    """A store in memory, which answers after the time of a round trip in a data centre.

    Args:
        memory: What is kept, the same for all holders.
    """

    label = "memory"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def open(self) -> None:
        """Nothing is opened."""

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Have questions dealt with, at a time halfway."""
        del account
        await asyncio.sleep(_ROUND_TRIP / 2)
        answers, memory, now = [], self._memory, asyncio.get_running_loop().time()
        for name, question in questions:
            memory.account, memory.ledgers[name], answer = deal(
                memory.account, memory.ledgers.get(name), question, now=now, life=_LIFE
            )
            answers.append(answer)
        await asyncio.sleep(_ROUND_TRIP / 2)
        return answers

    async def read(self, account: str) -> AccountUsage:
        """Return what is kept."""
        del account
        now = asyncio.get_running_loop().time()
        return AccountUsage(account=self._memory.account, ledgers=self._memory.ledgers, now=now)

    async def open_account(self, account: str) -> None:
        """It is open from the start."""

    async def aclose(self) -> None:
        """Nothing is closed."""


class Run(NamedTuple):
    """What several holders did.

    Attributes:
        slots: When each call got its slot, holder by holder, in seconds from the beginning.
        ended: When each ended.
        asked: When each question was asked.
    """

    slots: list[list[float]]
    ended: list[list[float]]
    asked: list[float]


def play(
    holders: int,
    *,
    limit: int,
    callers: int,
    calls: int,
    seconds: float,
    lane: Lane = Lane.INTERACTIVE,
    wire: tuple[float, float] = WIRE,
) -> Run:
    """Have several holders make calls.

    Args:
        holders: How many holders.
        limit: Calls a minute.
        callers: How many calls of each holder are made or wait at once.
        calls: How many each makes in all.
        seconds: When it ends at the latest.
        lane: The lane of all calls.
        wire: Seconds that a call takes, from and to.
    """
    draw, done = Random(7), Run([[] for _ in range(holders)], [[] for _ in range(holders)], [])
    memory = Memory()

    async def work(number: int, limiter: SharedLimiter) -> None:
        loop, left = asyncio.get_running_loop(), calls

        async def call() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                slot = await limiter.acquire(lane)
                done.slots[number].append(loop.time())
                await asyncio.sleep(draw.uniform(*wire))
                slot.release()
                done.ended[number].append(loop.time())

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())

    async def main() -> None:
        async with AsyncExitStack() as stack:
            limiters = []
            for _ in range(holders):
                exchange = Exchange("a", lambda: Noting(memory, done.asked), Terms())
                limiters.append(exchange.make_limiter(OPERATION, limit, reserve=1 / 60, binding=LoopBinding()))
                await exchange.open()
                stack.push_async_callback(exchange.aclose)
            try:
                async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                    for number, limiter in enumerate(limiters):
                        group.create_task(work(number, limiter))
            except TimeoutError:
                # They were to work for so long.
                return

    run_virtually(main)
    return done


class Noting(MemoryStore):
    """Notes when questions are asked.

    Args:
        memory: What is kept.
        asked: Where it is noted.
    """

    def __init__(self, memory: Memory, asked: list[float]) -> None:
        super().__init__(memory)
        self._asked = asked

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Note the questions, and have them dealt with."""
        self._asked += [asyncio.get_running_loop().time()] * len(questions)
        return await super().ask(account, questions)
