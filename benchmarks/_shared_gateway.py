"""A gateway that counts the calls of many processes over a strict sliding window; `benchmarks.shared_limits` runs it.

    python -m benchmarks._shared_gateway LIMIT WINDOW

A call is a line with a number, and is answered by that number and whether it was refused. It arrives after half of the
time that it is on the wire, which is drawn for each of the two ways. A line with ``?`` is answered by what arrived.
"""

from __future__ import annotations

import asyncio
import json
import sys
from random import Random
from typing import cast

from benchmarks._serving import serve
from bms_async.simulator import SlidingWindow

WIRE = (0.02, 0.3)
"""Seconds that a call and its response are on the wire, from and to."""

_MINUTE = 60.0


class Gateway:
    """Counts what arrives.

    Args:
        limit: Calls a window.
        window: Seconds.
    """

    def __init__(self, limit: int, window: float) -> None:
        self._window = window
        self._throttle = SlidingWindow(limit)
        self._arrivals: list[float] = []
        self._refused = 0
        self._draw = Random(7)

    def draw(self) -> float:
        """Return the seconds of one way."""
        return self._draw.uniform(*WIRE) / 2

    def admit(self, now: float) -> bool:
        """Count a call that arrives."""
        self._arrivals.append(now)
        # The throttle's window is a minute.
        is_admitted = self._throttle.admit(now * _MINUTE / self._window) <= 0
        self._refused += not is_admitted
        return is_admitted

    def summary(self) -> dict[str, float]:
        """Return how many calls arrived and were refused, the most in a window, and the seconds from first to last."""
        most = first = 0
        for last, at in enumerate(self._arrivals):
            while at - self._arrivals[first] >= self._window:
                first += 1
            most = max(most, last - first + 1)
        lasted = self._arrivals[-1] - self._arrivals[0] if self._arrivals else 0.0
        return {"calls": len(self._arrivals), "refused": self._refused, "most": most, "lasted": lasted}


class Connection(asyncio.Protocol):
    """One process that calls."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Let each call arrive later."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == b"?":
                self._transport.write(json.dumps(self._gateway.summary()).encode() + b"\n")
            else:
                self._loop.call_later(self._gateway.draw(), self._arrive, line)

    def _arrive(self, line: bytes) -> None:
        word = b"ok" if self._gateway.admit(self._loop.time()) else b"refused"
        self._loop.call_later(self._gateway.draw(), self._transport.write, line + b" " + word + b"\n")


class Line:
    """A process's connection to the gateway.

    Args:
        port: Its port on this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}
        self._sent = 0

    async def open(self) -> None:
        """Connect."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def call(self) -> bool:
        """Make a call; return whether it was refused."""
        self._sent += 1
        number = b"%d" % self._sent
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(number + b"\n")
        is_refused: bool = await answer
        return is_refused

    async def aclose(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._reading

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            number, word = line.split()
            self._waiting.pop(number).set_result(word == b"refused")


async def ask_summary(port: int) -> dict[str, float]:
    """Return what arrived at the gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"?\n")
    summary: dict[str, float] = json.loads(await reader.readline())
    writer.close()
    return summary


if __name__ == "__main__":
    gateway = Gateway(int(sys.argv[1]), float(sys.argv[2]))
    serve(lambda: Connection(gateway))
