"""Connections that wait for their next request.

HTTP cannot tell a connection that its server is closing at this moment from one that it keeps. A request on the former
fails, and nobody can prove that it was not read before. So a connection is kept shorter than servers keep theirs, and
what must not be repeated goes on one that was in use a moment ago, or on a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from ._line import Line

REPEATABLE = frozenset({"GET", "HEAD"})
"""The methods of requests that can be repeated."""

LONGEST_FOR_ONCE = 1.0
"""Seconds that a connection may have been idle for a request that cannot be repeated."""


class IdleLines(dict[Hashable, list[Line]]):
    """Holds idle connections, for each way to a server those used last on top.

    Args:
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, keep_alive: float) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(map(len, self.values()))

    def put(self, way: Hashable, line: Line) -> None:
        """Keep a connection for the next request."""
        loop = asyncio.get_running_loop()
        line.since = loop.time()
        self.setdefault(way, []).append(line)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keep_alive, self._sweep)

    def take(self, way: Hashable, *, once: bool) -> Line | None:
        """Take the connection used last, if it can be relied on.

        Args:
            way: Where it leads.
            once: Whether the request must not be repeated.
        """
        lines = self.get(way)
        while lines:
            line = lines[-1]
            idle = asyncio.get_running_loop().time() - line.since
            if not line.usable or idle > line.keeps:
                lines.pop().close()
                continue
            if once and idle > min(LONGEST_FOR_ONCE, line.keeps / 2):
                return None
            return lines.pop()
        return None

    def drop_oldest(self) -> None:
        """Close the connection that was idle longest."""
        lines = min(filter(None, self.values()), key=lambda lines: lines[0].since)
        lines.pop(0).close()

    def close(self) -> None:
        """Close all."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for lines in self.values():
            for line in lines:
                line.close()
        self.clear()

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for way, lines in list(self.items()):
            kept = []
            for line in lines:
                if line.usable and now - line.since <= line.keeps:
                    kept.append(line)
                else:
                    line.close()
            if kept:
                self[way] = kept
            else:
                del self[way]
        self._sweeping = asyncio.get_running_loop().call_later(self._keep_alive / 2, self._sweep) if self else None
