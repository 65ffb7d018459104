"""The queue without workers: who is served when, and what becomes of those who leave (R3, R4)."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from typing import Any

import pytest

from bms_async import ClientClosedError, ConfigurationError, Http1Transport, HttpRequest, Transport, TransportError
from bms_async.transport import OwningTransport
from bms_async.transport._connector import Connector
from bms_async.transport._http1_connection import Connection
from tests.transport.http1._requests import request
from tests.transport.loopback import PATIENCE, Loopback, answer, answers, answers_when, eventually


def of_the_transport() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "bms_async connect"]


class HeldConnector(Connector):
    """Opens no connection before its gate opens."""

    def __init__(self) -> None:
        super().__init__(None)
        self.gate = asyncio.Event()

    async def open(self, request: HttpRequest, route: Any, connection: Connection) -> None:
        await self.gate.wait()
        await super().open(request, route, connection)


def held(transport: Http1Transport) -> HeldConnector:
    connector = HeldConnector()
    transport._connector = transport._queue._connector = connector
    return connector


def test_it_is_a_transport_that_owns_its_sending() -> None:
    transport = Http1Transport(connections=7)
    assert isinstance(transport, Transport)
    assert isinstance(transport, OwningTransport)
    assert repr(transport) == "<Http1Transport closed, 0 of 7 in flight>"
    assert Http1Transport().statistics().max_connections == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"connections": 0}, r"connections=0\): expected at least 1"),
        ({"keep_alive": "15"}, r"keep_alive='15'\): expected a number of seconds"),
        ({"keep_alive": True}, r"keep_alive=True\): expected a number of seconds"),
        ({"keep_alive": float("nan")}, r"keep_alive=nan\): expected a number of seconds"),
        ({"max_response_bytes": 0}, r"max_response_bytes=0\): expected a whole number"),
    ],
)
def test_a_number_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Http1Transport(**given)


async def test_first_come_is_first_served() -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        await asyncio.gather(*(transport.send(request(f"{server.url}/{number}")) for number in range(30)))
        assert [heard.split()[1] for heard in server.heard] == [b"/%d" % number for number in range(30)]
        assert server.accepted == 1


async def test_a_request_on_an_idle_connection_is_written_by_submit_and_takes_no_task() -> None:
    gate = asyncio.Event()
    gate.set()
    async with Loopback(answers_when(gate, answer())) as server, Http1Transport() as transport:
        await transport.send(request(server.url))
        gate.clear()
        pending = transport.submit(request(server.url))
        assert pending.sent
        assert transport.statistics().sent == 2
        assert of_the_transport() == []
        gate.set()
        assert (await pending.wait()).status == 200


async def test_a_request_abandoned_while_its_connection_opens_is_not_sent_and_the_connection_serves_another() -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        connector = held(transport)
        await connector.load_certificates()
        first, second = transport.submit(request(f"{server.url}/1")), transport.submit(request(f"{server.url}/2"))
        ended: list[bool] = []
        first.add_done_callback(lambda pending: ended.append(pending.sent))
        waiting = asyncio.create_task(first.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        # Nothing was sent, and whoever counts the calls learns it at once.
        assert ended == [False]
        connector.gate.set()
        assert (await second.wait()).status == 200
        assert [heard.split()[1] for heard in server.heard] == [b"/2"]
        assert (server.accepted, transport.statistics().sent, transport.statistics().in_flight) == (1, 1, 0)


@pytest.mark.parametrize("how", ["while its connection opens", "in the queue"])
async def test_a_request_whose_slot_runs_out_before_it_is_sent_fails_unsent_and_holds_nothing_up(how: str) -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        connector = held(transport)
        await connector.load_certificates()
        submitted = [transport.submit(request(f"{server.url}/{number}")) for number in range(3)]
        runs_out = submitted[0] if how == "while its connection opens" else submitted[1]
        ended: list[bool] = []
        runs_out.add_done_callback(lambda pending: ended.append(pending.sent))
        for pending in submitted:
            pending.require(partial(operator.is_not, pending, runs_out))
        connector.gate.set()
        with pytest.raises(TransportError, match="lease of its slot was over") as caught:
            await runs_out.wait()
        assert not caught.value.maybe_delivered
        assert ended == [False]
        for pending in submitted:
            if pending is not runs_out:
                assert (await pending.wait()).status == 200
        assert len(server.heard) == 2


async def test_r9_thousands_of_abandoned_requests_are_dropped_in_many_turns() -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, Http1Transport(connections=1) as transport:
        first = transport.submit(request(server.url))
        abandoned = [transport.submit(request(server.url)) for _ in range(2_000)]
        last = transport.submit(request(f"{server.url}/last"))
        for each in abandoned:
            each.response.cancel()
        await server.until(lambda it: len(it.heard) == 1)
        gate.set()
        await first.wait()
        left = transport.statistics().queued
        assert 0 < left < 2_000
        assert (await last.wait()).status == 200
        assert all(each.ended and not each.sent for each in abandoned)
        assert [heard.split()[1] for heard in server.heard] == [b"/", b"/last"]


async def test_a_request_that_was_sent_runs_to_its_end_without_its_caller() -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, Http1Transport(connections=1) as transport:
        pending = transport.submit(request(server.url))
        waiting = asyncio.create_task(pending.wait())
        await server.until(lambda it: len(it.heard) == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert not pending.ended
        assert transport.statistics().in_flight == 1
        gate.set()
        await eventually(lambda: pending.ended)
        await transport.send(request(server.url))
        assert server.accepted == 1


@pytest.mark.parametrize("passes", [0, 1, 3])
async def test_r4_a_task_that_opens_a_connection_and_is_cancelled_alone_fails_its_request_and_no_other(
    passes: int,
) -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        connector = held(transport)
        await connector.load_certificates()
        first, second = transport.submit(request(server.url)), transport.submit(request(server.url))
        for _ in range(passes):
            await asyncio.sleep(0)
        (task,) = of_the_transport()
        task.cancel()
        with pytest.raises(ClientClosedError):
            await first.wait()
        assert first.ended
        connector.gate.set()
        assert (await second.wait()).status == 200
        assert transport.statistics().in_flight == 0


@pytest.mark.parametrize("passes", range(9))
async def test_r4_closing_while_connections_open_leaves_nothing(passes: int) -> None:
    async with Loopback(answers(answer())) as server:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()
        transport = Http1Transport(connections=4)
        await transport.open()
        # A name with more than one address, so that asyncio has tasks of its own for them.
        pending = [transport.submit(request(f"http://localhost:{server.port}/")) for _ in range(8)]
        for _ in range(passes):
            await asyncio.sleep(0)
        await transport.aclose()
        assert all(each.response.done() and each.ended for each in pending)
        assert asyncio.all_tasks() - server.tasks == tasks
        assert transport._queue._open_connections == set()
        await server.until(lambda it: it.open == 0)
        await asyncio.gather(*(each.wait() for each in pending), return_exceptions=True)


async def test_r4_once_all_tasks_are_cancelled_what_was_sent_and_what_waits_is_told_so() -> None:
    async with Loopback(answers_when(asyncio.Event(), answer())) as server, Http1Transport(connections=1) as transport:
        pending = [transport.submit(request(server.url)) for _ in range(3)]
        await server.until(lambda it: len(it.heard) == 1)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("bms_async"):
                task.cancel()
        ended = await asyncio.gather(*(each.wait() for each in pending), return_exceptions=True)
        assert [type(each) for each in ended] == [ClientClosedError] * 3
        with pytest.raises(ClientClosedError, match="its tasks were cancelled"):
            transport.submit(request(server.url))
        await server.until(lambda it: it.open == 0)


def test_r4_a_transport_whose_loop_has_ended_refuses_and_can_be_closed_on_another() -> None:
    transport = Http1Transport()

    async def begins() -> None:
        async with Loopback(answers(answer())) as server:
            await transport.open()
            await transport.send(request(server.url))

    async def ends() -> None:
        with pytest.raises(ClientClosedError, match="ended with its event loop"):
            transport.submit(request("http://127.0.0.1:1"))
        await transport.aclose()

    asyncio.run(begins())
    asyncio.run(ends())


@pytest.mark.parametrize(
    "sent",
    [
        request("ftp://127.0.0.1"),
        request("http://127.0.0.1:1", headers={"X": "a\nb"}),
        request("http://127.0.0.1:1", headers={"X": ["a list"]}),
        request("http://127.0.0.1:1", "GET\n"),
        request("http://user@127.0.0.1:1"),
        request("http://127.0.0.1:99999"),
    ],
    ids=["a scheme", "a line break", "no text", "a method", "a user", "a port"],
)
async def test_r3_a_request_that_cannot_be_sent_leaves_its_place_to_the_next(sent: HttpRequest) -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        # A second one is refused at another place, for its address is known by then.
        for _ in range(3):
            with pytest.raises(TransportError) as caught:
                await transport.send(sent)
            assert not caught.value.maybe_delivered
        assert (await transport.send(request(server.url))).status == 200
        assert transport.statistics().in_flight == 0


@pytest.mark.parametrize("timeout", [None, "5", float("nan"), -1.0], ids=str)
async def test_r3_a_request_with_a_timeout_that_is_none_leaves_its_place_and_an_idle_connection_to_the_next(
    timeout: Any,
) -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(connections=1) as transport:
        for accepted in (0, 1):
            assert server.accepted == accepted
            for _ in range(2):
                with pytest.raises(TransportError) as caught:
                    await transport.send(request(server.url, timeout=timeout))
                assert not caught.value.maybe_delivered
            assert (await transport.send(request(server.url))).status == 200
            assert transport.statistics().in_flight == 0
        assert server.accepted == 1


async def test_r3_on_a_connection_that_broke_before_anything_was_written_nothing_was_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Loopback(answers(answer())) as server, Http1Transport() as transport:
        made = Connection.connection_made

        def breaks(self: Connection, transport: Any) -> None:
            made(self, transport)
            transport.abort()

        monkeypatch.setattr(Connection, "connection_made", breaks)
        with pytest.raises(TransportError, match="ConnectError") as caught:
            await transport.send(request(server.url, "POST"))
        assert not caught.value.maybe_delivered
        assert server.heard == []


async def test_idle_connections_to_one_address_make_room_for_another() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    async with (
        Loopback(answers_when(gates[0], answer())) as one,
        Loopback(answers_when(gates[1], answer())) as other,
        Http1Transport(connections=3) as transport,
        asyncio.timeout(PATIENCE),
    ):
        for server, gate, number in ((one, gates[0], 3), (other, gates[1], 2)):
            calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(number)]
            await server.until(lambda it, number=number: len(it.heard) == number)  # type: ignore[misc]
            gate.set()
            await asyncio.gather(*calls)
        await one.until(lambda it: it.open == 1)
        assert (other.open, transport._queue._idle.count) == (2, 3)


async def test_an_idle_connection_is_closed_though_nobody_asks_for_it() -> None:
    async with Loopback(answers(answer())) as server, Http1Transport(keep_alive=0.02) as transport:
        await transport.send(request(server.url))
        await server.until(lambda it: it.open == 0)
        assert transport._queue._idle.count == 0
