"""A process that makes calls under shared limits, and says what becomes of it; a scenario plays with several of these.

It speaks to whoever started it over a connection, by lines of JSON, and ends when that is closed. As the SDK's own
calls do, it looks right before it sends whether its slot may still be used. Each call goes to the gateway with the time
until which it may arrive there, which is a timeout after that look.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence

import msgspec

from bms_async import BmsClient, StaticToken
from bms_async.limits import Lane, Limits
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Answer, Question, Terms
from bms_async.limits.shared.stores import find_store
from tests.limits.shared.failures._guards import Guard, take_away, use_shifted_clock

OPERATION = "servers.stop"

_POLL = 0.05


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """What a process is to do.

    Attributes:
        name: Its name.
        store: The address of the store.
        account: The account.
        terms: The times of the account.
        limit: Calls a window.
        reserve: How many of them bulk calls leave free.
        gateway: The gateway's port.
        interactive: How many interactive calls it makes.
        bulk: How many bulk calls it makes.
        callers: How many of each it makes at once.
        without: What it does not guard itself by.
        clock: The key of a Redis server by whose value its clock is off; empty for none.
        act: What it does besides.
    """

    name: str
    store: str
    account: str
    terms: Terms
    limit: int
    reserve: int
    gateway: int
    interactive: int = 0
    bulk: int = 0
    callers: int = 6
    without: Guard | None = None
    clock: str = ""
    act: str = ""


class Said(msgspec.Struct, kw_only=True, frozen=True):
    """What a process says.

    Attributes:
        name: Its name.
        what: ready, asked (its first question), called, lost (a lease), standing (about to stand still) or done.
        pid: Its number.
        holder: Its id in the ledger.
        status: The status of an answer.
    """

    name: str
    what: str
    pid: int
    holder: str = ""
    status: int = 0


def run(part: Part, control: int) -> None:
    """Be that process.

    Args:
        part: What it does.
        control: The port of whoever is to know.
    """
    if part.without is not None:
        take_away(part.without)
    if part.clock:
        use_shifted_clock(part.clock)
    if part.act == "two loops":
        threads = [
            threading.Thread(target=_run_loop, args=(msgspec.structs.replace(part, name=name, act=""), control))
            for name in (part.name, f"{part.name}, too")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        _run_loop(part, control)


def _run_loop(part: Part, control: int) -> None:
    asyncio.run(_Worker(part, control).work())


def _share(part: Part) -> Limits:
    """Return limits as `Limits.shared` makes them, but for the times."""
    limits = Limits.shared(
        part.store, account=part.account, changes={OPERATION: part.limit}, reserve=part.reserve / part.limit
    )
    limits._exchange = Exchange(part.account, find_store("store", part.store), part.terms)
    return limits


class _Worker:
    def __init__(self, part: Part, control: int, limits: Limits | None = None) -> None:
        self._part, self._control = part, control
        self._writer: asyncio.StreamWriter | None = None
        self._limits = limits or _share(part)
        exchange, limiter = self._limits._exchange, self._limits[OPERATION]
        assert exchange is not None
        assert isinstance(limiter, SharedLimiter)
        self._exchange, self._limiter = exchange, limiter
        self._interactive = deque(range(part.interactive))
        self._bulk = deque(range(part.bulk))

    async def work(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control)
        if self._part.act == "stands still with grants":
            self._stand_still_with_grants()
        if self._part.without != "anew in a child" or self._part.act:
            # A child that goes on as its parent does neither.
            await self._exchange.open()
            # Its first use on this loop, with which it begins anew.
            self._limiter.statistics()
        self._say("ready")
        await reader.readline()
        watches = [asyncio.create_task(self._end_with(reader)), asyncio.create_task(self._watch())]
        if self._part.act == "forks":
            await self._fork()
        if self._part.act == "is a whole client":
            await self._call_by_client()
        await asyncio.gather(
            *(self._call_all(Lane.INTERACTIVE, self._interactive) for _ in range(self._part.callers)),
            *(self._call_all(Lane.BULK, self._bulk) for _ in range(self._part.callers)),
        )
        for watch in watches:
            watch.cancel()
        await self._exchange.aclose()
        self._say("done")
        self._writer.close()

    def _say(self, what: str, status: int = 0) -> None:
        assert self._writer is not None
        said = Said(
            name=self._part.name,
            what=what,
            pid=os.getpid(),
            holder=self._limiter._holding._holder,
            status=status,
        )
        self._writer.write(msgspec.json.encode(said) + b"\n")

    async def _end_with(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1024):
            pass
        os._exit(1)

    async def _watch(self) -> None:
        epoch, ended, has_asked = self._limiter._epoch, -math.inf, False
        while True:
            await asyncio.sleep(_POLL)
            if not has_asked and self._exchange.statistics.questions:
                has_asked = True
                self._say("asked")
            ends = self._limiter._lease_ends
            is_over = ended < ends <= self._limiter._clock()
            if is_over or self._limiter._epoch != epoch:
                self._say("lost")
            epoch, ended = self._limiter._epoch, ends if is_over else ended

    def _stand_still_with_grants(self) -> None:
        """Have this process stopped once, when it was granted slots and before it looks at them."""
        store = self._exchange.store
        ask, has_stood = store.ask, False

        async def ask_and_stand(account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
            nonlocal has_stood
            answers = await ask(account, questions)
            if not has_stood and any(answer.granted for answer in answers):
                has_stood = True
                self._say("standing")
                os.kill(os.getpid(), signal.SIGSTOP)
            return answers

        store.ask = ask_and_stand  # type: ignore[method-assign]

    async def _fork(self) -> None:
        """Go on as two processes when slots are left that nothing was sent for."""
        slots = [await self._limiter.acquire() for _ in self._interactive]
        for slot in slots:
            slot.refund()
        if os.fork():
            return
        try:
            part = msgspec.structs.replace(self._part, name=f"{self._part.name}, too", act="")
            asyncio.run(_Worker(part, self._control, self._limits).work())
        finally:
            os._exit(0)

    async def _call_by_client(self) -> None:
        """Make all calls as a user of the SDK does."""
        part, endpoint = self._part, f"http://127.0.0.1:{self._part.gateway}"
        async with BmsClient(
            endpoint=endpoint, project_id=part.name, auth=StaticToken("t"), limits=self._limits
        ) as bms:
            for ended in asyncio.as_completed([bms.servers.stop([f"server-{call}"]) for call in self._interactive]):
                await ended
                self._say("called", 200)
        self._interactive.clear()

    async def _call_all(self, lane: Lane, calls: deque[int]) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while calls:
            calls.popleft()
            status = 0
            while not status:
                # Before the slot is asked for, so that it is sent at once.
                connection = connection or await asyncio.open_connection("127.0.0.1", self._part.gateway)
                status = await self._call(lane, *connection)
                if not status:
                    connection[1].close()
                    connection = None
            self._say("called", status)
        if connection is not None:
            connection[1].close()

    async def _call(self, lane: Lane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Make one call; return its status, 0 if it could not be sent or there was no answer in time."""
        slot = await self._limiter.acquire(lane)
        deadline = time.monotonic() + self._part.terms.timeout
        if not slot.is_valid():
            slot.refund()
            return 0
        try:
            writer.write(f"POST /v1/{self._part.name}/x HTTP/1.1\r\nX-Deadline: {deadline}\r\n\r\n".encode())
            async with asyncio.timeout_at(deadline):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(head.partition("Content-Length: ")[2].split()[0]))
        except (OSError, asyncio.IncompleteReadError):
            # A timeout is one of these.
            return 0
        finally:
            slot.release()
        return int(head.split()[1])
