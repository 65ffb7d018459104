"""A client for each connection: no more than needed, the last one used first, and none again that has failed."""

from __future__ import annotations

import asyncio
import ssl
from types import ModuleType
from typing import Any

import httpx
import pytest

from bms_async import HttpxTransport, TransportError
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer, answers, answers_when
from tests.transport.test_connections import request


class Factory:
    """Makes clients of one connection, and remembers them."""

    def __init__(self, library: ModuleType, trust: ssl.SSLContext) -> None:
        self._library = library
        self._trust = trust
        self.made: list[Any] = []

    def __call__(self) -> Any:
        limits = self._library.Limits(max_connections=1)
        self.made.append(self._library.AsyncClient(verify=self._trust, trust_env=False, limits=limits))
        return self.made[-1]


@pytest.fixture
def make(one_of_httpx: ModuleType, trusting: ssl.SSLContext) -> Factory:
    return Factory(one_of_httpx, trusting)


async def test_as_many_clients_are_made_as_requests_run_at_once_and_no_more(make: Factory) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, HttpxTransport(make, connections=5) as transport:
        calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(50)]
        await server.until(lambda it: len(it.heard) == 5)
        gate.set()
        assert [each.status for each in await asyncio.gather(*calls)] == [200] * 50
        assert (len(make.made), server.peak, server.accepted) == (5, 5, 5)
    assert all(client.is_closed for client in make.made)


async def test_one_caller_after_another_uses_one_connection(make: Factory) -> None:
    async with Loopback(answers(answer())) as server, HttpxTransport(make) as transport:
        assert transport.statistics().max_connections == 64
        for _ in range(20):
            await transport.send(request(server.url))
        assert (len(make.made), server.accepted) == (1, 1)


async def test_a_client_that_failed_is_closed_and_another_takes_its_place(make: Factory) -> None:
    turns = iter([False, True, True])

    async def behave(talk: Talk) -> None:
        if next(turns):
            await answers(answer())(talk)
        else:
            await talk.hear()
            talk.reset()

    async with Loopback(behave) as server, HttpxTransport(make) as transport:
        with pytest.raises(TransportError):
            await transport.send(request(server.url))
        assert [client.is_closed for client in make.made] == [True]
        assert (await transport.send(request(server.url))).status == 200
        assert [client.is_closed for client in make.made] == [True, False]


async def test_thirty_calls_cut_off_while_they_connect_leave_every_connection_usable(make: Factory) -> None:
    async with Loopback(answers(answer())) as server, HttpxTransport(make, connections=10) as transport:
        calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(30)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            again = await asyncio.gather(*(transport.send(request(server.url)) for _ in range(30)))
        assert [each.status for each in again] == [200] * 30


def test_a_function_that_cannot_make_a_client_fails_the_call_and_not_the_transport() -> None:
    async def run() -> None:
        def make() -> httpx.AsyncClient:
            raise ValueError("no")

        async with HttpxTransport(make) as transport:
            for _ in range(2):
                with pytest.raises(TransportError, match="ValueError"):
                    await transport.send(request("http://127.0.0.1:1"))

    asyncio.run(run())


async def test_what_comes_after_an_answer_is_not_taken_for_the_next_one() -> None:
    both = answer(200, b"one") + answer(200, b"nobody asked")
    async with Loopback(answers(both, answer(200, b"two"))) as server, HttpxTransport() as transport:
        for _ in range(3):
            assert (await transport.send(request(server.url))).body == b"one"
        assert server.accepted == 3


@pytest.mark.parametrize("proxy", ["socks5://proxy.example.com", "ftp://proxy.example.com"])
async def test_a_request_for_which_no_connection_can_be_made_was_never_sent(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with HttpxTransport() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(request("https://cloud.invalid"))
        assert not caught.value.maybe_delivered


async def test_a_request_was_never_sent_if_its_client_could_not_be_made() -> None:
    def breaks() -> httpx.AsyncClient:
        raise OSError("no such certificate")

    async with HttpxTransport(breaks) as transport:
        with pytest.raises(TransportError, match="no such certificate") as caught:
            await transport.send(request("https://cloud.invalid"))
        assert not caught.value.maybe_delivered
