"""Callers that leave at any moment, servers that fail in every way: nothing is sent twice, and nobody is lied to."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from random import Random
from types import ModuleType
from typing import Any

import pytest

from bms_async import CallTimeoutError, HttpRequest, TransportError
from bms_async.transport.aiohttp import AiohttpTransport
from tests.support.machine import patience
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer

GOOD = answer()
FAULTS = [GOOD[:-1], b"", b"HTTP/1.1 20", b"garbage\r\n\r\n", answer(connection="close"), GOOD]


def any_of(random: Random) -> Behaviour:
    """Answer most requests, and end the others in ways that are drawn."""

    async def behave(talk: Talk) -> None:
        while await talk.hear() is not None:
            drawn = random.random()
            if drawn < 0.7:
                await talk.say(GOOD)
            elif drawn < 0.72:
                return await talk.until_gone()
            elif drawn < 0.8:
                return talk.reset()
            else:
                return await talk.say(random.choice(FAULTS))
        return None

    return behave


@pytest.mark.parametrize("seed", range(2))
async def test_r3_no_request_is_heard_twice_or_said_to_have_stayed_when_it_was_heard(
    library: ModuleType, trusting: ssl.SSLContext, seed: int
) -> None:
    random = Random(seed)
    ended: Counter[str] = Counter()
    stayed: list[str] = []

    async def call(url: str, name: str) -> None:
        sent = HttpRequest(
            operation="servers.reboot",
            method=random.choice(["GET", "POST", "DELETE"]),
            url=f"{url}/{name}",
            headers={},
            body=b"b" * random.choice([0, 10, 100_000]),
            timeout=patience(0.1),
        )
        task = asyncio.ensure_future(transport.send(sent))
        if random.random() < 0.2:
            for _ in range(random.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            ended[str((await task).status)] += 1
        except asyncio.CancelledError:
            ended["cancelled"] += 1
        except TransportError as error:
            ended["timeout" if isinstance(error, CallTimeoutError) else "failed"] += 1
            if not error.maybe_delivered:
                stayed.append(name)

    async def caller(number: int) -> None:
        for turn in range(20):
            await call(random.choice(servers).url, f"{number}-{turn}")

    async with (
        Loopback(any_of(random)) as one,
        Loopback(any_of(random)) as other,
        make_transport(library, trusting, 4) as transport,
        asyncio.timeout(10 * PATIENCE),
    ):
        servers = [one, other]
        await asyncio.gather(*(caller(number) for number in range(10)))
        heard = Counter(each.split()[1].decode().lstrip("/") for server in servers for each in server.heard)
        assert set(heard.values()) == {1}
        assert not heard.keys() & set(stayed)
        assert all(ended[each] for each in ("200", "cancelled", "failed"))
        if isinstance(transport, AiohttpTransport):
            connector: Any = transport._session.connector
            assert len(connector._acquired) <= transport.statistics().in_flight
