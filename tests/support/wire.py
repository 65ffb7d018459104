"""A way to a server, on which a question or its answer gets lost, and the connection with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Wire:
    """Loses the connection at the next question that has certain bytes in it.

    Attributes:
        lost: How often that was done.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._losing = b""
        self._arrives = False

    def lose_at(self, part: bytes, *, arrives: bool) -> None:
        """Lose the next question with these bytes; or, if it is to arrive, the answer to it."""
        self._losing, self._arrives = part, arrives

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[int]:
        """Listen on a port of this machine for those who want to a server's port."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            lost = asyncio.Event()
            ways = {
                asyncio.ensure_future(self._carry_questions(reader, back, lost)),
                asyncio.ensure_future(_carry_answers(there, writer, lost)),
            }
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

        listening = await asyncio.start_server(carry, "127.0.0.1")
        async with listening:
            yield listening.sockets[0].getsockname()[1]

    async def _carry_questions(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if self._losing and self._losing in data:
                self._losing = b""
                self.lost += 1
                if not self._arrives:
                    return
                lost.set()
            writer.write(data)


async def _carry_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
    while (data := await reader.read(65536)) and not lost.is_set():
        writer.write(data)
