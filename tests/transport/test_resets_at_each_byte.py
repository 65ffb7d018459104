"""R3: a peer that breaks off after any number of bytes, and what `maybe_delivered` says of the request then.

It may say too much but never too little: where the server has read a byte of the request, it is True. Where no
connection was ever open, it is False, so that a reboot is sent again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from types import ModuleType

import pytest

from bms_async import HttpRequest, TransportError
from tests.transport._transports import make_transport
from tests.transport._trials import TIMEOUT, Outcome, outcome_of
from tests.transport.loopback import Loopback, Talk, answer, answers, server_context
from tests.transport.memory import MemoryServer, MemoryTalk, run_in_memory

BODY = b'{"reboot": {"type": "HARD"}}'
LARGE = b"x" * 300_000


def request(url: str, body: bytes = BODY) -> HttpRequest:
    return HttpRequest(
        operation="servers.reboot", method="POST", url=f"{url}/action", headers={}, body=body, timeout=TIMEOUT
    )


class Reader:
    """A server that reads some bytes of each connection, notes how many it got, and breaks off.

    Attributes:
        read: How many bytes of a request it has read, connection by connection.
    """

    def __init__(self, sizes: Iterator[int], *, resets: bool, secure: bool = False) -> None:
        self.read: list[int] = []
        self._sizes = sizes
        self._resets = resets
        self._secure = secure

    async def __call__(self, talk: Talk) -> None:
        assert isinstance(talk, MemoryTalk)
        if self._secure:
            await talk.begin_tls(server_context())
        self.read.append(len(await talk.hear_bytes(next(self._sizes))))
        if self._resets:
            talk.reset()


def check(outcome: Outcome, *, delivered: bool) -> None:
    assert isinstance(outcome, TransportError)
    assert not isinstance(outcome, TimeoutError)
    assert outcome.maybe_delivered or not delivered
    assert ("the cloud may have received it" in str(outcome)) == outcome.maybe_delivered


async def size_of_request(library: ModuleType, trust: ssl.SSLContext) -> int:
    async with MemoryServer(answers(answer())) as server, make_transport(library, trust, 1) as transport:
        await transport.send(request(server.url))
        return len(server.heard[0])


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_r3_of_a_request_read_to_any_byte_it_is_said_that_it_may_have_been_delivered(
    library: ModuleType, trusting: ssl.SSLContext, secure: bool, resets: bool
) -> None:
    async def main() -> None:
        size = await size_of_request(library, trusting)
        sizes = range(1, size + 1, 9 if secure else 1)
        reader = Reader(iter(sizes), resets=resets, secure=secure)
        async with MemoryServer(reader) as server, make_transport(library, trusting, 1) as transport:
            for _ in sizes:
                url = server.secure_url if secure else server.url
                check(await outcome_of(transport.send(request(url))), delivered=True)
            # Each was sent once, and read as far as it should be.
            assert reader.read == list(sizes)
            assert server.accepted == len(sizes)

    run_in_memory(main)


@pytest.mark.parametrize("resets", [True, False])
def test_r3_of_a_large_request_that_is_read_in_part_it_is_said_too(
    library: ModuleType, trusting: ssl.SSLContext, resets: bool
) -> None:
    # The rest of it is still in the client's buffer when the server breaks off.
    sizes = [1, 1000, 60_000, 65_000, 131_000, 200_000, 299_000]

    async def main() -> None:
        reader = Reader(iter(sizes), resets=resets)
        async with MemoryServer(reader) as server, make_transport(library, trusting, 1) as transport:
            for _ in sizes:
                check(await outcome_of(transport.send(request(server.url, LARGE))), delivered=True)
            assert reader.read == sizes
            await asyncio.sleep(0)
            assert all(end.closed for end in server.ends)

    run_in_memory(main)


@pytest.mark.parametrize("passes", range(8))
@pytest.mark.parametrize("resets", [True, False])
def test_r3_of_a_kept_connection_that_breaks_at_any_pass_it_is_said_if_the_request_was_read(
    library: ModuleType, trusting: ssl.SSLContext, resets: bool, passes: int
) -> None:
    read: list[bytes] = []

    async def answers_once(talk: Talk) -> None:
        assert isinstance(talk, MemoryTalk)
        await talk.hear()
        await talk.say(answer(body=b'"first"'))
        await talk.turn(passes)
        if resets:
            talk.reset()
        read.append(bytes(talk._reader._buffer))  # type: ignore[attr-defined]

    async def main() -> None:
        async with MemoryServer(answers_once) as server, make_transport(library, trusting, 1) as transport:
            assert (await transport.send(request(server.url))).body == b'"first"'
            second = await outcome_of(transport.send(request(server.url)))
            if isinstance(second, TransportError):
                # Where the connection was seen to break, it was not used.
                assert second.maybe_delivered
                assert server.accepted == 1
            else:
                assert server.accepted == 2
                assert read[0] == b""

    run_in_memory(main)


CONNECT_RESPONSE = b"HTTP/1.1 200 Connection established\r\nX-Proxy: some\r\n\r\n"


@pytest.mark.parametrize("resets", [True, False])
def test_r3_a_proxy_that_breaks_off_at_any_byte_of_its_response_passes_nothing_on(
    library: ModuleType, trusting: ssl.SSLContext, resets: bool
) -> None:
    cuts = iter(range(len(CONNECT_RESPONSE) + 1))

    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(CONNECT_RESPONSE[: next(cuts)])
        if resets:
            talk.reset()

    async def main() -> None:
        async with (
            MemoryServer(behave) as proxy,
            make_transport(library, trusting, 1, proxy=proxy.url) as transport,
        ):
            for _ in range(len(CONNECT_RESPONSE) + 1):
                outcome = await outcome_of(transport.send(request("https://bms.example.com")))
                assert isinstance(outcome, TransportError)
                assert not outcome.maybe_delivered
                assert "ProxyError: the proxy" in str(outcome) or f"the proxy 127.0.0.1:{proxy.port}" in str(outcome)
            assert {heard.partition(b" ")[0] for heard in proxy.heard} == {b"CONNECT"}

    run_in_memory(main)


@pytest.mark.parametrize("cut", [0, 1, 50, 100, 150, 20_000, 100_000])
@pytest.mark.parametrize("resets", [True, False])
async def test_r3_the_same_holds_on_real_sockets(
    library: ModuleType, trusting: ssl.SSLContext, cut: int, resets: bool
) -> None:
    async def behave(talk: Talk) -> None:
        if cut:
            await talk._reader.readexactly(cut)
        if resets:
            talk.reset()

    async with Loopback(behave) as server, make_transport(library, trusting, 1) as transport:
        outcome = await outcome_of(transport.send(request(server.url, LARGE)))
        check(outcome, delivered=cut > 0)
        assert server.accepted == 1
    async with Loopback(answers(answer())) as gone:
        address = gone.url
    async with make_transport(library, trusting, 1) as transport:
        outcome = await outcome_of(transport.send(request(address)))
        assert isinstance(outcome, TransportError)
        assert not outcome.maybe_delivered
