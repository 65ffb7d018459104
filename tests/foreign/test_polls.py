"""A poll in which foreign code raises is one failed poll: it is polled again, and only patience ends that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsClient,
    ForeignCodeError,
    HttpRequest,
    JobLostError,
    JobStatus,
    Patience,
    ServerLostError,
    StaticToken,
)
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.virtual_clock import run_virtually

RAISED = [asyncio.CancelledError, SystemExit, GeneratorExit, KeyError]


class Credentials:
    """The cloud's credentials, which raise at one operation: so often, or for ever."""

    def __init__(self, cloud: SimulatedCloud, operation: str, raised: type[BaseException], times: float) -> None:
        self._inner = StaticToken(cloud.settings.token)
        self._operation = operation
        self._raised = raised
        self._left = times
        self.asked = 0

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        if request.operation == self._operation:
            self.asked += 1
            if self._left > 0:
                self._left -= 1
                raise self._raised("of the application")
        return await self._inner.headers(request)

    def redact(self, text: str) -> str:
        return self._inner.redact(text)


def _setup(
    operation: str, raised: type[BaseException], times: float, **options: Any
) -> tuple[SimulatedCloud, BmsClient]:
    cloud = SimulatedCloud(CloudSettings(servers=3, job_seconds=(5, 20)))
    return cloud, cloud.client(auth=Credentials(cloud, operation, raised, times), **options)


@pytest.mark.parametrize("raised", RAISED)
def test_a_job_is_polled_again_when_foreign_code_raised_in_a_poll(
    raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        cloud, client = _setup("jobs.get", raised, 2)
        async with client as bms:
            job = await bms.servers.stop(cloud.ids)
            with anyio.fail_after(600):
                done = await job
        assert done.status is JobStatus.SUCCESS
        assert bms.statistics().watcher.failed_polls == 2

    run_virtually(main)
    assert caplog.text.count("of the application") >= 1
    assert sum("broke" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("raised", RAISED)
def test_a_job_is_lost_when_foreign_code_raises_for_longer_than_patience(raised: type[BaseException]) -> None:
    async def main() -> None:
        cloud, client = _setup("jobs.get", raised, float("inf"), patience=Patience(failing=120.0))
        async with client as bms:
            job = await bms.servers.stop(cloud.ids)
            begun = anyio.current_time()
            with pytest.raises(JobLostError, match="could not be read for 120 s") as caught:
                await job
            assert 120 <= anyio.current_time() - begun < 200
        assert isinstance(caught.value.__cause__, KeyError if raised is KeyError else ForeignCodeError)

    run_virtually(main)


@pytest.mark.parametrize("raised", RAISED)
def test_a_server_is_polled_again_when_foreign_code_raised_in_a_poll(raised: type[BaseException]) -> None:
    async def main() -> None:
        cloud, client = _setup("nova.servers.get", raised, 2)
        async with client as bms:
            with anyio.fail_after(600):
                server = await bms.nova.servers.wait_for(cloud.ids[0], "ACTIVE")
        assert server is not None
        assert server.status == "ACTIVE"

    run_virtually(main)


@pytest.mark.parametrize("raised", RAISED)
def test_a_wait_for_a_server_ends_when_foreign_code_raises_for_longer_than_patience(
    raised: type[BaseException],
) -> None:
    async def main() -> None:
        cloud, client = _setup("nova.servers.get", raised, float("inf"), patience=Patience(failing=120.0))
        async with client as bms:
            with anyio.fail_after(600), pytest.raises(ServerLostError, match="could not be read for 120 s"):
                await bms.nova.servers.wait_for(cloud.ids[0], "ACTIVE")

    run_virtually(main)


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("operation", ["servers.list", "nova.servers.list"])
def test_what_foreign_code_raises_for_a_page_is_raised_to_its_reader(
    operation: str, raised: type[BaseException]
) -> None:
    async def main() -> None:
        cloud, client = _setup(operation, raised, 1)
        async with client as bms:
            servers = bms.nova.servers if operation.startswith("nova") else bms.servers
            with pytest.raises(KeyError if raised is KeyError else ForeignCodeError):
                [server async for server in servers.list()]
            assert {server.id async for server in servers.list()} == set(cloud.ids)

    run_virtually(main)


class SilentCredentials(Credentials):
    """Credentials that never answer at one operation."""

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        if request.operation == self._operation:
            await anyio.sleep_forever()
        return await self._inner.headers(request)


def test_a_job_whose_polls_have_no_end_is_lost_once_patience_is_over() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=3, job_seconds=(5, 20)))
        async with cloud.client(auth=SilentCredentials(cloud, "jobs.get", KeyError, 0)) as bms:
            job = await bms.servers.stop(cloud.ids)
            begun = anyio.current_time()
            with anyio.fail_after(7200), pytest.raises(JobLostError) as caught:
                await job
            assert 3600 <= anyio.current_time() - begun < 3700
        assert isinstance(caught.value.__cause__, TimeoutError)

    run_virtually(main)


def test_a_wait_for_a_server_whose_polls_have_no_end_is_over_once_patience_is() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=3))
        async with cloud.client(auth=SilentCredentials(cloud, "nova.servers.get", KeyError, 0)) as bms:
            with anyio.fail_after(7200), pytest.raises(ServerLostError, match="could not be read for 3600 s"):
                await bms.nova.servers.wait_for(cloud.ids[0], "SHUTOFF")

    run_virtually(main)


def test_a_short_patience_cuts_no_poll_short_that_has_to_wait() -> None:
    class Slow(SilentCredentials):
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            if request.operation == self._operation:
                await anyio.sleep(100)
            return await self._inner.headers(request)

    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=3, job_seconds=(5, 20)))
        auth = Slow(cloud, "jobs.get", KeyError, 0)
        async with cloud.client(auth=auth, patience=Patience(failing=1.0)) as bms:
            done = await (await bms.servers.stop(cloud.ids))
        assert done.status is JobStatus.SUCCESS

    run_virtually(main)
