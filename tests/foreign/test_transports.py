"""A transport of the application's own may raise anything, and it ends that call and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from bms_async import ForeignCodeError, HttpRequest, HttpResponse, JobStatus, ServerError, StaticToken, TransportError
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.transport import PendingRequest
from bms_async.transport.base import OwningTransport
from tests.support.virtual_clock import run_virtually

RAISED = [asyncio.CancelledError, SystemExit, GeneratorExit, KeyError]


class Own:
    """A transport around the cloud's, of which one method raises once."""

    def __init__(self, cloud: SimulatedCloud, fails: str, raised: type[BaseException]) -> None:
        inner = cloud.transport()
        assert isinstance(inner, OwningTransport)
        self._inner: OwningTransport = inner
        self._fails: str | None = fails
        self._raised = raised

    def _come_to(self, place: str) -> None:
        if place == self._fails:
            self._fails = None
            raise self._raised("of the application")

    async def open(self) -> None:
        self._come_to("open")
        await self._inner.open()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._come_to("aclose")

    def submit(self, request: HttpRequest) -> PendingRequest:
        self._come_to("submit")
        flight = self._inner.submit(request)
        if self._fails == "answer":
            self._fails = None
            if self._raised is asyncio.CancelledError:
                flight.response.cancel()
            else:
                flight.response.set_exception(self._raised("of the application"))
        return flight

    async def send(self, request: HttpRequest) -> HttpResponse:
        return await self._inner.send(request)


def _cloud() -> SimulatedCloud:
    return SimulatedCloud(CloudSettings(servers=3, job_seconds=(5, 20)))


def _wanted(raised: type[BaseException]) -> type[Exception]:
    return raised if issubclass(raised, Exception) else ForeignCodeError


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("place", ["open", "aclose"])
def test_what_opening_and_closing_a_transport_raises_is_an_error_of_the_client_that_does(
    place: str, raised: type[BaseException]
) -> None:
    async def main() -> None:
        cloud = _cloud()
        own = Own(cloud, place, raised)
        with pytest.raises(_wanted(raised)):
            async with cloud.client(transport=own) as bms:
                await bms.servers.get(cloud.ids[0])
        async with cloud.client() as bms:
            await bms.servers.get(cloud.ids[0])

    run_virtually(main)


@pytest.mark.parametrize("raised", RAISED)
def test_what_taking_a_request_raises_is_an_error_of_its_call(raised: type[BaseException]) -> None:
    async def main() -> None:
        cloud = _cloud()
        async with cloud.client(transport=Own(cloud, "submit", raised)) as bms:
            with pytest.raises(_wanted(raised)):
                await bms.servers.get(cloud.ids[0])
            await bms.servers.get(cloud.ids[0])

    run_virtually(main)


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, GeneratorExit])
def test_an_answer_that_is_cancelled_by_its_transport_is_one_that_did_not_come(raised: type[BaseException]) -> None:
    async def main() -> None:
        cloud = _cloud()
        async with cloud.client(transport=Own(cloud, "answer", raised), retry=None) as bms:
            with pytest.raises(TransportError) as caught:
                await bms.servers.get(cloud.ids[0])
            assert isinstance(caught.value.__cause__, raised)
            await bms.servers.get(cloud.ids[0])

    run_virtually(main)


class Odd:
    """A transport that answers with headers of other kinds than are expected."""

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    async def send(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=503, headers=self._headers, body=b"{}")


@pytest.mark.parametrize("headers", [{"Retry-After": "5"}, [("Retry-After", "5", "seconds")], [5], None])
def test_headers_that_are_no_pairs_are_an_error_while_sending(headers: object) -> None:
    async def main() -> None:
        cloud = _cloud()
        async with cloud.client(transport=Odd(headers), retry=None) as bms:
            with pytest.raises(TransportError, match="while sending") as caught:
                await bms.servers.reboot(cloud.ids)
            assert caught.value.maybe_delivered

    run_virtually(main)


@pytest.mark.parametrize("headers", [[["Retry-After", 5]], (pair for pair in [("Retry-After", "5")])])
def test_pairs_of_another_kind_are_headers(headers: object) -> None:
    async def main() -> None:
        cloud = _cloud()
        async with cloud.client(transport=Odd(headers), retry=None) as bms:
            with pytest.raises(ServerError) as caught:
                await bms.servers.get(cloud.ids[0])
            assert caught.value.retry_after == 5

    run_virtually(main)


def test_a_job_is_polled_again_when_a_poll_cancels_the_task_it_is_in() -> None:
    class Meddling:
        def __init__(self, token: str) -> None:
            self._inner = StaticToken(token)
            self.left = 2

        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            task = asyncio.current_task()
            if request.operation == "jobs.get" and self.left and task is not None:
                self.left -= 1
                task.cancel()
                await asyncio.sleep(0)
            return await self._inner.headers(request)

        def redact(self, text: str) -> str:
            return self._inner.redact(text)

    async def main() -> None:
        cloud = _cloud()
        auth: Any = Meddling(cloud.settings.token)
        async with cloud.client(auth=auth) as bms:
            job = await bms.servers.stop(cloud.ids)
            with anyio.fail_after(600):
                assert (await job).status is JobStatus.SUCCESS
        assert not auth.left

    run_virtually(main)
