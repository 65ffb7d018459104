"""A caller leaves, or the transport is closed, at each pass of the loop: nobody else notices, and nothing stays (R4).

The network is in memory and the clock virtual, so a request takes the same passes each time, and each can be tried:
while it waits for a connection, while that opens (through a proxy, with TLS), while a large body is written against
back-pressure, while the response arrives, and just after it.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple, TypeAlias, TypeVar

import httpx
import pytest

from bms_async import ClientClosedError, HttpRequest, HttpResponse
from bms_async.transport import PendingRequest, _connector, _decompress
from bms_async.transport import aiohttp as over_aiohttp
from bms_async.transport import httpx as over_httpx
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport._trials import TIMEOUT
from tests.transport.loopback import Behaviour, Talk, answer, server_context
from tests.transport.memory import MemoryServer, MemoryTalk, run_in_memory

T = TypeVar("T")
Step: TypeAlias = Callable[["Attempt", int], Awaitable[T]]

LARGE = b"x" * 400_000
MOST_PASSES = 400
CHUNK = 2**13
"""Bytes that are unpacked in one pass; of as many as users have it would take as many passes and far longer."""
RESPONSE = answer(body=b'"tried"')


async def answers_slowly(talk: Talk) -> None:
    """Read a request bit by bit, and answer it byte by byte."""
    assert isinstance(talk, MemoryTalk)
    while (heard := await talk.hear()) is not None:
        own = RESPONSE if heard.split()[1].endswith(b"/tried") else answer(body=b'"other"')
        for at in range(0, len(own), 40):
            await talk.say(own[at : at + 40])
            await talk.turn()


async def answers_over_tls(talk: Talk) -> None:
    await talk.begin_tls(server_context())
    await answers_slowly(talk)


async def leads_to_a_server(talk: Talk) -> None:
    await talk.hear()
    await talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await answers_over_tls(talk)


async def answers_until_it_closes(talk: Talk) -> None:
    if (heard := await talk.hear()) is not None:
        own = b'"tried"' if heard.split()[1].endswith(b"/tried") else b'"other"'
        await talk.say(b"HTTP/1.1 200 OK\r\n\r\n" + own)


def packed(own: bytes) -> bytes:
    return answer(body=gzip.compress(own + b" " * 8 * CHUNK), content_encoding="gzip")


PACKED_RESPONSE, OTHER_PACKED_RESPONSE = packed(b'"tried"'), packed(b'"other"')


async def answers_packed(talk: Talk, *, closes: bool = False) -> None:
    """Answer with what takes many passes to unpack."""
    while (heard := await talk.hear()) is not None:
        await talk.say(PACKED_RESPONSE if heard.split()[1].endswith(b"/tried") else OTHER_PACKED_RESPONSE)
        if closes:
            return


@pytest.fixture(autouse=True)
def proxies_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread decide how many passes a request takes."""

    async def run_at_once(function: Callable[..., T], *args: object) -> T:
        await asyncio.sleep(0)
        return function(*args)

    monkeypatch.setattr(_connector, "run_in_thread", run_at_once)


@pytest.fixture(autouse=True)
def chunks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_decompress, over_aiohttp, over_httpx):
        monkeypatch.setattr(module, "CHUNK_SIZE", CHUNK)


class Way(NamedTuple):
    """How a request goes: to what server, with what body, and behind which other one."""

    behaviour: Behaviour
    secure: bool = False
    proxied: bool = False
    body: bytes = b""
    behind: bool = False
    kept: bool = False


WAYS = {
    "on a new connection": Way(answers_slowly),
    "on a kept connection": Way(answers_slowly, kept=True),
    "behind another request": Way(answers_slowly, behind=True),
    "with a large body": Way(answers_slowly, body=LARGE),
    "over TLS": Way(answers_over_tls, secure=True),
    "through a proxy": Way(leads_to_a_server, secure=True, proxied=True),
    "with a response that ends with its connection": Way(answers_until_it_closes),
    "with a packed response": Way(answers_packed),
    "with a packed response before the end of its connection": Way(partial(answers_packed, closes=True)),
}


class Attempt:
    """One request on its way, beside another one where there is one."""

    def __init__(self, transport: LibraryTransport, server: MemoryServer, way: Way) -> None:
        self.way = way
        self.transport = transport
        self.server = server
        self.url = server.url if not way.secure else server.secure_url
        if way.proxied:
            self.url = "https://127.0.0.1:1"
        self.ended: list[PendingRequest] = []

    def request(self, target: str, body: bytes = b"") -> HttpRequest:
        return HttpRequest(
            operation="servers.get", method="PUT", url=self.url + target, headers={}, body=body, timeout=TIMEOUT
        )

    async def begin(self) -> None:
        if self.way.kept:
            await self.transport.send(self.request("/before"))
        if self.way.behind:
            self.other = asyncio.ensure_future(self.transport.send(self.request("/other")))
            await asyncio.sleep(0)
        self.caller = asyncio.ensure_future(self._call())
        # A task that is cancelled before it has begun submits nothing.
        await asyncio.sleep(0)

    async def _call(self) -> HttpResponse:
        self.pending = self.transport.submit(self.request("/tried", self.way.body))
        self.pending.add_done_callback(self.ended.append)
        return await self.pending.wait()

    async def after(self, passes: int) -> None:
        for _ in range(passes):
            await asyncio.sleep(0)

    @property
    def heard(self) -> list[bytes]:
        return [each.split(b"\r\n", 1)[0] for each in self.server.heard if b"/tried" in each.split(b"\r\n", 1)[0]]


