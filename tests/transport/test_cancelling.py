"""Cancelled callers: the connections stay whole, what was not sent stays unsent, and the limits are kept (R1, R4).

The first tests are the reason for the transport's design. httpx 0.28 keeps a phantom connection for a request that is
cancelled before its connection opened (encode/httpcore#1093), until none is left and every call fails.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest

from bms_async import BmsClient, HttpRequest, HttpResponse, Limits, StaticToken
from tests.transport._served import served
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Loopback, answer, answers, answers_when, eventually

SERVER = b'{"server": {"id": "4a3f0e2c-0000-4000-8000-000000000001", "name": "bms-1"}}'


def request(url: str, number: int = 0) -> HttpRequest:
    return HttpRequest(operation="servers.get", method="GET", url=f"{url}/{number}", headers={}, timeout=PATIENCE)


def bms_at(url: str, transport: Any, limits: Limits | None = None) -> BmsClient:
    return BmsClient(
        endpoint=url, project_id="p", auth=StaticToken("t"), transport=transport, limits=limits, retry=None
    )


async def ticks(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def begin_and_cancel(call: Any, *, after: int) -> None:
    """Begin 30 calls and cancel them all so many passes of the loop later."""
    begun = [asyncio.ensure_future(call(number)) for number in range(30)]
    await ticks(after)
    for task in begun:
        task.cancel()
    ended = await asyncio.gather(*begun, return_exceptions=True)
    # A late one may have been answered; none may have failed.
    assert not any(isinstance(each, Exception) for each in ended)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
async def test_thirty_cancelled_calls_on_ten_connections_harm_nobody(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    async with Loopback(answers(answer())) as server:
        async with make_transport(library, trusting, 10) as transport, asyncio.timeout(PATIENCE):
            await begin_and_cancel(lambda number: transport.send(request(server.url, number)), after=after)
            for number in range(20):
                assert (await transport.send(request(server.url, 100 + number))).status == 200
            together = await asyncio.gather(*(transport.send(request(server.url)) for _ in range(30)))
            assert [each.status for each in together] == [200] * 30
        assert server.accepted <= 10
        assert transport.statistics().in_flight == 0


async def test_plain_httpx_is_harmed_by_the_same(trusting: ssl.SSLContext) -> None:
    # Without this one, the test above could not fail and would prove nothing.
    limits = httpx.Limits(max_connections=10)
    timeout = httpx.Timeout(PATIENCE, pool=0.2)
    async with (
        Loopback(answers(answer())) as server,
        httpx.AsyncClient(verify=trusting, trust_env=False, limits=limits, timeout=timeout) as client,
        asyncio.timeout(PATIENCE),
    ):
        await begin_and_cancel(lambda number: client.get(f"{server.url}/{number}"), after=1)
        with pytest.raises(httpx.PoolTimeout):
            await client.get(server.url)


@pytest.mark.parametrize("after", [1, 3, 5])
async def test_thirty_cancelled_calls_of_a_whole_client_harm_nobody(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    async with served() as there:
        settings = there.cloud.settings
        bms = BmsClient(
            endpoint=there.url,
            project_id=settings.project_id,
            auth=StaticToken(settings.token),
            transport=make_transport(library, trusting, 10),
            retry=None,
        )
        async with bms, asyncio.timeout(PATIENCE):
            await begin_and_cancel(lambda _: bms.servers.get(there.first_id), after=after)
            for _ in range(20):
                assert (await bms.servers.get(there.first_id)).id == there.first_id
        assert bms.statistics().session.open_calls == 0


@asynccontextmanager
async def one_held_call(
    library: ModuleType, trust: ssl.SSLContext, limits: Limits | None = None
) -> AsyncIterator[tuple[BmsClient, Loopback, asyncio.Event, asyncio.Task[Any]]]:
    """Yield a client on one connection, which a first call holds until the gate opens."""
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer(body=SERVER))) as server:
        transport = make_transport(library, trust, 1)
        async with bms_at(server.url, transport, limits) as bms:
            first = asyncio.create_task(bms.servers.get("first"))
            await server.until(lambda it: len(it.heard) == 1)
            yield bms, server, gate, first


async def test_a_call_cancelled_in_the_queue_is_never_sent(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with one_held_call(library, trusting) as (bms, server, gate, first):
        second = asyncio.create_task(bms.servers.get("second"))
        third = asyncio.create_task(bms.servers.get("third"))
        await ticks(3)
        assert bms.limits["servers.get"].statistics().used == 3
        second.cancel()
        await asyncio.wait({second})
        assert second.cancelled()
        # It was not sent, so nobody has counted it: its slot is free at once, and the other two keep theirs.
        await ticks(2)
        assert bms.limits["servers.get"].statistics().used == 2
        gate.set()
        assert [server.name for server in await asyncio.gather(first, third)] == ["bms-1", "bms-1"]
    assert [heard.split()[1].rpartition(b"/")[2] for heard in server.heard] == [b"first", b"third"]


async def test_r1_a_call_cancelled_in_flight_keeps_its_slot_until_a_minute_after_its_answer(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    limits = Limits({"servers.get": 1})
    async with one_held_call(library, trusting, limits) as (_, server, gate, first):
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        await ticks(3)
        flying = limits["servers.get"].statistics()
        # No slot is on its way back: the request is still with the server, which may count it at any moment.
        assert (flying.used, flying.free, flying.next_slot) == (1, 0, None)
        gate.set()
        await eventually(lambda: limits["servers.get"].statistics().next_slot is not None)
        cooling = limits["servers.get"].statistics()
        assert (cooling.used, cooling.free) == (1, 0)
        assert 50.0 < (cooling.next_slot or 0.0) <= 60.1
        assert len(server.heard) == 1


async def test_r4_cancelling_one_caller_touches_no_other(library: ModuleType, trusting: ssl.SSLContext) -> None:
    gate = asyncio.Event()
    async with (
        Loopback(answers_when(gate, answer())) as server,
        make_transport(library, trusting, 4) as transport,
    ):
        calls = [asyncio.create_task(transport.send(request(server.url, number))) for number in range(12)]
        await server.until(lambda it: len(it.heard) == 4)
        for call in calls[::3]:
            call.cancel()
        gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        for number, each in enumerate(ended):
            assert isinstance(each, HttpResponse if number % 3 else asyncio.CancelledError)
        # Of those cancelled the first two were in flight, and the others were not sent.
        assert sorted(int(heard.split()[1][1:]) for heard in server.heard) == [0, 1, 2, 3, 4, 5, 7, 8, 10, 11]


async def test_a_caller_who_runs_out_of_time_leaves_the_connections_whole(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    gate = asyncio.Event()
    async with (
        Loopback(answers_when(gate, answer())) as server,
        make_transport(library, trusting, 2) as transport,
        asyncio.timeout(PATIENCE),
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await transport.send(request(server.url))
        with anyio.move_on_after(0.05) as scope:
            await transport.send(request(server.url))
        assert scope.cancelled_caught
        gate.set()
        for _ in range(10):
            assert (await transport.send(request(server.url))).status == 200
