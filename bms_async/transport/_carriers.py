"""What carries one request at a time, kept for the next that goes the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from ._idle import LONGEST_FOR_ONCE


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
