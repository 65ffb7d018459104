"""Connection pools: idle connections, reused last in, first out (rule R3).

In HTTP a connection that its server is just closing looks like one that it keeps. A request that is sent on the former
fails, and nothing proves that the server had not read it. Two bounds make this rare. A connection is closed after 15 s
of idleness, which is sooner than servers close theirs, or earlier if the server announces less. And a request that
must not be repeated uses only a connection that was idle for at most `MAX_IDLE_FOR_UNSAFE` seconds, or a new one.

The connection used last goes first, so that few connections stay in use and the others expire. One that has failed is
closed and not reused: the library's view of its state may be wrong.

`ClientPool` is for httpx: each member is a client, or a pool of one connection, and is borrowed for one request.
`IdleConnections` is for connections that are ours.

Rejected: testing a connection with a request before it is reused, which costs a round trip and proves nothing about the
next one; and repeating a request that failed on a reused connection, which may execute it twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

# Seconds off the announced time at which a server closes: a request needs time to arrive.
_KEEP_ALIVE_MARGIN = 1.0


class SupportsAclose(Protocol):
    """An object that owns a connection."""

    async def aclose(self) -> None:
        """Close the connection."""
        ...


C = TypeVar("C", bound=SupportsAclose)

_MAX_IDLE = 15.0
"""Seconds after which an idle client is closed, when the next one becomes idle."""


class ClientPool(Generic[C]):
    """A pool of clients, one per request in flight; idle ones are reused last in, first out.

    Args:
        make: Makes a client for a route.
        max_idle: The maximum number of idle clients, over all routes.
    """

    def __init__(self, make: Callable[[Hashable], Awaitable[C]], *, max_idle: int) -> None:
        self._make = make
        self._max_idle = max_idle
        self._idle: dict[Hashable, list[tuple[C, float]]] = {}
        self._idle_count = 0

    @asynccontextmanager
    async def borrow(self, route: Hashable, *, replayable: bool) -> AsyncIterator[C]:
        """Lend a client for one request; it is closed if the request fails.

        Args:
            route: The route of the request.
            replayable: Whether the request may be repeated.
        """
        client = await self._acquire(route, replayable=replayable)
        try:
            yield client
        except BaseException:
            await _close(client)
            raise
        now = _now()
        while (oldest := self._oldest()) and (self._idle_count >= self._max_idle or now - oldest[0][1] > _MAX_IDLE):
            await self._evict(oldest)
        self._idle.setdefault(route, []).append((client, _now()))
        self._idle_count += 1

    async def aclose(self) -> None:
        """Close all idle clients."""
        idle, self._idle, self._idle_count = self._idle, {}, 0
        for clients in idle.values():
            for client, _ in clients:
                await client.aclose()

    async def _acquire(self, route: Hashable, *, replayable: bool) -> C:
        clients = self._idle.get(route)
        if not clients:
            return await self._make(route)
        client, idle_since = clients.pop()
        self._idle_count -= 1
        if not replayable and _now() - idle_since > MAX_IDLE_FOR_UNSAFE:
            await _close(client)
            return await self._make(route)
        return client

    def _oldest(self) -> list[tuple[C, float]] | None:
        """Return the idle clients of the route whose first client has been idle for longest."""
        return min(filter(None, self._idle.values()), key=lambda clients: clients[0][1], default=None)

    async def _evict(self, clients: list[tuple[C, float]]) -> None:
        client, _ = clients.pop(0)
        self._idle_count -= 1
        await _close(client)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _close(client: SupportsAclose) -> None:
    with anyio.CancelScope(shield=True):
        await client.aclose()


SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods of requests that may be repeated (RFC 9110)."""

MAX_IDLE_FOR_UNSAFE = 1.0
"""The maximum idle time, in seconds, of a connection for a request that must not be repeated."""


class IdleConnection(Protocol):
    """A connection that can be kept.

    Attributes:
        idle_since: When it became idle, by the loop's clock.
        idle_limit: Seconds that it may be idle.
    """

    idle_since: float
    idle_limit: float

    @property
    def usable(self) -> bool:
        """Whether it is open, and has received nothing unrequested."""
        ...

    def close(self) -> None:
        """Close the connection at once."""
        ...


K = TypeVar("K", bound=IdleConnection)


class IdleConnections(dict[Hashable, list[K]]):
    """Idle connections by route, those used last at the end.

    Args:
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, keep_alive: float) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._eviction_timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """The number of idle connections, over all routes."""
        return sum(map(len, self.values()))

    def put(self, route: Hashable, connection: K) -> None:
        """Keep a connection for the next request."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self.setdefault(route, []).append(connection)
        if self._eviction_timer is None:
            self._eviction_timer = loop.call_later(self._keep_alive, self._evict_expired)

    def pop_idle(self, route: Hashable, *, replayable: bool) -> K | None:
        """Take the connection that was used last; None if there is none that is safe to use.

        Args:
            route: The route of the request.
            replayable: Whether the request may be repeated.
        """
        connections = self.get(route)
        while connections:
            connection = connections[-1]
            idle = asyncio.get_running_loop().time() - connection.idle_since
            if not connection.usable or idle > connection.idle_limit:
                connections.pop().close()
                continue
            if not replayable and idle > min(MAX_IDLE_FOR_UNSAFE, connection.idle_limit / 2):
                return None
            return connections.pop()
        return None

    def evict_oldest(self) -> None:
        """Close the connection that has been idle for longest."""
        connections = min(filter(None, self.values()), key=lambda connections: connections[0].idle_since)
        connections.pop(0).close()

    def close(self) -> None:
        """Close all connections."""
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


def parse_keep_alive(header: str) -> float:
    """Return for how many seconds a server keeps an idle connection, less a margin; infinity if it does not say."""
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            return float(value) - _KEEP_ALIVE_MARGIN
    return math.inf
