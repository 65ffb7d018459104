"""An event loop on a clock of its own: it jumps to the next timer when nothing else is to do.

Hours of waiting pass in no time, and a run is the same each time.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import selectors
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from pathlib import Path
from types import CoroutineType
from typing import Any, TypeVar, TypeVarTuple

import aiolimiter  # noqa: F401 - a client would import it in a thread, and a run shall not depend on one
import anyio
import anyio.to_thread
import sniffio

__all__ = ["DeadlockError", "VirtualClockLoop", "advance", "is_virtual", "run_virtually", "suspend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A timer that is armed for "now" again and again, as aiolimiter's rounding does, would stop the clock for ever.
_CREEP = 1e-6
# Some hundred passes of the loop.
_LINGER = 5e-4
_LISTED = 20
# Seconds by which the machine's clocks part only where one of them was set.
_WAS_SET = 1.0
# What wakes the loop from other threads is the one socket that it always watches.
_OWN_SOCKETS = 1
_NOT_SHOWN = tuple(str(Path(str(module.__file__)).parent) for module in (asyncio, anyio))


class DeadlockError(RuntimeError):
    """Everybody waits, no timer is set, and so nothing will ever happen; the text lists who waits, and where."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` begins at 0 and jumps to the next timer when nothing else is to do.

    It is a loop factory: ``asyncio.Runner(loop_factory=VirtualClockLoop)``, or
    ``anyio.run(main, backend_options={"loop_factory": VirtualClockLoop})``.

    What waits through the loop (`asyncio.sleep`, `anyio.sleep`, timeouts, deadlines, `call_later`) takes no real time,
    and happens in the order of the timers. The clock also creeps by a microsecond on every pass of the loop, so compare
    times with a tolerance. Its limits:

    - `time.monotonic`, `time.time` and `datetime.now` are not the loop's, and go on as ever. `wall_time` is the time of
      day that goes with the loop's time; what `bms_async` tells of times on this loop is told by it.
    - While a thread of `asyncio.to_thread`, `loop.run_in_executor` or `anyio.to_thread.run_sync` works, the clock
      stands still. If it works for longer than the next timer asks, the timer fires as on a real clock. Threads of your
      own, and those under an anyio limiter of your own, are not known of.
    - Timers do not wait for what comes from real sockets and processes: they need a real clock. What is there already,
      such as a signal, comes before the next timer.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _selector: selectors.BaseSelector
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._suspended = 0.0
        self._began_at = time.time()
        self._offset = self._began_at - time.monotonic()
        self._working = 0
        self._thread_limiter: anyio.CapacityLimiter | None = None

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual_now

    def wall_time(self) -> float:
        """The time of day, in seconds since 1970: when the loop was made, and what has passed since, sleep included.

        A wall clock of the machine that is set meanwhile, or has been replaced for a test, counts as well.
        """
        was_set = time.time() - time.monotonic() - self._offset
        now = self._began_at + self._suspended + self._virtual_now
        # Clocks that are read one after the other differ by a little, and a run is to be the same each time.
        return now + was_set if abs(was_set) >= _WAS_SET else now

    @property
    def suspended(self) -> float:
        """For how many seconds it was suspended so far."""
        return self._suspended

    def suspend(self, seconds: float) -> None:
        """Let the time of day go on while the loop's stands still, as a machine does that sleeps; see `suspend`."""
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected how long the machine sleeps, 0 or more")
        self._suspended += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> Future[T]:
        """Run a function in a thread; the clock stands still while it works."""
        future = super().run_in_executor(executor, func, *args)
        self._working += 1
        future.add_done_callback(self._end_work)
        return future

    async def shutdown_default_executor(self, *timeout: Any, **named_timeout: Any) -> None:
        """End the threads of `run_in_executor`, in a thread that the clock stands still for, too."""
        self._working += 1
        try:
            await super().shutdown_default_executor(*timeout, **named_timeout)
        finally:
            self._working -= 1

    def _end_work(self, _: Future[Any]) -> None:
        self._working -= 1

    def _run_once(self) -> None:
        # The longer a clock has run, the less its floats can tell a microsecond.
        self._virtual_now += max(_CREEP, math.ulp(self._virtual_now))
        if not self._ready:
            # A signal that has come already is not later than the next timer.
            self._process_events(self._selector.select(0))  # type: ignore[attr-defined]
        if self._ready:
            super()._run_once()  # type: ignore[misc]
            return
        while self._scheduled and self._scheduled[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
        due = self._scheduled[0].when() if self._scheduled else math.inf
        if self._threads_work():
            self._wait_for_threads(due)
            return
        # Who sleeps for ever sets a timer too.
        if due == math.inf:
            raise DeadlockError(self._describe_deadlock())
        self._virtual_now = max(self._virtual_now, due)
        super()._run_once()  # type: ignore[misc]

    def _wait_for_threads(self, due: float) -> None:
        began, left = time.monotonic(), due - self._virtual_now
        # It sleeps until a thread has ended, or for as long as the next timer asks.
        super()._run_once()  # type: ignore[misc]
        if time.monotonic() - began >= left:
            self._virtual_now = max(self._virtual_now, due)

    def _threads_work(self) -> bool:
        if self._working:
            return True
        if self._thread_limiter is None:
            # anyio asks the current task which library runs it, and between two tasks there is none.
            context = contextvars.Context()
            context.run(sniffio.current_async_library_cvar.set, "asyncio")
            self._thread_limiter = context.run(anyio.to_thread.current_default_thread_limiter)
        return self._thread_limiter.borrowed_tokens > 0

    def _describe_deadlock(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [f"  {task.get_name()}: {_place(task)}" for task in tasks[:_LISTED]]
        if len(tasks) > _LISTED:
            lines.append(f"  and {len(tasks) - _LISTED} more")
        hint = ""
        if len(self._selector.get_map()) > _OWN_SOCKETS:
            hint = "; a real socket or process is waited for, which needs a real clock"
        return "\n".join([f"everybody waits, and nothing will ever happen{hint}", *lines])


def is_virtual() -> bool:
    """Say whether the running event loop has a virtual clock."""
    return isinstance(asyncio.get_running_loop(), VirtualClockLoop)


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a virtual clock that starts at 0; see `VirtualClockLoop`.

    Args:
        main: What to run; it is called without arguments, and its result is returned.

    Raises:
        DeadlockError: Everybody waits, and nothing will ever happen.
        RuntimeError: It is called from within a running loop.
        TypeError: It is given a coroutine in place of the function.
    """
    given: object = main
    if isinstance(given, CoroutineType):
        given.close()
        raise TypeError(f"run_virtually({given.__name__}()): give the function itself, run_virtually({given.__name__})")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("run_virtually() runs a loop of its own, and one runs already: call it from a plain def")
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())


async def advance(seconds: float) -> None:
    """Let virtual time pass, and everything happen that is due in it.

    It takes half a millisecond more, so that what is due at the very end has happened too, with what follows from it.

    Args:
        seconds: How long; 0 or more.

    Raises:
        ValueError: `seconds` is below 0.
        RuntimeError: The running loop has a real clock, on which a test would only sleep.
    """
    if not is_virtual():
        raise RuntimeError(
            "advance() needs a virtual clock: run_virtually(main), or @pytest.mark.bms(virtual=True) on an async test"
        )
    if not seconds >= 0:
        raise ValueError(f"seconds={seconds!r}: time goes on only; 0 or more is needed")
    await anyio.sleep(seconds + _LINGER)


def suspend(seconds: float) -> None:
    """Let the machine sleep: the time of day goes on, and a simulated cloud's with it, while the loop's stands still.

    Nothing runs meanwhile, no timer comes nearer, and the loop's time is what it was before: as on a laptop whose lid
    is closed.

    Args:
        seconds: How long it sleeps; 0 or more.

    Raises:
        ValueError: `seconds` is below 0.
        RuntimeError: The running loop has a real clock.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualClockLoop):
        loop.suspend(seconds)
        return
    raise RuntimeError("suspend() needs a virtual clock: run_virtually(main), or @pytest.mark.bms(virtual=True)")


def _place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the innermost line of it that is not one of asyncio's or anyio's own."""
    waiting: Any = task.get_coro()
    place, inner = "", "not begun"
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            inner = f"{frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
            if not frame.f_code.co_filename.startswith(_NOT_SHOWN):
                place = inner
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return place or inner
