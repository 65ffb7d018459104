"""Native calls use no connection twice, and leave the pool whole (API reference, chapter 2)."""

from __future__ import annotations

import asyncio
from types import ModuleType

import httpx
import httpx2
import pytest

from bms_async import BmsClient, HttpxTransport, StaticToken
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer

SERVER = b'{"server": {"id": "a"}}'


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


class Connections:
    """Answers without a word of closing, as a server that would keep each connection for ever, and notes what came."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []

    async def __call__(self, talk: Talk) -> None:
        mine: list[str] = []
        self.heard.append(mine)
        while (request := await talk.hear()) is not None:
            mine.append("native" if b" /v2.1/" in request else "bms")
            await talk.say(answer(body=SERVER))


def client_of(
    server: Loopback, library: ModuleType, connections: int = 4, compute_endpoint: str | None = None
) -> BmsClient:
    carrier = library.AsyncClient(trust_env=False, limits=library.Limits(max_connections=connections))
    return BmsClient(
        endpoint=server.url,
        compute_endpoint=compute_endpoint,
        project_id="p",
        auth=StaticToken("t"),
        transport=HttpxTransport(carrier),
        retry=None,
    )


async def test_each_native_call_has_a_connection_of_its_own(library: ModuleType) -> None:
    async with Loopback(Connections()) as server, client_of(server, library) as bms:
        for _ in range(5):
            assert (await bms.nova.servers.get("a")).id == "a"
        assert (server.accepted, len(server.heard)) == (5, 5)
        assert all(b"connection: close\r\n" in heard.lower() for heard in server.heard)
        await server.until(lambda it: it.open == 0)


async def test_a_native_call_is_the_last_on_its_connection_also_where_the_services_share_an_address(
    library: ModuleType,
) -> None:
    connections = Connections()
    async with Loopback(connections) as server, client_of(server, library) as bms:
        for kind in ("bms", "bms", "native", "native", "bms", "bms"):
            await (bms.servers if kind == "bms" else bms.nova.servers).get("a")
        await server.until(lambda it: it.open == 1)
    # One address has one pool, so that a native call may end a connection that others have kept; none comes after it.
    assert connections.heard == [["bms", "bms", "native"], ["native"], ["bms", "bms"]]


async def test_where_the_services_have_addresses_of_their_own_no_connection_is_shared(library: ModuleType) -> None:
    of_bms, of_ecs = Connections(), Connections()
    async with (
        Loopback(of_bms) as bms_service,
        Loopback(of_ecs) as ecs_service,
        client_of(bms_service, library, compute_endpoint=ecs_service.url) as bms,
    ):
        for _ in range(3):
            await bms.servers.get("a")
            await bms.nova.servers.get("a")
    assert of_bms.heard == [["bms", "bms", "bms"]]
    assert of_ecs.heard == [["native"], ["native"], ["native"]]


async def test_many_at_once_leave_the_pool_whole(library: ModuleType) -> None:
    async with Loopback(Connections()) as server, client_of(server, library, connections=3) as bms:
        async with asyncio.timeout(PATIENCE):
            read = await asyncio.gather(*(bms.nova.servers.get("a") for _ in range(60)))
            assert [each.id for each in read] == ["a"] * 60
            assert server.peak <= 3
            # As many again, and mixed with calls that keep their connection.
            await asyncio.gather(
                *(bms.nova.servers.get("a") for _ in range(20)), *(bms.servers.get("a") for _ in range(20))
            )
        assert len(server.heard) == 100
