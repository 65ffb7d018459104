"""The limiters that several processes share, each behind one `acquire`: ours, and none at all.

The alternatives are in `_shared_peers`, and are imported only where they are measured: a process begins sooner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from unittest import mock

from bms_async.limits import Lane, Slot
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.stores import find_store

OPERATION = "servers.stop"
OURS, NONE = "bms_async", "(none)"

Acquire = Callable[[], Coroutine[Any, Any, Slot | None]]
"""Waits for the right to make a call; a Slot has to be released, None has not."""


class Shared(NamedTuple):
    """What a process shares.

    Attributes:
        url: The address of the store.
        account: A name for what is counted together.
        limit: Calls a window.
        window: Seconds.
        is_bulk: Whether the calls are many of which none is urgent.
    """

    url: str
    account: str
    limit: int
    window: float
    is_bulk: bool = False


class Contender(NamedTuple):
    """A limiter that is open.

    Attributes:
        acquire: Waits for the right to make a call.
        questions: Returns how many questions were asked; None for a limiter whose questions are its round trips.
    """

    acquire: Acquire
    questions: Callable[[], int] | None = None


Make = Callable[[Shared], AbstractAsyncContextManager[Contender]]


@asynccontextmanager
async def ours(shared: Shared) -> AsyncIterator[Contender]:
    """The shared limiter of this package, with a window that may be shorter than a minute."""
    exchange = Exchange(shared.account, find_store("store", shared.url), Terms(window=shared.window))
    limiter = exchange.make_limiter(OPERATION, shared.limit, reserve=1 / 60, binding=LoopBinding())
    lane = Lane.BULK if shared.is_bulk else Lane.INTERACTIVE

    async def acquire() -> Slot:
        return await limiter.acquire(lane)

    await exchange.open()
    try:
        yield Contender(acquire, lambda: exchange.statistics.questions)
    finally:
        await exchange.aclose()


@asynccontextmanager
async def nothing(shared: Shared) -> AsyncIterator[Contender]:
    """No limiter at all: what a call costs by itself."""
    del shared

    async def acquire() -> None: ...

    yield Contender(acquire)


def find_contender(name: str) -> Make:
    """Return what makes a limiter."""
    if name in OWN:
        return OWN[name]
    from benchmarks._shared_peers import PEERS

    return PEERS[name]


OWN: dict[str, Make] = {OURS: ours, NONE: nothing}


class RoundTrips:
    """Counts what redis-py sends from here on: each time it waits for an answer before the next one."""

    def __init__(self) -> None:
        from redis.asyncio.connection import AbstractConnection

        self.count = 0
        send: Any = AbstractConnection.send_packed_command

        async def counted(connection: AbstractConnection, *args: Any, **options: Any) -> None:
            self.count += 1
            await send(connection, *args, **options)

        mock.patch.object(AbstractConnection, "send_packed_command", counted).start()
