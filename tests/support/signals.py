"""What a suite that was started in the background has inherited, undone: signals that are ignored."""

from __future__ import annotations

import signal
from types import FrameType


def heed_signals() -> None:
    """Have what is started from here end by Ctrl-C and by a closed terminal, as from a terminal.

    A script that starts the suite with `&` has it ignore SIGINT, and `nohup` SIGHUP. Both are inherited by all that the
    suite starts, and the tests that press Ctrl-C would wait in vain. The suite itself survives its terminal yet.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # What has a handler is the default again in a program that is started.
        signal.signal(signal.SIGHUP, _go_on)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    pass
