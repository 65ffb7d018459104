"""An event loop on a clock of its own: it jumps to the next timer when nothing else is to do.

Hours of waiting pass in no time, and a run is the same each time. The clock also creeps by a microsecond on every pass
of the loop, for a timer that is armed for "now" again and again (as aiolimiter's rounding does) would stop it for ever.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiolimiter  # noqa: F401 - a client would import it in a thread, for which no virtual clock waits
import anyio

T = TypeVar("T")

_CREEP = 1e-6


class VirtualClockLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0

    def time(self) -> float:
        return self._virtual_now

    def _run_once(self) -> None:
        loop: Any = self
        self._virtual_now += _CREEP
        if not loop._ready:
            while loop._scheduled and loop._scheduled[0]._cancelled:
                loop._timer_cancelled_count -= 1
                heapq.heappop(loop._scheduled)._scheduled = False
            if not loop._scheduled:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self._virtual_now = max(self._virtual_now, loop._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())


async def advance(seconds: float) -> None:
    """Let virtual time pass; on a real clock this refuses, so that no test ever sleeps."""
    assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    await anyio.sleep(seconds)
