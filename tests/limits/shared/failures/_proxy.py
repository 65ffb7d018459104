"""A TCP proxy that can lead to another server, and hold back what it carries."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.support.listener import Listener


class Proxy:
    """A proxy on a port of its own, open inside its context.

    Args:
        target: The port that it leads to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._goes = asyncio.Event()
        self._goes.set()
        self._listener = Listener(self._lead)

    @property
    def port(self) -> int:
        return self._listener.port

    def hold(self) -> None:
        """Carry nothing any more; the connections stay open."""
        self._goes.clear()

    def switch(self, target: int) -> None:
        """Lead to another port, and cut the connections that there are."""
        self._target = target
        self._listener.cut()

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.__aexit__()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [asyncio.ensure_future(self._carry(reader, back)), asyncio.ensure_future(self._carry(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._goes.wait()
            target.write(data)
            await target.drain()
