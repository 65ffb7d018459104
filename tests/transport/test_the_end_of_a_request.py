"""A request ends once, however it ends: its callback counts."""

from __future__ import annotations

import asyncio

import pytest

from bms_async import ClientClosedError, TransportError
from bms_async.transport import PendingRequest, SendQueue
from bms_async.wire import HttpRequest, HttpResponse
from tests.support.virtual_clock import advance, run_virtually


def request() -> HttpRequest:
    return HttpRequest(operation="x", method="GET", url="https://bms.example.com/", headers={}, body=b"", timeout=60.0)


async def never(_: HttpRequest) -> HttpResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("index", [0, 1])
def test_a_request_that_nobody_waits_for_ends_with_the_transport_once(index: int) -> None:
    async def main() -> None:
        queue = SendQueue(never, connections=1)
        await queue.open()
        submitted = [queue.submit(request()) for _ in range(2)]
        ended: list[PendingRequest] = []
        submitted[index].add_done_callback(ended.append)
        await advance(1)
        assert [pending.sent for pending in submitted] == [True, False]
        assert ended == []
        await queue.aclose()
        assert ended == [submitted[index]]
        with pytest.raises(ClientClosedError):
            await submitted[index].wait()
        assert ended == [submitted[index]]

    run_virtually(main)


def test_a_request_that_is_left_before_it_is_sent_ends_at_once_and_once() -> None:
    async def main() -> None:
        answer = asyncio.Event()

        async def exchange(_: HttpRequest) -> HttpResponse:
            await answer.wait()
            return HttpResponse(status=200, headers=(), body=b"")

        queue = SendQueue(exchange, connections=1)
        await queue.open()
        first, second = queue.submit(request()), queue.submit(request())
        ended: list[PendingRequest] = []
        second.add_done_callback(ended.append)
        waiting = asyncio.ensure_future(second.wait())
        await advance(1)
        waiting.cancel()
        await advance(1)
        assert ended == [second]
        answer.set()
        await first.wait()
        await advance(1)
        # It was passed over, and not sent.
        assert queue.statistics().sent == 1
        assert ended == [second]
        late: list[PendingRequest] = []
        second.add_done_callback(late.append)
        assert late == [second]
        await queue.aclose()

    run_virtually(main)


def test_a_request_whose_slot_runs_out_while_it_waits_for_a_connection_is_not_sent() -> None:
    async def main() -> None:
        answer = asyncio.Event()

        async def exchange(_: HttpRequest) -> HttpResponse:
            await answer.wait()
            return HttpResponse(status=200, headers=(), body=b"")

        queue = SendQueue(exchange, connections=1)
        await queue.open()
        first, second, third = (queue.submit(request()) for _ in range(3))
        second.require(lambda: False)
        third.require(lambda: True)
        ended: list[PendingRequest] = []
        second.add_done_callback(ended.append)
        answer.set()
        await first.wait()
        with pytest.raises(TransportError, match="lease of its slot was over") as caught:
            await second.wait()
        assert (caught.value.maybe_delivered, ended, second.sent) == (False, [second], False)
        await third.wait()
        assert queue.statistics().sent == 2
        await queue.aclose()

    run_virtually(main)
