"""Connections that wait for their next request.

HTTP cannot tell a connection that its server is closing at this moment from one that it keeps. A request on the former
fails, and nobody can prove that it was not read before. So a connection is kept shorter than servers keep theirs, and
what must not be repeated goes on one that was in use a moment ago, or on a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from ._connection import Line


class Closable(Protocol):
    """Something that holds a connection."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)

_LONGEST_IDLE = 15.0
"""Seconds after which a carrier that waits is closed, when the next one comes to wait: servers have hung up by then."""


class Carriers(Generic[C]):
    """A carrier for each request that is under way; of those that wait, the one that was used last goes first.

    So few connections stay warm, and the others are closed when they have been idle for long. One that has failed is
    not used again: whatever it thinks of its connection may be wrong. What must not be repeated goes on one that was in
    use a moment ago, or on a new one, for a server may be closing one that was idle.

    Args:
        make: Makes one that goes a certain way.
        most: How many may wait for their next request, whatever way they go.
    """

    def __init__(self, make: Callable[[Hashable], Awaitable[C]], *, most: int) -> None:
        self._make = make
        self._most = most
        self._idle: dict[Hashable, list[tuple[C, float]]] = {}
        self._waiting = 0

    @asynccontextmanager
    async def borrow(self, way: Hashable, *, once: bool) -> AsyncIterator[C]:
        """Lend one; who fails with it has it closed.

        Args:
            way: Where it must lead.
            once: Whether the request must not be repeated.
        """
        carrier = await self._take(way, once=once)
        try:
            yield carrier
        except BaseException:
            await _close(carrier)
            raise
        now = _now()
        while (oldest := self._oldest()) and (self._waiting >= self._most or now - oldest[0][1] > _LONGEST_IDLE):
            await self._drop(oldest)
        self._idle.setdefault(way, []).append((carrier, _now()))
        self._waiting += 1

    async def aclose(self) -> None:
        """Close all that wait."""
        idle, self._idle, self._waiting = self._idle, {}, 0
        for several in idle.values():
            for carrier, _ in several:
                await carrier.aclose()

    async def _take(self, way: Hashable, *, once: bool) -> C:
        several = self._idle.get(way)
        if not several:
            return await self._make(way)
        carrier, since = several.pop()
        self._waiting -= 1
        if once and _now() - since > LONGEST_FOR_ONCE:
            await _close(carrier)
            return await self._make(way)
        return carrier

    def _oldest(self) -> list[tuple[C, float]] | None:
        """Return those that go the way of the one that has waited longest, which is the first of them."""
        return min(filter(None, self._idle.values()), key=lambda each: each[0][1], default=None)

    async def _drop(self, several: list[tuple[C, float]]) -> None:
        carrier, _ = several.pop(0)
        self._waiting -= 1
        await _close(carrier)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _close(carrier: Closable) -> None:
    with anyio.CancelScope(shield=True):
        await carrier.aclose()


REPEATABLE = frozenset({"GET", "HEAD"})
"""The methods of requests that can be repeated."""

LONGEST_FOR_ONCE = 1.0
"""Seconds that a connection may have been idle for a request that cannot be repeated."""


class IdleLines(dict[Hashable, list[Line]]):
    """Holds idle connections, for each way to a server those used last on top.

    Args:
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, keep_alive: float) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(map(len, self.values()))

    def put(self, way: Hashable, line: Line) -> None:
        """Keep a connection for the next request."""
        loop = asyncio.get_running_loop()
        line.since = loop.time()
        self.setdefault(way, []).append(line)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keep_alive, self._sweep)

    def take(self, way: Hashable, *, once: bool) -> Line | None:
        """Take the connection used last, if it can be relied on.

        Args:
            way: Where it leads.
            once: Whether the request must not be repeated.
        """
        lines = self.get(way)
        while lines:
            line = lines[-1]
            idle = asyncio.get_running_loop().time() - line.since
            if not line.usable or idle > line.keeps:
                lines.pop().close()
                continue
            if once and idle > min(LONGEST_FOR_ONCE, line.keeps / 2):
                return None
            return lines.pop()
        return None

    def drop_oldest(self) -> None:
        """Close the connection that was idle longest."""
        lines = min(filter(None, self.values()), key=lambda lines: lines[0].since)
        lines.pop(0).close()

    def close(self) -> None:
        """Close all."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for lines in self.values():
            for line in lines:
                line.close()
        self.clear()

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for way, lines in list(self.items()):
            kept = []
            for line in lines:
                if line.usable and now - line.since <= line.keeps:
                    kept.append(line)
                else:
                    line.close()
            if kept:
                self[way] = kept
            else:
                del self[way]
        self._sweeping = asyncio.get_running_loop().call_later(self._keep_alive / 2, self._sweep) if self else None
