"""A clock for a simulated cloud that follows the running event loop."""

from __future__ import annotations

import asyncio
import contextlib

from .clock import VirtualClockLoop

__all__ = ["LoopTime"]


class LoopTime:
    """A clock that starts at 0 and follows the running event loop.

    A fixture makes a cloud before a loop runs, and a test may read the cloud after its loop has ended, or run another
    loop. So the clock stays at 0 until it is first read within a loop, and continues from its value in the next one.
    """

    __slots__ = ("_began", "_loop", "_passed")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passed = self._began = 0.0

    def __call__(self) -> float:
        """Return the seconds since it was first read within a loop."""
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
            if running is not self._loop:
                self._passed = self._read()
                self._loop, self._began = running, _passed_on(running)
        return self._read()

    def _read(self) -> float:
        return self._passed if self._loop is None else self._passed + _passed_on(self._loop) - self._began


def _passed_on(loop: asyncio.AbstractEventLoop) -> float:
    """Return the time that passed outside of the loop: more than the loop's own if the machine was suspended."""
    return loop.time() + (loop.suspended if isinstance(loop, VirtualClockLoop) else 0.0)
