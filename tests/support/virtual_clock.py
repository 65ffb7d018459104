"""The virtual clock that users test with too, and one on which a slow disk changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bms_async.testing import VirtualClockLoop, advance, run_virtually

__all__ = ["PatientLoop", "VirtualClockLoop", "advance", "run_patiently", "run_virtually"]

T = TypeVar("T")


class PatientLoop(VirtualClockLoop):
    """A virtual clock's loop on which no timer fires while a thread works, however long that takes.

    On the users' one a timer fires once a thread has worked for as long as the timer's delay. Where a store's thread
    has to sync a file of a busy machine, what a test finds after a second of the clock would be a matter of luck.
    """

    def _wait_for_threads(self, due: float) -> None:
        # The end of a thread's work wakes the loop.
        self._process_events(self._selector.select())  # type: ignore[attr-defined]


def run_patiently(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a virtual clock that no thread is too slow for; see `run_virtually`."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(main())
