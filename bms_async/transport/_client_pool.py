"""Clients of httpx, each with a connection of its own, which are lent for one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from ._pool import MAX_IDLE, IdlePool

_SWEEP_INTERVAL = 1.0
"""Seconds after which expired clients are looked for again, when the next one becomes idle."""


class SupportsAclose(Protocol):
    """An object that owns a connection."""

    async def aclose(self) -> None:
        """Close the connection."""
        ...


C = TypeVar("C", bound=SupportsAclose)


class _Member(Generic[C]):
    __slots__ = ("client",)

    idle_limit = MAX_IDLE
    # The library does not say; it opens another connection if this one has been closed.
    usable = True

    def __init__(self, client: C) -> None:
        self.client = client


class ClientPool(Generic[C]):
    """A pool of clients, one per request in flight.

    Args:
        make: Makes a client for a route.
        max_idle: The maximum number of idle clients, over all routes.
    """

    def __init__(self, make: Callable[[Hashable], Awaitable[C]], *, max_idle: int) -> None:
        self._make = make
        self._max_idle = max_idle
        self._sweep_at = 0.0
        self._dropped: list[_Member[C]] = []
        self._idle: IdlePool[_Member[C]] = IdlePool(self._dropped.append)

    @asynccontextmanager
    async def borrow(self, route: Hashable, *, replayable: bool) -> AsyncIterator[C]:
        """Lend a client for one request; it is closed if the request fails.

        Args:
            route: The route of the request.
            replayable: Whether the request may be repeated.
        """
        member = self._idle.pop(route, _now(), replayable=replayable)
        try:
            await self._close_dropped()
            if member is None:
                member = _Member(await self._make(route))
            yield member.client
        except BaseException:
            if member is not None:
                self._dropped.append(member)
            await self._close_dropped()
            raise
        now = _now()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_INTERVAL
            self._idle.drop_expired(now)
        while self._idle.count >= self._max_idle:
            self._idle.drop_oldest()
        self._idle.put(route, member, now)
        await self._close_dropped()

    async def aclose(self) -> None:
        """Close all idle clients."""
        self._idle.drop_all()
        await self._close_dropped()

    async def _close_dropped(self) -> None:
        if self._dropped:
            with anyio.CancelScope(shield=True):
                while self._dropped:
                    await self._dropped.pop().client.aclose()


def _now() -> float:
    return asyncio.get_running_loop().time()
