"""Opening TCP connections, the addresses of a name in parallel (RFC 8305, rule R4).

What it guarantees: a connection that is not returned is closed, also if the caller is cancelled at the moment at which
it opens, and no task is left.

Rejected: `happy_eyeballs_delay` of asyncio. In Python 3.11, it neither waits for its tasks when it is cancelled nor
closes the connection that has just opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any, TypeAlias

Address: TypeAlias = tuple[socket.AddressFamily, Any]

_HEAD_START = 0.25
"""Seconds after which the next address is tried, beside those before it."""


async def connect_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to a server.

    Args:
        host: Its name or address.
        port: Its port.

    Raises:
        OSError: The name has no address, or none of them can be connected to.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _connect(addresses[0])
    return await _Race(addresses).run()


def is_address(host: str) -> bool:
    """Return whether a host is given by its address and not by a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve(host: str, port: int) -> list[Address]:
    if is_address(host):
        # Nothing is looked up, and so no thread is needed. A text would bring the codec of international names with it.
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    else:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    if not addresses:
        raise OSError(f"{host} has no address")
    return _interleave(addresses)


def _interleave(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with their families in turn, for a family may not work at all."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [each for each in chain.from_iterable(zip_longest(*families.values())) if each is not None]


async def _connect(address: Address) -> socket.socket:
    opened = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        opened.settimeout(0.0)
        await asyncio.get_running_loop().sock_connect(opened, address[1])
    except BaseException:
        opened.close()
        raise
    return opened


class _Race:
    """Tries the addresses of a server until one of them is connected to."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._opened: list[socket.socket] = []
        self._errors: list[OSError] = []
        self._changed = asyncio.Event()

    async def run(self) -> socket.socket:
        """Return the first socket that is connected.

        Raises:
            OSError: No address can be connected to.
        """
        winner: socket.socket | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for address in self._addresses:
                    tasks.append(group.create_task(self._try(address), name="bms_async connect"))
                    await self._wait(len(self._errors), _HEAD_START)
                    if self._opened:
                        break
                while not self._opened and len(self._errors) < len(tasks):
                    await self._wait(len(self._errors), None)
                for task in tasks:
                    task.cancel()
            winner = self._opened[0] if self._opened else None
        finally:
            for each in self._opened:
                if each is not winner:
                    each.close()
        if winner is None:
            raise self._error()
        return winner

    async def _try(self, address: Address) -> None:
        try:
            self._opened.append(await _connect(address))
        except OSError as error:
            self._errors.append(error)
        self._changed.set()

    async def _wait(self, errors: int, seconds: float | None) -> None:
        """Wait until another attempt has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._opened and len(self._errors) == errors:
                    self._changed.clear()
                    await self._changed.wait()

    def _error(self) -> OSError:
        texts = list(dict.fromkeys(map(str, self._errors)))
        return self._errors[0] if len(texts) == 1 else OSError(", ".join(texts))
