"""Kept connections: one that breaks costs a request at most once, and what cannot be repeated goes on no stale one."""

from __future__ import annotations

import asyncio
import ssl
from types import ModuleType
from typing import Any

import pytest

from bms_async import HttpRequest, TransportError
from bms_async.transport._pool import IdleConnections
from tests.support.virtual_clock import run_virtually
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer


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
