"""What holds on the loop of the tests holds on uvloop too, whose connections and TLS are other code."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeAlias

import pytest

from bms_async import ClientClosedError, HttpRequest, HttpResponse, TransportError, _tasks
from tests.support.machine import patience
from tests.transport._transports import make_transport
from tests.transport._trials import outcome_of, shown
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, answers, server_context
from tests.transport.test_any_split import VALID, Valid
from tests.transport.test_malformed_responses import MALFORMED

Run: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    # There is none for every system.
    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS.values(), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Give what runs a coroutine function on one of the loops."""

    def run_on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run_on_loop


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def request(url: str, method: str = "GET", body: bytes = b"") -> HttpRequest:
    return HttpRequest(
        operation="servers.get", method=method, url=f"{url}/first", headers={}, body=body, timeout=PATIENCE
    )


def url_of(server: Loopback, *, secure: bool) -> str:
    return server.secure_url if secure else server.url


class Server(Loopback):
    """Speaks TLS from the first byte where it should: uvloop may read before anybody asks for TLS."""

    def __init__(self, behaviour: Behaviour, *, secure: bool = False) -> None:
        super().__init__(behaviour)
        self._context = server_context() if secure else None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self


def in_turn(*pieces: bytes, closes: bool) -> Behaviour:
    """Answer each request of a connection in these pieces."""

    async def behave(talk: Talk) -> None:
        while await talk.hear() is not None:
            for piece in pieces:
                await talk.say(piece)
                await asyncio.sleep(0)
            if closes:
                return

    return behave


@pytest.mark.parametrize("response", VALID.values(), ids=VALID)
def test_a_response_is_the_same_on_each_loop(
    library: ModuleType, trusting: ssl.SSLContext, run: Run, response: Valid, secure: bool
) -> None:
    async def main() -> None:
        half = len(response.raw) // 2
        behaviour = in_turn(response.raw[:half], response.raw[half:], closes=response.ending == "closes")
        async with Server(behaviour, secure=secure) as server, make_transport(library, trusting, 1) as transport:
            got = await transport.send(request(url_of(server, secure=secure), response.method))
            assert shown(got) == response.says

    run(main)


@pytest.mark.parametrize("raw", list(MALFORMED.values())[::4])
def test_what_is_no_response_is_an_error_on_each_loop(
    library: ModuleType, trusting: ssl.SSLContext, run: Run, raw: bytes, secure: bool
) -> None:
    async def main() -> None:
        async with (
            Server(in_turn(raw, closes=True), secure=secure) as server,
            make_transport(library, trusting, 1) as transport,
        ):
            error = await outcome_of(transport.send(request(url_of(server, secure=secure))))
            assert isinstance(error, TransportError)
            assert error.maybe_delivered

    run(main)


@pytest.mark.parametrize("read", [0, 1, 100, 70_000])
@pytest.mark.parametrize("resets", [False, True])
def test_r3_what_was_read_may_have_been_delivered_on_each_loop(
    library: ModuleType, trusting: ssl.SSLContext, run: Run, secure: bool, read: int, resets: bool
) -> None:
    async def behave(talk: Talk) -> None:
        await talk._reader.readexactly(read)
        if resets:
            talk.reset()

    async def main() -> None:
        async with Server(behave, secure=secure) as server, make_transport(library, trusting, 1) as transport:
            sent = request(url_of(server, secure=secure), "POST", b"x" * 500_000)
            error = await outcome_of(transport.send(sent))
            assert isinstance(error, TransportError)
            assert error.maybe_delivered or not read
            assert server.accepted == 1

    run(main)


async def hangs_up(talk: Talk) -> None:
    await talk._reader.read(100)


async def resets(talk: Talk) -> None:
    await talk._reader.read(100)
    talk.reset()


async def speaks_http(talk: Talk) -> None:
    await talk.say(answer(400))


@pytest.mark.parametrize("behaviour", [hangs_up, resets, speaks_http])
def test_r3_a_handshake_that_fails_delivers_nothing_on_each_loop(
    library: ModuleType, trusting: ssl.SSLContext, run: Run, behaviour: Behaviour
) -> None:
    async def main() -> None:
        async with Loopback(behaviour) as server, make_transport(library, trusting, 1) as transport:
            error = await outcome_of(transport.send(request(server.secure_url, "POST", b"{}")))
            assert isinstance(error, TransportError)
            assert not error.maybe_delivered
            assert server.secure_url in str(error)

    run(main)


async def leads_on(talk: Talk) -> None:
    await talk.hear()
    await talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await talk.begin_tls(server_context())
    await answers(answer(body=b'"through"'))(talk)


def test_a_tunnel_leads_to_the_server_on_each_loop(library: ModuleType, trusting: ssl.SSLContext, run: Run) -> None:
    async def main() -> None:
        async with Loopback(leads_on) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
            for _ in range(2):
                response = await transport.send(request("https://127.0.0.1:1"))
                assert response.body == b'"through"'
            assert proxy.accepted == 1

    run(main)


def files() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    for file in folder.iterdir() if folder.is_dir() else ():
        try:
            target = str(file.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            yield target


@pytest.mark.parametrize("shakes_hands", [False, True])
@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 10, 30])
def test_r4_closing_leaves_no_socket_and_no_caller_on_each_loop(
    library: ModuleType,
    trusting: ssl.SSLContext,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    shakes_hands: bool,
    passes: int,
) -> None:
    # On uvloop httpx2 forgets a cancellation at one of the passes, and is cancelled again after this time.
    monkeypatch.setattr(_tasks, "GRACE", patience(1.0))

    async def main() -> None:
        async with Server(Talk.until_gone, secure=shakes_hands) as server:
            before = set(files())
            transport = make_transport(library, trusting, 2)
            await transport.open()
            callers = [
                asyncio.ensure_future(transport.send(request(server.secure_url, "POST", b"x" * 300_000)))
                for _ in range(3)
            ]
            for _ in range(passes):
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                await transport.aclose()
                ended = await asyncio.gather(*callers, return_exceptions=True)
                await server.until(lambda it: it.open == 0)
            assert {type(each) for each in ended} <= {ClientClosedError, TransportError, HttpResponse}
            assert set(files()) <= before
            assert asyncio.all_tasks() - server.tasks == {asyncio.current_task()}

    run(main)
