"""Trials in memory: a server that answers its first request with any bytes, and a second request after that."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable
from types import ModuleType
from typing import Literal, NamedTuple, TypeAlias

from bms_async import HttpRequest, HttpResponse, ResponseTooLargeError, TransportError
from tests.transport._transports import make_transport
from tests.transport.loopback import Behaviour, Talk, answer
from tests.transport.memory import MemoryServer, run_in_memory

TIMEOUT = 5.0
"""Seconds of the virtual clock that a request may take."""

Ending: TypeAlias = Literal["stays", "closes", "resets"]
"""What a server does behind its response: wait for the next request, close, or break off."""

Outcome: TypeAlias = HttpResponse | TransportError | ResponseTooLargeError

BOUND = 100_000
"""How many bytes a response may have."""


class Trial(NamedTuple):
    """What became of two requests on a transport of one connection.

    Attributes:
        first: The outcome of the request that was answered with any bytes.
        second: The outcome of the request after it.
        took: Seconds until the first outcome.
        reused: Whether both were sent on one connection.
        heard: How many requests the server has read.
        left_open: How many connections were open when the transport was closed.
    """

    first: Outcome
    second: Outcome
    took: float
    reused: bool
    heard: int
    left_open: int


def request(url: str, target: str = "/first", method: str = "GET", body: bytes = b"") -> HttpRequest:
    return HttpRequest(operation="servers.get", method=method, url=url + target, headers={}, body=body, timeout=TIMEOUT)


OWN = answer(body=b'"its own"')


def says(pieces: Iterable[bytes], ending: Ending, *, unasked: bool = False) -> Behaviour:
    """Answer the first request with these pieces, and every other one properly.

    Args:
        pieces: They arrive one by one.
        ending: What happens behind the last piece.
        unasked: Whether to answer before the request was read.
    """
    begun: list[Talk] = []

    async def behave(talk: Talk) -> None:
        if not begun:
            begun.append(talk)
            if not unasked:
                await talk.hear()
            for piece in pieces:
                await talk.say(piece)
            if ending == "resets":
                talk.reset()
            if ending != "stays":
                return
        while await talk.hear() is not None:
            await talk.say(OWN)

    return behave


async def outcome_of(sent: Awaitable[HttpResponse]) -> Outcome:
    try:
        return await sent
    except (TransportError, ResponseTooLargeError) as error:
        return error


def attempt(
    library: ModuleType,
    trust: ssl.SSLContext,
    pieces: Iterable[bytes],
    ending: Ending = "stays",
    *,
    method: str = "GET",
    unasked: bool = False,
    idle: float = 0.0,
) -> Trial:
    """Send a request that is answered with these pieces, and so many seconds later another one."""

    async def main() -> Trial:
        loop = asyncio.get_running_loop()
        async with MemoryServer(says(pieces, ending, unasked=unasked)) as server:
            async with make_transport(library, trust, 1, max_response_bytes=BOUND) as transport:
                began = loop.time()
                first = await outcome_of(transport.send(request(server.url, method=method)))
                took = loop.time() - began
                await asyncio.sleep(idle)
                second = await outcome_of(transport.send(request(server.url, "/second")))
            await asyncio.sleep(0)
            left_open = sum(not end.closed for end in server.ends)
            return Trial(first, second, took, server.accepted == 1, len(server.heard), left_open)

    return run_in_memory(main)


def shown(outcome: Outcome) -> object:
    """Return what is compared of an outcome."""
    if not isinstance(outcome, HttpResponse):
        return type(outcome).__name__
    headers = tuple((name.lower(), str.__str__(value)) for name, value in outcome.headers)
    return outcome.status, headers, bytes(outcome.body)


OWN_SHOWN = (200, (("content-type", "application/json"), ("content-length", "9")), b'"its own"')
