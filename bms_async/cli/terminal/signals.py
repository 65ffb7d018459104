"""Ctrl-C and other signals: the first one ends the command in order, the next one at once."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from .exit import print_error

__all__ = ["SignalHandler", "run_interruptibly"]

_DUPLICATE_SECONDS = 0.3
_SHOW_CURSOR = "\x1b[?25h"


class SignalHandler:
    """Handles signals.

    Attributes:
        number: The first signal, 0 before any.
        on_first_signal: Called on the first signal; None cancels `scope`.
        scope: The scope of the whole command.
    """

    def __init__(self) -> None:
        self.number = 0
        self.on_first_signal: Callable[[], None] | None = None
        self.scope = anyio.CancelScope()
        self._received_at = 0.0

    def on_signal(self, number: int) -> None:
        """Handle a signal."""
        now = asyncio.get_running_loop().time()
        if self.number:
            # One key press may arrive twice, from the terminal and from the parent process, and a closed terminal may
            # send SIGHUP any number of times.
            if number != signal.SIGHUP and now - self._received_at > _DUPLICATE_SECONDS:
                self._exit_now(number)
            return
        self.number, self._received_at = number, now
        if self.on_first_signal is None:
            self.scope.cancel()
        else:
            self.on_first_signal()

    @staticmethod
    def _exit_now(number: int) -> None:
        """Exit now, even if a thread is blocked on a stopped terminal."""
        if sys.stderr.isatty():
            os.set_blocking(sys.stderr.fileno(), False)
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
            os.set_blocking(sys.stderr.fileno(), True)
        os._exit(128 + number)


def run_interruptibly(main: Callable[[SignalHandler], Awaitable[int]]) -> int:
    """Run a coroutine function in an event loop, and return its exit code or that of the signal that ended it.

    Args:
        main: Called with the signal handler.
    """

    async def run() -> int:
        stop = SignalHandler()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A signal that the parent process ignores stays ignored, as under `nohup`.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop.on_signal, number)
        code = 0
        with stop.scope:
            code = await main(stop)
        if stop.scope.cancelled_caught:
            print_error("interrupted; nothing was changed")
        return 128 + stop.number if stop.number else code

    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    return asyncio.run(run())
