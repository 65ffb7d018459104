"""Ctrl-C and its relatives: the first ends things in order, the next at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from .exit import print_error

__all__ = ["SignalHandler", "run_interruptibly"]

_ONE_PRESS = 0.3
_SHOW_CURSOR = "\x1b[?25h"


class SignalHandler:
    """Takes signals in.

    Attributes:
        number: The signal that came first, 0 as long as none has.
        on_first_signal: What the first one does; None cancels everything that is under way.
        scope: What it cancels.
    """

    def __init__(self) -> None:
        self.number = 0
        self.on_first_signal: Callable[[], None] | None = None
        self.scope = anyio.CancelScope()
        self._came_at = 0.0

    def on_signal(self, number: int) -> None:
        """Take a signal in."""
        now = asyncio.get_running_loop().time()
        if self.number:
            # One press may come more than once, from the terminal and from whoever started us; a terminal that is
            # closed says so as often as it likes.
            if number != signal.SIGHUP and now - self._came_at > _ONE_PRESS:
                self._leave(number)
            return
        self.number, self._came_at = number, now
        if self.on_first_signal is None:
            self.scope.cancel()
        else:
            self.on_first_signal()

    @staticmethod
    def _leave(number: int) -> None:
        """End the process now: not even a thread that waits for a stopped terminal keeps it."""
        if sys.stderr.isatty():
            os.set_blocking(sys.stderr.fileno(), False)
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
            os.set_blocking(sys.stderr.fileno(), True)
        os._exit(128 + number)


def run_interruptibly(main: Callable[[SignalHandler], Awaitable[int]]) -> int:
    """Run a coroutine function in an event loop, and return its exit code or that of the signal that ended it.

    Args:
        main: Is handed what takes signals in.
    """

    async def whole() -> int:
        stop = SignalHandler()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What whoever started us has switched off stays off: `nohup` does so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop.on_signal, number)
        code = 0
        with stop.scope:
            code = await main(stop)
        if stop.scope.cancelled_caught:
            print_error("interrupted; nothing was changed")
        return 128 + stop.number if stop.number else code

    return asyncio.run(whole())
