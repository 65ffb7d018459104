"""Ctrl-C and other signals.

The first Ctrl-C has a run ask for no further server and wait for what is under way, the second one lets go of that, and
the third one ends the process at once. A command without such a run lets go at the first one. SIGTERM and SIGHUP come
from what does not wait for long, such as cron, `timeout` or a closed terminal: they let go at once.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import anyio

from .exit import print_error

__all__ = ["SignalHandler", "run_interruptibly"]

_DUPLICATE_SECONDS = 0.3
_SHORT = 0.5
"""Seconds of the loop in which nothing is collected."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""What ends a command; each system has some of them."""

_HANG_UP = getattr(signal, "SIGHUP", None)
_SHOW_CURSOR = "\x1b[?25h"


class SignalHandler:
    """Handles signals.

    Attributes:
        number: The first signal, 0 before any.
        on_interrupt: Called on the first Ctrl-C, to end in order; None lets go at once.
        on_first_signal: Called to let go: on the first signal that is no Ctrl-C, or on the second Ctrl-C. None cancels
            `scope`.
        scope: The scope of the whole command.
        has_let_go: Whether it has let go.
    """

    def __init__(self) -> None:
        self.number = 0
        self.on_interrupt: Callable[[], None] | None = None
        self.on_first_signal: Callable[[], None] | None = None
        self.scope = anyio.CancelScope()
        self.has_let_go = False
        self._received = 0
        self._received_at = -math.inf

    def on_signal(self, number: int) -> None:
        """Handle a signal."""
        now = asyncio.get_running_loop().time()
        is_close = now - self._received_at <= _DUPLICATE_SECONDS
        if self.has_let_go:
            # A closed terminal may send SIGHUP any number of times, and a supervisor several signals at once.
            if number != _HANG_UP and not is_close:
                self._exit_now(number)
            return
        # One key press may arrive twice, from the terminal and from the parent process.
        if is_close and number == self._received != _HANG_UP:
            return
        is_first = not self.number
        self._received, self._received_at = number, now
        self.number = self.number or number
        if number == signal.SIGINT and is_first and self.on_interrupt is not None:
            self.on_interrupt()
            return
        self.has_let_go = True
        if self.on_first_signal is None:
            self.scope.cancel()
        else:
            self.on_first_signal()

    @staticmethod
    def _exit_now(number: int) -> None:
        """Exit now, even if a thread is blocked on a stopped terminal."""
        if sys.stderr.isatty() and sys.platform != "win32":
            os.set_blocking(sys.stderr.fileno(), False)
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
            os.set_blocking(sys.stderr.fileno(), True)
        os._exit(128 + number)


@contextmanager
def _handling(loop: asyncio.AbstractEventLoop, handle: Callable[[int], None]) -> Iterator[None]:
    """Have signals handled in the event loop, until it ends or the block does."""
    before: dict[int, object] = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        # A signal that the parent process ignores stays ignored, as under `nohup`.
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, handle, number)
        except NotImplementedError:
            # Windows: Python's own handlers run between two steps of the loop, which a signal wakes.
            before[number] = signal.signal(number, lambda got, _frame: loop.call_soon_threadsafe(handle, got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what it has returned


def run_interruptibly(main: Callable[[SignalHandler], Awaitable[int]]) -> int:
    """Run a coroutine function in an event loop, and return its exit code or that of the signal that ended it.

    Args:
        main: Called with the signal handler.
    """

    async def run() -> int:
        stop = SignalHandler()
        loop = asyncio.get_running_loop()
        if not gc.isenabled():
            # Most reads have ended by then, and have no garbage that is worth a search.
            loop.call_later(_SHORT, _collect_from_now_on)
        code = 0
        with _handling(loop, stop.on_signal), stop.scope:
            code = await main(stop)
        if stop.scope.cancelled_caught:
            print_error("interrupted; nothing was changed")
        return 128 + stop.number if stop.number else code

    return asyncio.run(run())


def _collect_from_now_on() -> None:
    """Have garbage collected, and what was imported left out."""
    gc.freeze()
    gc.enable()
