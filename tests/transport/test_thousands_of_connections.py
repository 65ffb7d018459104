"""Thousands of connections are opened and dropped, and nothing is left of them: no descriptor, task, timer or memory.

The server resets each connection when it has answered, so that none waits in the kernel for its last packets: a
machine has about 28,000 ports for that.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import httptools

from bms_async import HttpRequest, HttpResponse, TransportError
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer, eventually

CONNECTIONS = 3_000
FEWER = 800
"""How many are opened over the libraries of others, of which each costs up to ten times as much."""
AT_ONCE = 50
BEFORE = 300
"""How many come before the first measure, so that what is made once is made."""
LEFT_OVER = 0.3
"""How many objects and blocks of memory there may be more for each connection."""


class Left(NamedTuple):
    """What there is in the process and its loop."""

    files: int
    tasks: int
    timers: int
    objects: int
    blocks: int


def measure() -> Left:
    gc.collect()
    loop: Any = asyncio.get_running_loop()
    folder = Path("/proc/self/fd")
    return Left(
        files=len(list(folder.iterdir())) if folder.is_dir() else 0,
        tasks=len(asyncio.all_tasks()),
        timers=sum(not timer.cancelled() for timer in loop._scheduled),
        objects=len(gc.get_objects()),
        blocks=sys.getallocatedblocks(),
    )


async def answers_or_not_and_breaks_off(talk: Talk) -> None:
    """Answer in ways that take turns, whole, cut off and not at all, and reset the connection."""
    heard = await talk.hear()
    # The test keeps nothing either.
    talk.server.heard.clear()
    talk.server.tasks.clear()
    if heard is None:
        return
    number = int(heard.split()[1].rpartition(b"/")[2])
    if number % 3 == 0:
        await talk.say(answer(connection="close"))
        await talk.until_gone()
    elif number % 3 == 1:
        await talk.say(answer()[:-1])
    talk.reset()


async def send_all(send: Callable[[HttpRequest], Awaitable[HttpResponse]], url: str, number: int) -> Counter[str]:
    """Send so many requests, some at once, each of which gets a connection of its own."""
    ended: Counter[str] = Counter()
    left = iter(range(number))

    async def caller() -> None:
        for each in left:
            sent = HttpRequest(
                operation="servers.get", method="POST", url=f"{url}/{each}", headers={}, timeout=PATIENCE
            )
            try:
                ended[str((await send(sent)).status)] += 1
            except TransportError:
                ended["failed"] += 1

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return ended


async def test_r4_of_thousands_of_connections_nothing_is_left(library: ModuleType, trusting: ssl.SSLContext) -> None:
    connections = CONNECTIONS if library is httptools else FEWER
    async with (
        Loopback(answers_or_not_and_breaks_off) as server,
        make_transport(library, trusting, AT_ONCE) as transport,
    ):
        await send_all(transport.send, server.url, BEFORE)
        await eventually(lambda: server.open == 0)
        before = measure()
        ended = await send_all(transport.send, server.url, connections)
        await eventually(lambda: server.open == 0)
        after = measure()
        assert server.accepted == BEFORE + connections
    assert ended["200"] == len(range(0, connections, 3))
    assert ended["failed"] == connections - ended["200"]
    assert after.files <= before.files
    assert after.tasks <= before.tasks
    assert after.timers <= before.timers
    assert after.objects - before.objects < LEFT_OVER * connections
    assert after.blocks - before.blocks < LEFT_OVER * connections


async def test_who_drops_connections_without_closing_them_leaves_all_of_that() -> None:
    # Without this one the measure might not see what is left, and the test above would prove nothing.
    kept = []

    async def send(request: HttpRequest) -> HttpResponse:
        port = int(request.url.split(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        timer = asyncio.get_running_loop().call_later(PATIENCE, writer.close)
        kept.append((reader, writer, timer, asyncio.create_task(reader.read())))
        return HttpResponse(status=200, headers=(), body=b"")

    async with Loopback(Talk.until_gone) as server:
        before = measure()
        await send_all(send, server.url, 2 * AT_ONCE)
        await server.until(lambda it: it.open == 2 * AT_ONCE)
        after = measure()
        for _, writer, timer, _ in kept:
            timer.cancel()
            writer.close()
        await asyncio.gather(*(task for *_, task in kept))
    assert after.files - before.files >= 2 * AT_ONCE
    assert after.tasks - before.tasks >= 2 * AT_ONCE
    assert after.timers - before.timers >= 2 * AT_ONCE
    assert after.objects - before.objects > LEFT_OVER * 2 * AT_ONCE
    assert after.blocks - before.blocks > LEFT_OVER * 2 * AT_ONCE
