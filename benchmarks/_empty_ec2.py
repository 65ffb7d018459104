"""An EC2 endpoint without instances, on a socket, in a process of its own.

    python -m benchmarks._empty_ec2

It answers every request with an empty list of instances, and prints its port.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from benchmarks._serving import serve

_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
    b"<requestId>00000000-0000-0000-0000-000000000000</requestId><reservationSet/></DescribeInstancesResponse>"
)
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Responder(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._received) < end:
                return
            self._received = self._received[end:]
            self._transport.write(_RESPONSE)


if __name__ == "__main__":
    serve(_Responder)
