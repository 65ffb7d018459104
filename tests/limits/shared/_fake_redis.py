"""A server that says what a test wants, for what a real one says only when it is hard to bring about."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

INFO = "redis_version:9.9.9\r\nredis_mode:standalone\r\nrun_id:fake\r\n"


class FakeRedis:
    """Answers each command by its first word; what it has no line for is answered by OK.

    Attributes:
        port: Its port.
        lines: What is said to a command: a line of the protocol without its end, as ``-LOADING …``.
        info: The text of INFO.
    """

    def __init__(self, lines: Mapping[str, str], info: str) -> None:
        self.port = 0
        self.lines, self.info = dict(lines), info

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readline():
                words = []
                for _ in range(int(header[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                command = words[0].decode()
                answer = f"${len(self.info)}\r\n{self.info}" if command == "INFO" else "+OK"
                text = self.lines.get(command, answer)
                writer.write(f"{text}\r\n".encode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def fake_redis(
    lines: Mapping[str, str] | None = None, *, info: str = INFO, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeRedis]:
    fake = FakeRedis(lines or {}, info)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=tls)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
