"""Kept connections: one that breaks costs a request at most once, and what cannot be repeated goes on no stale one."""

from __future__ import annotations

import asyncio
import ssl
from types import ModuleType
from typing import Any

import pytest

from bms_async import HttpRequest, TransportError
from bms_async.transport._connection import IdleConnections
from bms_async.transport.aiohttp import AiohttpTransport
from tests.support.real_clock import stand_still
from tests.support.virtual_clock import run_virtually
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, answers, answers_when


def request(url: str, method: str = "GET", body: bytes = b"") -> HttpRequest:
    return HttpRequest(operation="servers.get", method=method, url=f"{url}/x", headers={}, body=body, timeout=PATIENCE)


def first_answers_then(*, resets: bool) -> Behaviour:
    """Answer the first request of a connection, read the second, and break off."""

    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())
        await talk.hear()
        if resets:
            talk.reset()

    return behave


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("resets", [True, False])
async def test_a_request_that_breaks_a_kept_connection_is_not_sent_again(
    library: ModuleType, trusting: ssl.SSLContext, method: str, resets: bool
) -> None:
    async with Loopback(first_answers_then(resets=resets)) as server, make_transport(library, trusting) as transport:
        await transport.send(request(server.url))
        with pytest.raises(TransportError) as caught:
            await transport.send(request(server.url, method))
        # It was read, so the error must not say that it was not.
        assert caught.value.maybe_delivered
        assert [heard.split()[0].decode() for heard in server.heard] == ["GET", method]
        assert server.accepted == 1
        assert (await transport.send(request(server.url))).status == 200


@pytest.mark.parametrize("read", [0, 1, 40, 10_000])
@pytest.mark.parametrize("resets", [True, False])
async def test_a_request_of_which_a_part_was_read_is_not_said_to_have_stayed(
    library: ModuleType, trusting: ssl.SSLContext, read: int, resets: bool
) -> None:
    async def reads_a_part(talk: Talk) -> None:
        if read:
            await talk._reader.readexactly(read)
        if resets:
            talk.reset()

    async with Loopback(reads_a_part) as server, make_transport(library, trusting) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(request(server.url, "POST", b"x" * 20_000))
        assert caught.value.maybe_delivered
        assert server.accepted == 1


async def send_and_idle(transport: AiohttpTransport, server: Loopback, seconds: float) -> None:
    """Send a request, and make its connection idle for exactly so long, by a clock that stands still from then on."""
    await transport.send(request(server.url))
    stand_still()
    now = asyncio.get_running_loop().time()
    for connections in transport._idle.values():
        for connection in connections:
            connection.idle_since = now - seconds


@pytest.mark.parametrize(
    ("method", "seconds", "connections"),
    [("GET", 14.0, 1), ("GET", 16.0, 2), ("POST", 0.5, 1), ("POST", 1.5, 2), ("DELETE", 1.5, 2), ("PUT", 14.0, 2)],
)
async def test_what_cannot_be_repeated_goes_on_a_connection_used_just_now_or_on_a_new_one(
    method: str, seconds: float, connections: int
) -> None:
    async with Loopback(answers(answer())) as server, AiohttpTransport() as transport:
        await send_and_idle(transport, server, seconds)
        assert (await transport.send(request(server.url, method))).status == 200
        assert server.accepted == connections


@pytest.mark.parametrize(
    ("keep_alive", "seconds", "connections"),
    [
        ("timeout=5", 3.5, 1),
        ("timeout=5", 4.5, 2),
        ("max=100, Timeout=5", 4.5, 2),
        ("timeout=1", 0.0, 2),
        ("timeout=60", 14.0, 1),
        ("timeout=60", 16.0, 2),
        ("timeout=soon", 14.0, 1),
        ("yes", 14.0, 1),
    ],
)
async def test_a_connection_is_not_used_longer_than_the_server_announced(
    keep_alive: str, seconds: float, connections: int
) -> None:
    async with Loopback(answers(answer(keep_alive=keep_alive))) as server, AiohttpTransport() as transport:
        await send_and_idle(transport, server, seconds)
        await transport.send(request(server.url))
        assert server.accepted == connections


async def test_an_idle_connection_is_closed_though_nobody_asks_for_it() -> None:
    async with Loopback(answers(answer())) as server, AiohttpTransport(keep_alive=0.02) as transport:
        await transport.send(request(server.url))
        await server.until(lambda it: it.open == 0)
        assert transport._idle.count == 0


async def all_at_once(number: int, transport: AiohttpTransport, server: Loopback, gate: asyncio.Event) -> None:
    """Send so many requests, none of which is answered before all have come."""
    calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(number)]
    await server.until(lambda it: len(it.heard) == number)
    gate.set()
    await asyncio.gather(*calls)


async def test_the_connection_used_last_is_used_first() -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, AiohttpTransport() as transport:
        await all_at_once(4, transport, server, gate)
        (connections,) = transport._idle.values()
        last = connections[-1]
        await transport.send(request(server.url))
        assert connections[-1] is last
        assert len(connections) == server.accepted == 4


async def test_an_unasked_answer_on_an_idle_connection_is_not_taken_for_the_next_one() -> None:
    async def says_too_much(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer(body=b'"mine"') + answer(body=b'"not mine"'))
        await talk.until_gone()

    async with Loopback(says_too_much) as server, AiohttpTransport() as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url))).body == b'"mine"'
        assert server.accepted == 2


async def test_idle_connections_to_one_address_make_room_for_another() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    async with (
        Loopback(answers_when(gates[0], answer())) as one,
        Loopback(answers_when(gates[1], answer())) as other,
        AiohttpTransport(connections=3) as transport,
        asyncio.timeout(PATIENCE),
    ):
        await all_at_once(3, transport, one, gates[0])
        assert one.open == 3
        await all_at_once(2, transport, other, gates[1])
        await one.until(lambda it: it.open == 1)
        assert (other.open, transport._idle.count) == (2, 3)


class FakeConnection:
    """Takes the place of a connection."""

    def __init__(self, idle_limit: float = 15.0) -> None:
        self.idle_since = 0.0
        self.idle_limit = idle_limit
        self.usable = True
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_idle_connections_are_swept_by_one_timer_for_all() -> None:
    async def scenario() -> list[int]:
        idle: Any = IdleConnections(15.0)
        connections = [FakeConnection(), FakeConnection(idle_limit=4.0), FakeConnection()]
        for connection in connections:
            idle.put("route", connection)
        connections[2].usable = False
        before = [connection.closed for connection in connections]
        await asyncio.sleep(23.0)
        assert before == [0, 0, 0]
        assert idle == {}
        late = FakeConnection()
        idle.put("route", late)
        await asyncio.sleep(10.0)
        assert idle.pop_idle("route", replayable=False) is None
        assert idle.pop_idle("route", replayable=True) is late
        idle.close()
        return [connection.closed for connection in connections]

    assert run_virtually(scenario) == [1, 1, 1]
