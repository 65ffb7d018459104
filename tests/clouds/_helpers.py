"""What tests of many clouds have in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bms_async import BmsClient, CloudOutcome, HttpxTransport, OutcomeState, StaticToken, TransportError
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.wire import HttpRequest, HttpResponse


class Dead:
    """A transport to a cloud that is down."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        raise TransportError("connection refused", maybe_delivered=False)


class Unopened(HttpxTransport):
    """A transport that cannot be opened.

    Args:
        error: Why not.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self._error = error or OSError("secret words of a driver")

    async def open(self) -> None:
        raise self._error


def cloud_of(name: str, servers: int = 20, **settings: object) -> SimulatedCloud:
    """Make a cloud with a project of its own, which is its name; its servers follow from its name too."""
    seed = sum(map(ord, name))
    return SimulatedCloud(CloudSettings(servers=servers, seed=seed, project_id=name, **settings))  # type: ignore[arg-type]


def client_over(transport: object, project_id: str = "project") -> BmsClient:
    return BmsClient(
        endpoint="http://127.0.0.1:1",
        project_id=project_id,
        auth=StaticToken("a-token-of-some-length"),
        transport=transport,  # type: ignore[arg-type]
    )


def counted(outcomes: Iterable[CloudOutcome]) -> dict[tuple[str, OutcomeState], int]:
    """How many outcomes there are by cloud and state."""
    return dict(Counter((outcome.cloud, outcome.state) for outcome in outcomes))


def assert_one_each(ids: dict[str, list[str]], outcomes: Iterable[CloudOutcome]) -> None:
    """Each server of each cloud has one outcome (R2)."""
    expected = sorted((name, server_id) for name, servers in ids.items() for server_id in servers)
    assert sorted((outcome.cloud, outcome.server_id) for outcome in outcomes) == expected


@contextmanager
def nothing_is_left() -> Iterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before == set()
