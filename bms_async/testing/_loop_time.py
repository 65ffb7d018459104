"""A cloud's time that follows whichever event loop a test runs on."""

from __future__ import annotations

import asyncio
import contextlib

from .clock import VirtualClockLoop

__all__ = ["LoopTime"]


class LoopTime:
    """A clock that begins at 0 and goes as the running event loop's does.

    A fixture makes a cloud before a loop runs, and a test may look at the cloud after its loop has ended, or run a
    second one: the clock stands at 0 until it is first read within a loop, and goes on from where it was with the next.
    """

    __slots__ = ("_began", "_loop", "_passed")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passed = self._began = 0.0

    def __call__(self) -> float:
        """Seconds since it was first read within a loop."""
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
            if running is not self._loop:
                self._passed = self._read()
                self._loop, self._began = running, _passed_on(running)
        return self._read()

    def _read(self) -> float:
        return self._passed if self._loop is None else self._passed + _passed_on(self._loop) - self._began


def _passed_on(loop: asyncio.AbstractEventLoop) -> float:
    """What has passed for the world outside of a loop: more than the loop's time where the machine has slept."""
    return loop.time() + (loop.suspended if isinstance(loop, VirtualClockLoop) else 0.0)
