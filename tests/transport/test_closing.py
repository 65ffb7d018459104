"""Closing leaves nothing behind: no task, no socket, no pending future, and every waiter gets an error (R4)."""

from __future__ import annotations

import asyncio
import gc
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bms_async import (
    BmsClient,
    ClientClosedError,
    HttpRequest,
    HttpResponse,
    Limits,
    StaticToken,
    Transport,
)
from bms_async.transport import SendQueue
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Loopback, answer, answers, answers_when

SERVER = answer(body=b'{"server": {"id": "s-1", "name": "bms-1"}}')


def request(url: str) -> HttpRequest:
    return HttpRequest(operation="servers.get", method="GET", url=url, headers={}, timeout=PATIENCE)


def bms_at(url: str, transport: Transport, **more: Any) -> BmsClient:
    return BmsClient(endpoint=url, project_id="p", auth=StaticToken("t"), transport=transport, retry=None, **more)


def sockets() -> set[str]:
    """Return the sockets of this process where the system lists them; elsewhere the server's view has to do."""
    files = Path("/proc/self/fd")
    return (
        {name for file in files.iterdir() if (name := _target(file)).startswith("socket:")} if files.is_dir() else set()
    )


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:
        return ""


def pending() -> set[asyncio.Future[Any]]:
    gc.collect()
    return {each for each in gc.get_objects() if isinstance(each, asyncio.Future) and not each.done()}


async def test_r4_closing_tells_everybody_and_leaves_nothing(library: ModuleType, trusting: ssl.SSLContext) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, SERVER)) as server:
        await asyncio.sleep(0)
        tasks, futures, files = asyncio.all_tasks(), pending(), sockets()
        transport = make_transport(library, trusting, 4)
        bms = bms_at(server.url, transport, limits=Limits({"servers.get": 10}))
        await bms.__aenter__()
        # Four are with the server, six wait for a connection and ten for a slot.
        calls = [asyncio.create_task(bms.servers.get(f"s-{number}")) for number in range(20)]
        await server.until(lambda it: len(it.heard) == 4)
        assert bms.limits["servers.get"].statistics().waiting_interactive == 10
        async with asyncio.timeout(PATIENCE):
            await bms.aclose()
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended} == {ClientClosedError}
        assert {str(each) for each in ended} == {"servers.get: the client was closed before the response arrived"}
        assert asyncio.all_tasks() - server.tasks == tasks
        await server.until(lambda it: it.open == 0)
        assert len(server.heard) == 4
        del calls, ended
        assert pending() <= futures
        assert sockets() <= files
        assert repr(transport) == f"<{type(transport).__name__} closed, 0 of 4 in flight>"
        assert transport.statistics().queued == 0


async def test_r4_closing_with_idle_connections_closes_them(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(SERVER)) as server:
        files = sockets()
        async with bms_at(server.url, make_transport(library, trusting, 4)) as bms:
            await asyncio.gather(*(bms.servers.get("s-1") for _ in range(4)))
            assert server.open > 0
        await server.until(lambda it: it.open == 0)
        assert sockets() <= files


async def test_closing_the_transport_itself_tells_who_waits_for_it(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server:
        async with make_transport(library, trusting, connections=2) as transport:
            calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(5)]
            await server.until(lambda it: len(it.heard) == 2)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in ended] == [ClientClosedError] * 5
        assert {str(each) for each in ended} == {"servers.get: the transport was closed before the response arrived"}
        assert len(server.heard) == 2


async def test_a_client_opened_in_one_task_is_closed_in_another(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(SERVER)) as server:
        bms = bms_at(server.url, make_transport(library, trusting, 4))
        await asyncio.create_task(bms.__aenter__())
        assert (await asyncio.create_task(bms.servers.get("s-1"))).name == "bms-1"
        await asyncio.create_task(bms.__aexit__(None, None, None))
        await server.until(lambda it: it.open == 0)


