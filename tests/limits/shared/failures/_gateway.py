"""A strict sliding-window gateway on a real port: the judge, which knows nothing of the SDK.

It counts each call when it arrives, by its own clock, and refuses it where the window that ends then holds as many
calls as are allowed. What is counted is what came in, whether or not its sender still lives.

Its network keeps what the guarantee rests on: no request is under way for longer than the timeout. Each request says
until when it may arrive, which is a timeout after its sender looked at its lease; later it is lost on the way. So a
process that the machine leaves without a core for seconds, between that look and the write, proves nothing either way,
however slow the machine is. All processes of one machine read the same monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from functools import partial
from random import Random
from typing import Self

from tests.support.changes import Changes
from tests.support.listener import Listener

_BODY = '{"job_id": "job-1"}'


class Gateway:
    """A gateway of one limit, open inside its context.

    Args:
        limit: Calls a window.
        window: Seconds.
        latency: The seconds that each way takes, at least and at most.
        seed: What the latencies are drawn by.

    Attributes:
        arrivals: How many calls came in, in all.
        arrived: The same, by who sent them.
        refused: How many were refused.
        lost: How many were on their way for too long.
        busiest: How many calls the busiest window held.
        first: When the first call came in; 0 while none has.
        last: The same of the last call.
        withheld: Whose calls are counted but not answered.
        changes: Tells when one of these changed.
    """

    def __init__(self, *, limit: int, window: float, latency: tuple[float, float], seed: int = 0) -> None:
        self._limit, self._window, self._latency = limit, window, latency
        self._random = Random(seed)
        self._taken: deque[float] = deque()
        self._window_held: deque[float] = deque()
        self._listener = Listener(self._answer_all)
        self.arrivals = self.refused = self.lost = self.busiest = 0
        self.arrived: Counter[str] = Counter()
        self.first = self.last = 0.0
        self.withheld: set[str] = set()
        self.changes = Changes()

    @property
    def port(self) -> int:
        return self._listener.port

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.__aexit__()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.splitlines()
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            await reader.readexactly(int(fields.get("content-length", 0)))
            # A whole client names itself by its project.
            sender = request.split("/")[2]
            await asyncio.sleep(self._random.uniform(*self._latency))
            status = self._count(sender, float(fields.get("x-deadline", "inf")))
            if status is None:
                return
            await asyncio.sleep(self._random.uniform(*self._latency))
            await self.changes.until(partial(self._is_answered, sender))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(_BODY)}\r\n\r\n{_BODY}".encode())
            await writer.drain()

    def _is_answered(self, sender: str) -> bool:
        return sender not in self.withheld

    def _count(self, sender: str, deadline: float) -> str | None:
        """Return how a call is answered; None if it never arrived."""
        now = time.monotonic()
        if now > deadline:
            self.lost += 1
            return None
        for held in (self._taken, self._window_held):
            while held and held[0] <= now - self._window:
                held.popleft()
        self._window_held.append(now)
        self.busiest = max(self.busiest, len(self._window_held))
        self.arrivals += 1
        self.arrived[sender] += 1
        self.first, self.last = self.first or now, now
        is_allowed = len(self._taken) < self._limit
        if is_allowed:
            self._taken.append(now)
        else:
            self.refused += 1
        self.changes.tell()
        return "200 OK" if is_allowed else "429 Too Many Requests"

    def __str__(self) -> str:
        return (
            f"{self.arrivals} calls, {self.refused} refused, busiest window {self.busiest} of {self._limit}, "
            f"last after {self.last - self.first:.2f} s, {self.lost} lost"
        )
