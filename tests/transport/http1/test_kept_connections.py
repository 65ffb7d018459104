"""Kept connections of our own: none is used for longer than is safe (R3)."""

from __future__ import annotations

import pytest

from bms_async import Http1Transport
from tests.transport.http1._requests import request
from tests.transport.loopback import Loopback, answer, answers


async def send_and_idle(transport: Http1Transport, server: Loopback, seconds: float) -> None:
    """Send a request, and make its connection look idle for so long."""
    await transport.send(request(server.url))
    for members in transport._queue._idle._routes.values():
        members[:] = [(connection, since - seconds) for connection, since in members]


@pytest.mark.parametrize(
    ("method", "seconds", "connections"),
    [("GET", 5.0, 1), ("HEAD", 5.0, 1), ("GET", 16.0, 2), ("POST", 0.1, 1), ("POST", 1.5, 2), ("DELETE", 1.5, 2)],
)
async def test_what_cannot_be_repeated_goes_on_a_connection_used_just_now_or_on_a_new_one(
    method: str, seconds: float, connections: int
) -> None:
    async with Loopback(answers(answer(body=b""))) as server, Http1Transport() as transport:
        await send_and_idle(transport, server, seconds)
        assert (await transport.send(request(server.url, method))).status == 200
        assert server.accepted == connections


@pytest.mark.parametrize(
    ("keep_alive", "seconds", "connections"),
    [("timeout=9", 1.0, 1), ("timeout=9", 8.5, 2), ("max=100, Timeout=5", 4.5, 2), ("timeout=60", 16.0, 2)],
)
async def test_a_connection_is_not_used_longer_than_the_server_announced(
    keep_alive: str, seconds: float, connections: int
) -> None:
    async with Loopback(answers(answer(keep_alive=keep_alive))) as server, Http1Transport() as transport:
        await send_and_idle(transport, server, seconds)
        await transport.send(request(server.url))
        assert server.accepted == connections