@pytest.fixture
async def open_bms(library: ModuleType, trusting: ssl.SSLContext) -> Any:
    # pytest-asyncio runs what follows the yield in another task than what precedes it.
    async with Loopback(answers(SERVER)) as server, bms_at(server.url, make_transport(library, trusting, 4)) as bms:
        yield bms


async def test_a_client_lives_in_a_fixture(open_bms: BmsClient) -> None:
    assert (await open_bms.servers.get("s-1")).name == "bms-1"


async def test_a_shared_transport_closes_with_its_last_client(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(SERVER)) as server:
        transport = make_transport(library, trusting, 4)
        async with bms_at(server.url, transport) as one:
            async with bms_at(server.url, transport) as other:
                await other.servers.get("s-1")
            assert (await one.servers.get("s-1")).name == "bms-1"
            assert server.accepted == 1
        await server.until(lambda it: it.open == 0)
        with pytest.raises(ClientClosedError, match="closed with its last client: make a new one"):
            async with bms_at(server.url, transport):
                pass
        with pytest.raises(ClientClosedError, match="the transport was closed"):
            await transport.send(request(server.url))
        assert len(server.heard) == 2


async def test_closing_one_of_two_clients_leaves_the_calls_of_the_other(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, SERVER)) as server:
        transport = make_transport(library, trusting, 4)
        async with bms_at(server.url, transport) as one, bms_at(server.url, transport) as other:
            mine = [asyncio.create_task(one.servers.get("s-1")) for _ in range(4)]
            await server.until(lambda it: len(it.heard) == 4)
            theirs = [asyncio.create_task(other.servers.get("s-1")) for _ in range(4)]
            await asyncio.sleep(0)
            await one.aclose()
            gate.set()
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*mine, return_exceptions=True)
                assert [type(each) for each in results] == [ClientClosedError] * 4
                assert [each.name for each in await asyncio.gather(*theirs)] == ["bms-1"] * 4


async def test_who_opens_a_transport_while_its_last_client_closes_it_is_told_so(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server:
        transport = make_transport(library, trusting, connections=1)
        await transport.open()
        held = asyncio.create_task(transport.send(request(server.url)))
        await server.until(lambda it: len(it.heard) == 1)
        closing = asyncio.create_task(transport.aclose())
        await asyncio.sleep(0)
        with pytest.raises(ClientClosedError, match="closed with its last client"):
            await transport.open()
        async with asyncio.timeout(PATIENCE):
            await closing
            with pytest.raises(ClientClosedError):
                await held


async def test_a_transport_that_was_never_opened_says_so(library: ModuleType, trusting: ssl.SSLContext) -> None:
    transport = make_transport(library, trusting, 4)
    with pytest.raises(ClientClosedError, match=r"servers\.get: the transport is not open; use it inside `async with`"):
        await transport.send(request("http://localhost"))
    await transport.aclose()


async def test_closing_twice_is_closing_once(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(SERVER)) as server:
        async with make_transport(library, trusting, 4) as transport:
            await transport.send(request(server.url))
            await transport.aclose()
        bms = bms_at(server.url, make_transport(library, trusting, 4))
        async with bms:
            await bms.aclose()
            with pytest.raises(ClientClosedError, match="not open"):
                await bms.servers.get("s-1")
        await server.until(lambda it: it.open == 0)


@pytest.mark.parametrize("after", range(6))
async def test_r4_closing_that_is_cancelled_closes_all_the_same(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()
        transport = make_transport(library, trusting, 4)
        await transport.open()
        calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(8)]
        await server.until(lambda it: len(it.heard) == 4)
        closing = asyncio.create_task(transport.aclose())
        for _ in range(after):
            await asyncio.sleep(0)
        closing.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({closing})
            if after == 0:
                # It was cancelled before it began, and so has not begun.
                await transport.aclose()
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in ended] == [ClientClosedError] * 8
        assert asyncio.all_tasks() - server.tasks == tasks
        await server.until(lambda it: it.open == 0)


