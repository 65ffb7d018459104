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

from ._connection import Connection


class SupportsAclose(Protocol):
    """Something that holds a connection."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=SupportsAclose)

_MAX_IDLE = 15.0
"""Seconds after which a carrier that waits is closed, when the next one comes to wait: servers have hung up by then."""


class ClientPool(Generic[C]):
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
    async def borrow(self, route: Hashable, *, once: bool) -> AsyncIterator[C]:
        """Lend one; who fails with it has it closed.

        Args:
            route: Where it must lead.
            once: Whether the request must not be repeated.
        """
        client = await self._take(route, once=once)
        try:
            yield client
        except BaseException:
            await _close(client)
            raise
        now = _now()
        while (oldest := self._oldest()) and (self._waiting >= self._most or now - oldest[0][1] > _MAX_IDLE):
            await self._evict(oldest)
        self._idle.setdefault(route, []).append((client, _now()))
        self._waiting += 1

    async def aclose(self) -> None:
        """Close all that wait."""
        idle, self._idle, self._waiting = self._idle, {}, 0
        for several in idle.values():
            for client, _ in several:
                await client.aclose()

    async def _take(self, route: Hashable, *, once: bool) -> C:
        several = self._idle.get(route)
        if not several:
            return await self._make(route)
        client, since = several.pop()
        self._waiting -= 1
        if once and _now() - since > MAX_IDLE_FOR_UNSAFE:
            await _close(client)
            return await self._make(route)
        return client

    def _oldest(self) -> list[tuple[C, float]] | None:
        """Return those that go the way of the one that has waited longest, which is the first of them."""
        return min(filter(None, self._idle.values()), key=lambda each: each[0][1], default=None)

    async def _evict(self, several: list[tuple[C, float]]) -> None:
        client, _ = several.pop(0)
        self._waiting -= 1
        await _close(client)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _close(client: SupportsAclose) -> None:
    with anyio.CancelScope(shield=True):
        await client.aclose()


SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods of requests that can be repeated."""

MAX_IDLE_FOR_UNSAFE = 1.0
"""Seconds that a connection may have been idle for a request that cannot be repeated."""


class IdleConnections(dict[Hashable, list[Connection]]):
    """Holds idle connections, for each way to a server those used last on top.

    Args:
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, keep_alive: float) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._eviction_timer: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(map(len, self.values()))

    def put(self, route: Hashable, connection: Connection) -> None:
        """Keep a connection for the next request."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self.setdefault(route, []).append(connection)
        if self._eviction_timer is None:
            self._eviction_timer = loop.call_later(self._keep_alive, self._evict_expired)

    def pop_idle(self, route: Hashable, *, once: bool) -> Connection | None:
        """Take the connection used last, if it can be relied on.

        Args:
            route: Where it leads.
            once: Whether the request must not be repeated.
        """
        connections = self.get(route)
        while connections:
            connection = connections[-1]
            idle = asyncio.get_running_loop().time() - connection.idle_since
            if not connection.usable or idle > connection.idle_limit:
                connections.pop().close()
                continue
            if once and idle > min(MAX_IDLE_FOR_UNSAFE, connection.idle_limit / 2):
                return None
            return connections.pop()
        return None

    def evict_oldest(self) -> None:
        """Close the connection that was idle longest."""
        connections = min(filter(None, self.values()), key=lambda connections: connections[0].idle_since)
        connections.pop(0).close()

    def close(self) -> None:
        """Close all."""
        if self._eviction_timer is not None:
            self._eviction_timer.cancel()
            self._eviction_timer = None
        for connections in self.values():
            for connection in connections:
                connection.close()
        self.clear()

    def _evict_expired(self) -> None:
        now = asyncio.get_running_loop().time()
        for route, connections in list(self.items()):
            kept = []
            for connection in connections:
                if connection.usable and now - connection.idle_since <= connection.idle_limit:
                    kept.append(connection)
                else:
                    connection.close()
            if kept:
                self[route] = kept
            else:
                del self[route]
        self._eviction_timer = (
            asyncio.get_running_loop().call_later(self._keep_alive / 2, self._evict_expired) if self else None
        )
