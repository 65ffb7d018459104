"""Clouds in this process for the tests of the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from bms_async.simulator import Cloud
from tests.simulator._helpers import Hand, Open, World, Worlds, make_cloud, open_client


@pytest.fixture
async def clients() -> AsyncIterator[list[httpx.AsyncClient]]:
    opened: list[httpx.AsyncClient] = []
    yield opened
    for client in opened:
        await client.aclose()


@pytest.fixture
def served(clients: list[httpx.AsyncClient]) -> Open:
    """Open a cloud and a client that may call it."""

    def serve(clock: Callable[[], float] | None = None, **settings: Any) -> tuple[Cloud, httpx.AsyncClient]:
        cloud = make_cloud(clock or Hand(), settings)
        clients.append(open_client(cloud, "v1"))
        return cloud, clients[-1]

    return serve


@pytest.fixture
def world(clients: list[httpx.AsyncClient]) -> Worlds:
    """Open a cloud and clients of both of its APIs."""

    def serve(**settings: Any) -> World:
        hand = Hand()
        cloud = make_cloud(hand, {"servers": 12, **settings})
        bms, nova = open_client(cloud, "v1"), open_client(cloud, "v2.1")
        clients.extend((bms, nova))
        return World(cloud, hand, bms, nova)

    return serve
