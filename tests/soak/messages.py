"""HTTP/1.1 on a bare socket, as much of it as stands between client and cloud."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STATUS = {200: b"OK", 429: b"Too Many Requests", 500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Busy"}


class Message(NamedTuple):
    """A request or an answer, as it stands."""

    head: bytes
    body: bytes

    @property
    def whole(self) -> bytes:
        return self.head + self.body

    @property
    def first_line(self) -> list[str]:
        return self.head.partition(b"\r\n")[0].decode("latin-1").split(" ")

    @property
    def status(self) -> int:
        return int(self.first_line[1])

    @property
    def keeps(self) -> bool:
        return b"\r\nconnection: close" not in self.head.lower()


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Read one whole message; None at the end of the connection.

    Raises:
        ConnectionError: It broke.
        asyncio.IncompleteReadError: It ended in the middle.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    found = _LENGTH.search(head)
    return Message(head, await reader.readexactly(int(found[1])) if found else b"")


def make_answer(status: int, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()
    return b"HTTP/1.1 %d %b\r\n" % (status, _STATUS[status]) + head + body


async def ask(address: str, method: str, path: str, body: bytes = b"") -> Any:
    """Ask a process of ours something, past the SDK, and return what it said."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await read_message(reader)
        assert answer is not None, f"{path}: no answer"
        assert answer.status == 200, f"{path}: {answer.status}"
        return msgspec.json.decode(answer.body)
    finally:
        writer.close()
        await writer.wait_closed()
