"""R4: however a queue's tasks come to their end, nobody waits for what is not going to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bms_async import ClientClosedError, HttpRequest, HttpResponse, TransportError
from bms_async.transport import PendingRequest, SendQueue
from tests.transport.loopback import PATIENCE

REQUEST = HttpRequest(operation="servers.get", method="GET", url="http://127.0.0.1:1/x", headers={})
GOOD = HttpResponse(status=200)


async def at_once(request: HttpRequest) -> HttpResponse:
    return GOOD


async def never(request: HttpRequest) -> HttpResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def of_the_queue() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("bms_async")]


def cancel_all() -> None:
    for task in of_the_queue():
        task.cancel()


async def error_text(pending: PendingRequest) -> str:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ClientClosedError) as caught:
            await pending.wait()
    return str(caught.value)


Exchange = Callable[[HttpRequest], Awaitable[HttpResponse]]


@pytest.mark.parametrize("exchange", [at_once, never], ids=["idle workers", "busy workers"])
async def test_r4_once_all_tasks_are_cancelled_a_queue_refuses_and_what_waited_is_told_so(exchange: Exchange) -> None:
    queue = SendQueue(exchange, connections=2)
    await queue.open()
    before = [queue.submit(REQUEST) for _ in range(3)]
    await asyncio.sleep(0.01)
    cancel_all()
    # None of the tasks has run since.
    assert not queue.is_open
    with pytest.raises(ClientClosedError, match="its tasks were cancelled"):
        queue.submit(REQUEST)
    await asyncio.sleep(0.01)
    assert all(pending.response.done() for pending in before)
    await queue.aclose()


@pytest.mark.parametrize("exchange", [at_once, never], ids=["idle workers", "busy workers"])
async def test_r4_what_is_submitted_while_those_that_send_are_being_ended_is_told_so(exchange: Exchange) -> None:
    queue = SendQueue(exchange, connections=2)
    await queue.open()
    before = [queue.submit(REQUEST) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in of_the_queue():
        if task.get_name() != "bms_async sending":
            task.cancel()
    # They have not run since: the queue cannot know yet, and takes it.
    late = queue.submit(REQUEST)
    assert "was closed before the response arrived" in await error_text(late)
    assert not queue.is_open
    assert late.ended
    assert all(pending.response.done() for pending in before)
    await queue.aclose()


async def test_r4_a_request_whose_worker_was_ended_before_it_began_is_told_so() -> None:
    queue = SendQueue(at_once, connections=2)
    await queue.open()
    await asyncio.sleep(0)
    pending = queue.submit(REQUEST)
    cancel_all()
    assert "was closed before the response arrived" in await error_text(pending)
    assert queue.statistics().queued == 0
    await queue.aclose()


async def test_r4_what_waits_behind_a_worker_that_is_ended_alone_is_told_so_and_the_queue_goes_on() -> None:
    hangs = [True]

    async def hangs_once(request: HttpRequest) -> HttpResponse:
        return await (never if hangs and hangs.pop() else at_once)(request)

    queue = SendQueue(hangs_once, connections=1)
    await queue.open()
    first, second = queue.submit(REQUEST), queue.submit(REQUEST)
    await asyncio.sleep(0.01)
    (worker,) = [task for task in of_the_queue() if task.get_name() == "bms_async send"]
    worker.cancel()
    for pending in (first, second):
        assert "was closed before the response arrived" in await error_text(pending)
    assert await queue.submit(REQUEST).wait() is GOOD
    await queue.aclose()


async def test_r4_a_queue_that_others_share_does_not_open_again_when_its_tasks_were_ended() -> None:
    queue = SendQueue(at_once, connections=1)
    await queue.open()
    await asyncio.sleep(0)
    cancel_all()
    await asyncio.sleep(0.01)
    await queue.open()
    with pytest.raises(ClientClosedError):
        queue.submit(REQUEST)
    await queue.aclose()
    await queue.aclose()


class _EndsAll(BaseException):
    pass


@pytest.mark.parametrize(
    "raised",
    [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), _EndsAll(), MemoryError(), StopAsyncIteration()],
    ids=lambda each: type(each).__name__,
)
async def test_whatever_a_transport_raises_fails_that_request_and_nothing_else(raised: BaseException) -> None:
    line = [raised]

    async def breaks_once(request: HttpRequest) -> HttpResponse:
        if line:
            raise line.pop()
        return GOOD

    queue = SendQueue(breaks_once, connections=1)
    await queue.open()
    first, second = queue.submit(REQUEST), queue.submit(REQUEST)
    with pytest.raises(TransportError, match=f"{type(raised).__name__} while sending") as caught:
        await first.wait()
    assert caught.value.maybe_delivered
    assert await second.wait() is GOOD
    assert queue.is_open
    await queue.aclose()
    assert of_the_queue() == []
