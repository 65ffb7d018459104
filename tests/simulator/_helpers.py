"""A cloud in this process, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from bms_async.simulator import Cloud, CloudSettings, create_app

Open = Callable[..., tuple[Cloud, httpx.AsyncClient]]

TAGS = {"X-OpenStack-Nova-API-Version": "2.26"}


class Hand:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    return answer.status_code, body["error"]["code"] if "error" in body else body["error_code"]


def native_code_of(answer: httpx.Response) -> tuple[int, str]:
    ((key, body),) = answer.json().items()
    assert body["code"] == answer.status_code
    assert body["message"]
    return answer.status_code, key


class World(NamedTuple):
    """A cloud, the hand on its clock, and a client of each of its APIs."""

    cloud: Cloud
    hand: Hand
    bms: httpx.AsyncClient
    nova: httpx.AsyncClient

    @property
    def ids(self) -> list[str]:
        return list(self.cloud.servers)

    async def finish(self, accepted: httpx.Response) -> dict[str, Any]:
        """Wait until a job is over, and read it."""
        assert accepted.is_success, accepted.text
        self.hand.now += 1000
        read = await self.bms.get(f"/jobs/{accepted.json()['job_id']}")
        assert read.status_code == 200
        body = read.json()
        assert isinstance(body, dict)
        return body

    async def server(self, server_id: str) -> dict[str, Any]:
        """A server as the BMS API shows it."""
        body = (await self.bms.get(f"/baremetalservers/{server_id}")).json()["server"]
        assert isinstance(body, dict)
        return body


Worlds = Callable[..., World]


def open_client(cloud: Cloud, prefix: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=create_app(cloud)),
        base_url=f"http://bms.test/{prefix}/{cloud.settings.project_id}",
        headers={"X-Auth-Token": cloud.settings.token},
    )


def make_cloud(clock: Callable[[], float], settings: dict[str, Any]) -> Cloud:
    return Cloud(CloudSettings(**{"servers": 100, **settings}), clock)
