"""A call that closing the client ends: its caller learns so, and is not left cancelled (R4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest

from bms_async import BmsClient, ClientClosedError, Limits, Server, StaticToken, TransportError
from bms_async.wire import HttpRequest, HttpResponse
from tests.support.mocked import ENDPOINT, PROJECT, SERVER_ID, TOKEN, virtually


class Silent:
    """A transport that counts what it is given, and answers nothing."""

    def __init__(self) -> None:
        self.requests = 0

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests += 1
        await asyncio.Event().wait()
        raise AssertionError(request)


class Credentials:
    """Credentials whose headers are what a test awaits first."""

    def __init__(self, before: Callable[[], Awaitable[object]]) -> None:
        self._before = before

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        del request
        await self._before()
        return {"X-Auth-Token": TOKEN}

    def redact(self, text: str) -> str:
        return text


@asynccontextmanager
async def client_over(
    transport: Silent, *, before: Callable[[], Awaitable[object]] | None = None, total_timeout: float | None = None
) -> AsyncIterator[BmsClient]:
    async with BmsClient(
        endpoint=ENDPOINT,
        project_id=PROJECT,
        auth=StaticToken(TOKEN) if before is None else Credentials(before),
        transport=transport,
        limits=Limits({"servers.get": 1}),
        total_timeout=total_timeout,
    ) as bms:
        yield bms


async def remaining(call: Awaitable[Server], ends: list[object]) -> int:
    """Await a call, note how it ended, and return how often the task still counts as cancelled."""
    try:
        ends.append(await call)
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        ends.append(error)
    task = asyncio.current_task()
    assert task is not None
    # Whoever was not really cancelled can wait again.
    await asyncio.sleep(1)
    return task.cancelling()


@pytest.mark.parametrize("total_timeout", [None, 600.0])
@virtually
async def test_a_caller_whose_client_is_closed_goes_on_as_if_nothing_had_cancelled_it(
    total_timeout: float | None,
) -> None:
    ends: list[object] = []
    async with client_over(Silent(), total_timeout=total_timeout) as bms:
        # The first waits for its response, and the second for its slot.
        tasks = [asyncio.ensure_future(remaining(bms.servers.get(SERVER_ID), ends)) for _ in range(2)]
        await asyncio.sleep(5)
        await bms.aclose()
    assert await asyncio.gather(*tasks) == [0, 0]
    assert [type(end) for end in ends] == [ClientClosedError, ClientClosedError]
    assert all("servers.get: the client was closed" in str(end) for end in ends)


@virtually
async def test_a_caller_that_is_cancelled_while_its_client_is_closed_is_cancelled() -> None:
    async with client_over(Silent()) as bms:
        task = asyncio.ensure_future(bms.servers.get(SERVER_ID))
        await asyncio.sleep(5)
        closing = asyncio.ensure_future(bms.aclose())
        task.cancel()
        await closing
        await asyncio.wait({task})
    assert task.cancelled()


@virtually
async def test_an_outer_deadline_still_counts_after_a_call_that_closing_has_ended() -> None:
    ends: list[object] = []
    async with client_over(Silent()) as bms:

        async def outer() -> bool:
            with anyio.move_on_after(60) as scope:
                await remaining(bms.servers.get(SERVER_ID), ends)
                await asyncio.sleep(600)
            return scope.cancelled_caught

        task = asyncio.ensure_future(outer())
        await asyncio.sleep(5)
        await bms.aclose()
        assert await task
    assert [type(end) for end in ends] == [ClientClosedError]


@virtually
async def test_credentials_that_swallow_the_end_of_a_call_do_not_have_it_sent() -> None:
    ends: list[object] = []
    transport = Silent()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)

    async with client_over(transport, before=stubborn) as bms:
        task = asyncio.ensure_future(remaining(bms.servers.get(SERVER_ID), ends))
        await asyncio.sleep(5)
        await bms.aclose()
        assert await task == 0
    assert [type(end) for end in ends] == [ClientClosedError]
    assert transport.requests == 0


@pytest.mark.parametrize("total_timeout", [None, 600.0])
@virtually
async def test_credentials_that_turn_the_end_of_a_call_into_an_error_do_not_have_it_retried(
    total_timeout: float | None,
) -> None:
    transport = Silent()

    async def evasive() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TransportError("no token", maybe_delivered=False) from None

    async with client_over(transport, before=evasive, total_timeout=total_timeout) as bms:
        task = asyncio.ensure_future(bms.servers.get(SERVER_ID))
        await asyncio.sleep(5)
        await bms.aclose()
        assert task.done()
        assert isinstance(task.exception(), ClientClosedError)
    assert transport.requests == 0


@virtually
async def test_credentials_that_close_the_client_end_their_own_call() -> None:
    ends: list[object] = []
    transport = Silent()
    clients: list[BmsClient] = []

    async def close() -> None:
        await clients[0].aclose()

    async with client_over(transport, before=close) as bms:
        clients.append(bms)
        assert await remaining(bms.servers.get(SERVER_ID), ends) == 0
    assert [type(end) for end in ends] == [ClientClosedError]
    assert transport.requests == 0


@virtually
async def test_a_response_that_comes_as_the_client_is_closed_leaves_no_cancellation_behind() -> None:
    ends: list[object] = []
    came: list[asyncio.Future[HttpResponse]] = []

    class Held(Silent):
        async def send(self, request: HttpRequest) -> HttpResponse:
            came.append(asyncio.get_running_loop().create_future())
            return await came[-1]

    async with client_over(Held()) as bms:
        task = asyncio.ensure_future(remaining(bms.servers.get(SERVER_ID), ends))
        await asyncio.sleep(5)
        came[0].set_result(HttpResponse(status=200, body=b'{"server": {"id": "%s"}}' % SERVER_ID.encode()))
        await bms.aclose()
        assert await task == 0
    assert [type(end) for end in ends] in ([Server], [ClientClosedError])


@virtually
async def test_closing_cancels_no_task_that_has_left_its_call_meanwhile() -> None:
    tasks: list[asyncio.Task[None]] = []
    left = interrupted = 0

    async def caller(bms: BmsClient) -> None:
        nonlocal left, interrupted
        with pytest.raises((asyncio.CancelledError, ClientClosedError)):
            await bms.servers.get(SERVER_ID)
        left += 1
        if left == 1:
            # More calls are open than are ended at a time: this one ends before closing has come to the others.
            for task in tasks:
                if not task.cancelling() and task is not asyncio.current_task():
                    task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            interrupted += 1

    async with client_over(Silent()) as bms:
        tasks += [asyncio.ensure_future(caller(bms)) for _ in range(1_000)]
        await asyncio.sleep(5)
        await bms.aclose()
    await asyncio.gather(*tasks)
    assert (left, interrupted) == (1_000, 0)