def attempt(library: ModuleType, trusting: ssl.SSLContext, way: Way, step: Step[T], passes: int) -> T:
    """Let a step do its part with a request that has begun, on a transport of one connection."""

    async def main() -> T:
        async with MemoryServer(way.behaviour) as server:
            proxy = server.url if way.proxied else None
            transport = make_transport(library, trusting, 1, proxy=proxy)
            await transport.open()
            it = Attempt(transport, server, way)
            await it.begin()
            try:
                return await step(it, passes)
            finally:
                await transport.aclose()
                await it.after(3)
                assert all(end.closed for end in server.ends)

    return run_in_memory(main)


async def count(it: Attempt, most: int) -> int:
    """Count the passes of the loop that a request takes from its submission to its response."""
    for passes in range(most):
        if it.caller.done():
            assert it.caller.result().body.rstrip() == b'"tried"'
            return passes
        await asyncio.sleep(0)
    raise AssertionError("it takes too many passes to try each")


def at_each_pass(library: ModuleType, trusting: ssl.SSLContext, way: Way, step: Step[T]) -> list[T]:
    """Let a step do its part so many passes after the submission, from none to some more than there are."""
    passes = attempt(library, trusting, way, count, MOST_PASSES)
    return [attempt(library, trusting, way, step, after) for after in range(passes + 2)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_r4_a_caller_that_leaves_at_any_pass_disturbs_nobody(
    library: ModuleType, trusting: ssl.SSLContext, way: Way
) -> None:
    async def leave(it: Attempt, passes: int) -> bool:
        await it.after(passes)
        it.caller.cancel()
        await asyncio.wait({it.caller})
        assert it.caller.cancelled() or it.caller.result().body.rstrip() == b'"tried"'
        sent = it.pending.sent
        if way.behind:
            assert (await it.other).body.rstrip() == b'"other"'
        for _ in range(2):
            response = await it.transport.send(it.request("/other"))
            assert (response.status, response.body.rstrip()) == (200, b'"other"')
        assert it.ended == [it.pending]
        assert it.pending.sent == sent
        # What was not sent when its caller left is never sent; what the server has heard was.
        assert len(it.heard) <= int(sent)
        assert it.transport.statistics().in_flight == it.transport.statistics().queued == 0
        return sent

    sent = at_each_pass(library, trusting, way, leave)
    # Both were tried: leaving before it was sent, and after. On a kept connection it may be sent at once.
    assert sent[-1]
    assert way.kept or not sent[0]
    assert sent == sorted(sent)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_r4_a_transport_closed_at_any_pass_leaves_nothing(
    library: ModuleType, trusting: ssl.SSLContext, way: Way
) -> None:
    async def close(it: Attempt, passes: int) -> bool:
        callers = [it.caller, *([it.other] if way.behind else [])]
        await it.after(passes)
        await asyncio.wait_for(it.transport.aclose(), TIMEOUT)
        # Closing is over: no caller waits any longer than the passes that it takes to wake it.
        # asyncio needs some too, to end the generators that httpx has left.
        await it.after(10)
        failed = [error for each in callers if (error := each.exception()) is not None]
        answered = [each.result() for each in callers if each.exception() is None]
        assert {type(each) for each in failed} <= {ClientClosedError}
        assert {type(each) for each in answered} <= {HttpResponse}
        assert it.ended == [it.pending]
        assert len(it.heard) <= int(it.pending.sent)
        assert asyncio.all_tasks() - it.server.tasks == {asyncio.current_task()}
        assert all(end.closed for end in it.server.ends)
        assert it.pending.response.done()
        return bool(failed)

    failed = at_each_pass(library, trusting, way, close)
    assert (failed[0], failed[-1]) == (True, False)


# anyio connects in a task of its own, and says so of one that is cancelled before it has begun.
@pytest.mark.filterwarnings("ignore:coroutine .*try_connect.* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_r4_whoever_cancels_all_tasks_of_the_loop_at_any_pass_leaves_no_caller_waiting(
    library: ModuleType, trusting: ssl.SSLContext, way: Way
) -> None:
    async def cancel_all(it: Attempt, passes: int) -> None:
        await it.after(passes)
        for task in asyncio.all_tasks() - it.server.tasks - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait({it.caller}, timeout=TIMEOUT)
        assert it.caller.done()
        await asyncio.wait_for(it.transport.aclose(), TIMEOUT)
        await it.after(3)
        assert it.ended == [it.pending]
        assert asyncio.all_tasks() - it.server.tasks == {asyncio.current_task()}
        assert all(end.closed for end in it.server.ends)

    at_each_pass(library, trusting, way, cancel_all)
    gc.collect()


def test_plain_httpx_leaves_a_connection_open_where_it_is_cancelled_in_a_handshake(trusting: ssl.SSLContext) -> None:
    # Without this one the tests above might not see what is left, and would prove nothing.
    async def main(passes: int) -> bool:
        async with MemoryServer(answers_over_tls) as server:
            async with httpx.AsyncClient(verify=trusting, trust_env=False) as client:
                caller = asyncio.ensure_future(client.get(server.secure_url))
                for _ in range(passes):
                    await asyncio.sleep(0)
                caller.cancel()
                await asyncio.wait({caller})
            await asyncio.sleep(0)
            return all(end.closed for end in server.ends)

    closed = [run_in_memory(partial(main, passes)) for passes in range(40)]
    assert not all(closed)