@pytest.mark.parametrize("after", range(6))
async def test_r4_opening_that_is_cancelled_leaves_nothing_open(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    tasks = asyncio.all_tasks()
    transport = make_transport(library, trusting, 4)
    opening = asyncio.create_task(transport.open())
    for _ in range(after):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait({opening})
    if not opening.cancelled():
        await transport.aclose()
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert " open," not in repr(transport)
    await transport.aclose()


@pytest.mark.parametrize("opened", [True, False])
async def test_a_client_closed_more_often_than_opened_leaves_the_transport_to_the_other(
    library: ModuleType, trusting: ssl.SSLContext, opened: bool
) -> None:
    async with Loopback(answers(SERVER)) as server:
        transport = make_transport(library, trusting, 4)
        async with bms_at(server.url, transport) as one:
            other = bms_at(server.url, transport)
            if opened:
                await other.__aenter__()
            await other.aclose()
            await other.aclose()
            assert (await one.servers.get("s-1")).name == "bms-1"
        await server.until(lambda it: it.open == 0)


@pytest.mark.parametrize("after", range(1, 14))
async def test_r4_closing_a_client_that_is_cancelled_closes_all_the_same(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, SERVER)) as server:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()
        bms = bms_at(server.url, make_transport(library, trusting, 4))
        await bms.__aenter__()
        calls = [asyncio.create_task(bms.servers.get("s-1")) for _ in range(8)]
        await server.until(lambda it: len(it.heard) == 4)
        closing = asyncio.create_task(bms.aclose())
        for _ in range(after):
            await asyncio.sleep(0)
        closing.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({closing})
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in ended] == [ClientClosedError] * 8
        assert asyncio.all_tasks() - server.tasks == tasks
        await server.until(lambda it: it.open == 0)


@pytest.mark.parametrize("after", range(14))
async def test_r4_opening_a_client_that_is_cancelled_leaves_nothing_open(
    library: ModuleType, trusting: ssl.SSLContext, after: int
) -> None:
    tasks = asyncio.all_tasks()
    transport = make_transport(library, trusting, 4)
    bms = bms_at("http://localhost", transport)
    opening = asyncio.create_task(bms.__aenter__())
    for _ in range(after):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait({opening})
    if not opening.cancelled():
        await bms.aclose()
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    # Who was never let in does not close it either.
    await transport.aclose()


async def answer_at_once(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=200, headers=(), body=b"")


def test_sending_says_so_when_the_event_loop_that_it_was_opened_on_has_ended() -> None:
    async def open_and_leave() -> SendQueue:
        queue = SendQueue(answer_at_once, connections=2)
        await queue.open()
        await queue.submit(request("http://localhost")).wait()
        return queue

    async def use(queue: SendQueue) -> None:
        with pytest.raises(ClientClosedError, match="ended with its event loop"):
            queue.submit(request("http://localhost"))
        await queue.aclose()

    queue = asyncio.run(open_and_leave())
    asyncio.run(use(queue))


def test_sending_says_so_on_another_event_loop_than_it_was_opened_on() -> None:
    with asyncio.Runner() as one, asyncio.Runner() as other:
        queue = SendQueue(answer_at_once, connections=2)
        one.run(queue.open())

        async def use() -> None:
            with pytest.raises(ClientClosedError, match="another event loop"):
                queue.submit(request("http://localhost"))

        other.run(use())
        one.run(queue.aclose())


async def test_sending_says_so_when_somebody_has_cancelled_its_tasks() -> None:
    queue = SendQueue(answer_at_once, connections=2)
    before = asyncio.all_tasks()
    await queue.open()
    await queue.submit(request("http://localhost")).wait()
    ours = asyncio.all_tasks() - before
    for task in ours:
        task.cancel()
    await asyncio.wait(ours)
    with pytest.raises(ClientClosedError, match="tasks were cancelled"):
        queue.submit(request("http://localhost"))
    await queue.aclose()
