"""A list of many servers in pages, on a socket, in a process of its own.

    python -m benchmarks._page_server SERVERS [DELAY]

It answers every request with the page that its query names, by number (``limit`` and ``offset``) or by marker, and
prints its port. The servers are encoded once, so that the figures are those of the client.
"""

from __future__ import annotations

import asyncio
import json
import sys
from bisect import bisect_right
from typing import cast
from urllib.parse import parse_qs

import msgspec

from benchmarks._samples import http_response
from benchmarks._serving import serve
from tests.reference.examples import SERVER_LIST, SERVER_SHOW, repair

_MAX_PAGE_SIZE = 1000
# The document that openstacksdk requests first.
_VERSION = (
    b'{"version":{"id":"v2.1","status":"CURRENT","version":"2.90","min_version":"2.1",'
    b'"links":[{"rel":"self","href":"%b"}]}}'
)


def server_documents(servers: int) -> list[bytes]:
    """Return servers with all fields that the reference shows (4.3.1 and 4.3.2), each with an id of its own."""
    shown = {
        **json.loads(repair(SERVER_LIST))["servers"][0],
        **json.loads(repair(SERVER_SHOW))["server"],
        "security_groups": [{"name": "sg-bms", "id": "4ea1b1b2-1f4e-4b86-9a3f-6f2d0e6a1b5d"}],
        "os-extended-volumes:volumes_attached": [
            {
                "id": "dd75e3c4-8b2e-4d9a-9c8f-1f0f7a0b6c11",
                "delete_on_termination": "false",
                "bootIndex": "0",
                "device": "/dev/sda",
            }
        ],
    }
    whole = msgspec.json.encode({**shown, "id": "ID-OF-IT", "name": "NAME-OF-IT"})
    return [
        whole.replace(b"ID-OF-IT", server_id(number).encode()).replace(b"NAME-OF-IT", b"bms-%06d" % number)
        for number in range(servers)
    ]


def server_id(number: int) -> str:
    """Return the id of the server with this index."""
    return f"53206ed0-56de-4d6b-b7ee-{number:012x}"


class _Responder(asyncio.Protocol):
    def __init__(self, documents: list[bytes], ids: list[str], delay: float) -> None:
        self._documents = documents
        self._ids = ids
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            target = self._received[:end].split(b" ", 2)[1].decode()
            self._received = self._received[end + 4 :]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, self._response(target))
            else:
                self._transport.write(self._response(target))

    def _response(self, target: str) -> bytes:
        path, _, text = target.partition("?")
        if not path.endswith("/detail"):
            return http_response(_VERSION % path.encode())
        query = parse_qs(text)
        size = min(_MAX_PAGE_SIZE, int(query.get("limit", ["1000"])[0]))
        begin = (int(query.get("offset", ["1"])[0]) - 1) * size
        if "marker" in query:
            begin = bisect_right(self._ids, query["marker"][0])
        servers = b",".join(self._documents[begin : begin + size])
        return http_response(b'{"count":%d,"servers":[%s]}' % (len(self._ids), servers))


def main(servers: int, delay: float) -> None:
    """Serve a list of so many servers on a free port, until the process ends."""
    documents, ids = server_documents(servers), [server_id(number) for number in range(servers)]
    serve(lambda: _Responder(documents, ids, delay))


if __name__ == "__main__":
    main(int(sys.argv[1]), float("".join(sys.argv[2:3]) or 0))
