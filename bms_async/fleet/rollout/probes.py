"""Asking a server itself whether it is well: its addresses, a TCP connection, a request of HTTP.

No credentials are sent to a server, for nothing here has any: requests go over a transport of their own, which knows
neither the client's headers nor its proxy. A server that answers without end is cut off after 64 KiB.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio

from bms_async._threads import run_in_thread
from bms_async._version import __version__
from bms_async.errors import ResponseTooLargeError, TransportError
from bms_async.models import Server
from bms_async.transport import Transport
from bms_async.transport._sockets import connect_socket
from bms_async.wire import HttpRequest

if TYPE_CHECKING:
    from bms_async.transport.direct import DirectTransport

_CONNECTIONS = 512
_MAX_ADDRESSES = 8
_HEADERS = {"User-Agent": f"bms-async/{__version__}", "Connection": "close"}


def addresses_of(server: Server, kind: str, network: str | None) -> list[str]:
    """Return the addresses of a server that can be asked, at most 8, in the order in which the cloud has them.

    Args:
        server: The server.
        kind: ``fixed``, ``floating`` or ``any``; an address without a type is a fixed one.
        network: The key of ``Server.addresses`` that they must be under; None for any.
    """
    found: dict[str, None] = {}
    for name, addresses in server.addresses.items():
        if network is not None and name != network:
            continue
        for each in addresses:
            if kind in ("any", each.type or "fixed") and each.address is not None and _is_address(each.address):
                found[each.address] = None
    return list(found)[:_MAX_ADDRESSES]


async def ask_all(addresses: list[str], ask: Callable[[str], Awaitable[str | None]]) -> dict[str, str]:
    """Ask several addresses at once.

    Args:
        addresses: The addresses.
        ask: Asks one, and returns why it is not well; None if it is.

    Returns:
        What each has answered; empty as soon as one of them is well.
    """
    answers: dict[str, str] = {}
    are_well: list[str] = []

    async def ask_one(address: str, group: anyio.abc.TaskGroup) -> None:
        answer = await ask(address)
        if answer is None:
            are_well.append(address)
            group.cancel_scope.cancel()
        else:
            answers[address] = answer

    if len(addresses) == 1:
        answer = await ask(addresses[0])
        return {} if answer is None else {addresses[0]: answer}
    async with anyio.create_task_group() as group:
        for address in addresses:
            group.start_soon(ask_one, address, group)
    return {} if are_well else answers


async def ask_tcp(address: str, port: int, seconds: float) -> str | None:
    """Open a TCP connection and close it; return why it cannot be opened, None if it can.

    Args:
        address: An IP address.
        port: The port.
        seconds: How long it may take.
    """
    try:
        async with asyncio.timeout(seconds):
            opened = await connect_socket(address, port)
    except TimeoutError as error:
        # The system's own timeout is one too, and has a number.
        return _words_of(error) if error.errno else f"no answer within {seconds:g} s"
    except OSError as error:
        return _words_of(error)
    opened.close()
    return None


async def ask_http(transport: Transport, url: str, *, host: str | None, seconds: float) -> int | str:
    """Send a GET and return the status, or why there is none.

    Args:
        transport: What it is sent over.
        url: The URL, with an IP address.
        host: The value of ``Host``, which a certificate must have too; None for the address.
        seconds: How long it may take.
    """
    headers = _HEADERS if host is None else {**_HEADERS, "Host": host}
    request = HttpRequest(operation="readiness", method="GET", url=url, headers=headers, timeout=seconds)
    try:
        async with asyncio.timeout(seconds):
            return (await transport.send(request)).status
    except ResponseTooLargeError as error:
        return error.status
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except TransportError as error:
        return _reason_of(error)


class Connections:
    """What requests of HTTP are sent over: one transport that verifies certificates, and one that does not."""

    def __init__(self) -> None:
        self._transports: dict[bool, DirectTransport] = {}
        self._opening = anyio.Lock()

    async def transport(self, *, verify: bool) -> DirectTransport:
        """Return an open transport.

        Args:
            verify: Whether it verifies certificates.
        """
        async with self._opening:
            transport = self._transports.get(verify)
            if transport is None:
                # In a thread: importing an HTTP library would hold the event loop for too long.
                made = await run_in_thread(_make_transport, verify)
                await made.open()
                transport = self._transports[verify] = made
        return transport

    async def aclose(self) -> None:
        """Close the transports."""
        for transport in self._transports.values():
            await transport.aclose()


_shared: ContextVar[Connections | None] = ContextVar("bms_async connections of readiness checks", default=None)


@asynccontextmanager
async def shared_connections() -> AsyncIterator[Connections]:
    """Have all requests that are made inside use the same transports; inside another one, those of the outer one."""
    outer = _shared.get()
    if outer is not None:
        yield outer
        return
    connections = Connections()
    token = _shared.set(connections)
    try:
        yield connections
    finally:
        _shared.reset(token)
        await connections.aclose()


def _make_transport(verify: bool) -> DirectTransport:  # noqa: FBT001 - a thread is given no keywords
    from bms_async.transport.direct import DirectTransport  # noqa: PLC0415 - only who asks over HTTP needs it

    return DirectTransport(verify=verify, connections=_CONNECTIONS)


def _is_address(text: str) -> bool:
    # Anything else would be looked up as a name.
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _words_of(error: OSError) -> str:
    words = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return words[:1].lower() + words[1:]


def _reason_of(error: TransportError) -> str:
    """Return why nothing was answered, without the hints that are for the cloud's address."""
    cause: BaseException | None = error
    while cause is not None:
        # The number of an error of TLS is not the system's.
        if isinstance(cause, OSError) and not isinstance(cause, TimeoutError | ssl.SSLError) and cause.errno:
            return _words_of(cause)
        cause = cause.__cause__ or cause.__context__
    text = str(error).removeprefix("readiness: ").partition("; no connection to ")[0]
    for ending in (" (the cloud may have received it)", " (nothing reached the cloud)"):
        text = text.removesuffix(ending)
    return text
