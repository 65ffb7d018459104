"""A transport of one's own: an object with `send` is enough, and gets the same care as ours."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from bms_async import (
    BmsClient,
    BmsError,
    ClientClosedError,
    HttpRequest,
    HttpResponse,
    Limits,
    StaticToken,
    Transport,
    TransportError,
)
from tests.transport.loopback import PATIENCE, eventually

GOOD = HttpResponse(status=200, body=b'{"server": {"id": "s-1", "name": "bms-1"}}')


class Minimal:
    """Has `send` and nothing else."""

    def __init__(self, answer: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        self.begun: list[HttpRequest] = []
        self.ended = 0
        self.cancelled = 0
        self._answer = answer

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.begun.append(request)
        try:
            response = await self._answer(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return response


def bms_with(transport: Transport, limits: Limits | None = None) -> BmsClient:
    return BmsClient(
        endpoint="http://localhost",
        project_id="p",
        auth=StaticToken("t"),
        transport=transport,
        limits=limits,
        retry=None,
    )


async def at_once(request: HttpRequest) -> HttpResponse:
    return GOOD


async def test_a_transport_needs_nothing_but_send() -> None:
    transport = Minimal(at_once)
    assert isinstance(transport, Transport)
    async with bms_with(transport) as bms:
        assert (await bms.servers.get("s-1")).name == "bms-1"
    (sent,) = transport.begun
    assert (sent.operation, sent.method, sent.url) == (
        "servers.get",
        "GET",
        "http://localhost/v1/p/baremetalservers/s-1",
    )
    assert sent.headers["X-Auth-Token"] == "t"


async def test_a_cancelled_caller_does_not_cancel_send() -> None:
    gate = asyncio.Event()

    async def when_open(request: HttpRequest) -> HttpResponse:
        await gate.wait()
        return GOOD

    transport = Minimal(when_open)
    async with bms_with(transport, Limits({"servers.get": 200})) as bms:
        calls = [asyncio.create_task(bms.servers.get("s-1")) for _ in range(100)]
        await eventually(lambda: len(transport.begun) == 64)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        gate.set()
        assert (await bms.servers.get("s-1")).name == "bms-1"
        # 64 were under way and came to their end; the others were still waiting and never began.
        assert (len(transport.begun), transport.ended, transport.cancelled) == (65, 65, 0)


async def test_closing_the_client_ends_send() -> None:
    async def never(request: HttpRequest) -> HttpResponse:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    transport = Minimal(never)
    async with bms_with(transport) as bms:
        call = asyncio.create_task(bms.servers.get("s-1"))
        await eventually(lambda: bool(transport.begun))
    with pytest.raises(ClientClosedError, match=r"servers\.get: the client was closed before the response arrived"):
        await call
    assert transport.cancelled == 1


class BrokenError(Exception):
    """Not one of ours, and so not known to callers."""


@pytest.mark.parametrize(
    "raised", [BrokenError("pipe"), ValueError("pipe"), TimeoutError("pipe"), asyncio.CancelledError("pipe")]
)
async def test_whatever_send_raises_is_a_transport_error_with_its_cause(raised: BaseException) -> None:
    failures = [raised]

    async def fail_once(request: HttpRequest) -> HttpResponse:
        if failures:
            raise failures.pop()
        return GOOD

    async with bms_with(Minimal(fail_once)) as bms, asyncio.timeout(PATIENCE):
        with pytest.raises(TransportError) as caught:
            await bms.servers.get("s-1")
        # What such a transport did before it broke, nobody knows.
        assert caught.value.maybe_delivered
        assert caught.value.operation == "servers.get"
        assert type(raised).__name__ in str(caught.value)
        cause = caught.value.__cause__
        assert cause is raised or isinstance(cause, asyncio.CancelledError)
        assert (await bms.servers.get("s-1")).name == "bms-1"


@pytest.mark.parametrize("delivered", [True, False])
async def test_a_transport_error_of_its_own_arrives_as_it_is(delivered: bool) -> None:
    async def refuse(request: HttpRequest) -> HttpResponse:
        raise TransportError("the wire is cut", maybe_delivered=delivered, operation=request.operation)

    async with bms_with(Minimal(refuse)) as bms:
        with pytest.raises(TransportError, match=r"^servers\.get: the wire is cut") as caught:
            await bms.servers.get("s-1")
        assert caught.value.maybe_delivered is delivered


async def test_another_error_of_ours_arrives_as_it_is() -> None:
    async def refuse(request: HttpRequest) -> HttpResponse:
        raise ClientClosedError("the wire was taken down")

    async with bms_with(Minimal(refuse)) as bms:
        with pytest.raises(BmsError, match="the wire was taken down"):
            await bms.servers.get("s-1")


async def test_what_a_caller_has_set_is_not_set_while_the_requests_of_others_are_sent() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen = []

    async def answer(request: HttpRequest) -> HttpResponse:
        seen.append(who.get())
        return GOOD

    who.set("the application")
    async with bms_with(Minimal(answer)) as bms:
        who.set("the first caller")
        await bms.servers.get("s-1")
        who.set("the second caller")
        await bms.servers.get("s-1")
    assert seen == ["the application", "the application"]


TOKEN = "token-of-the-transport"


@pytest.mark.parametrize(
    "raised",
    [
        lambda request: ValueError(f"cannot send {request.headers['X-Auth-Token']}"),
        lambda request: UnicodeEncodeError("ascii", request.headers["X-Auth-Token"], 0, 1, "no"),
        lambda request: ExceptionGroup(
            "two", [KeyError(dict(request.headers)), OSError(request.headers["X-Auth-Token"])]
        ),
    ],
    ids=["a ValueError", "a UnicodeEncodeError", "a group"],
)
async def test_r5_what_a_transport_raises_is_no_cause_where_it_quotes_what_was_sent(
    raised: Callable[[HttpRequest], Exception],
) -> None:
    async def fail(request: HttpRequest) -> HttpResponse:
        raise raised(request)

    bms = BmsClient(endpoint="http://localhost:1", project_id="p", auth=StaticToken(TOKEN), transport=Minimal(fail))
    async with bms:
        with pytest.raises(TransportError) as caught:
            await bms.servers.reboot(["s-1"])

    assert caught.value.maybe_delivered
    assert caught.value.__cause__ is None
    assert TOKEN not in "".join(traceback.format_exception_only(caught.value))
