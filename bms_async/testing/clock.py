"""An event loop with a virtual clock, which jumps to the next timer when nothing else is ready.

Hours of waiting take no real time, and every run is the same.
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

import aiolimiter  # noqa: F401 - a client would import it in a thread, whose timing would change a run
import anyio
import anyio.to_thread
import sniffio

__all__ = ["DeadlockError", "VirtualClockLoop", "advance", "is_virtual", "run_virtually", "suspend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A timer that is set for "now" again and again, as by aiolimiter's rounding, would stop the clock for ever.
_CREEP = 1e-6
# Some hundred iterations of the loop.
_ADVANCE_SLACK = 5e-4
_MAX_TASKS_SHOWN = 20
# A difference in seconds between the machine's clocks that means that one of them was set.
_CLOCK_SET_THRESHOLD = 1.0
# The loop always watches one socket, by which other threads wake it.
_WAKEUP_SOCKETS = 1
_LIBRARY_PATHS = tuple(str(Path(str(module.__file__)).parent) for module in (asyncio, anyio))


class DeadlockError(RuntimeError):
    """All tasks wait and no timer is set, so that nothing will ever happen; the text lists where each task waits."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and jumps to the next timer when nothing else is ready.

    It is a loop factory: ``asyncio.Runner(loop_factory=VirtualClockLoop)``, or
    ``anyio.run(main, backend_options={"loop_factory": VirtualClockLoop})``.

    Waits of the loop (`asyncio.sleep`, `anyio.sleep`, timeouts, deadlines, `call_later`) take no real time, and end in
    the order of the timers. The clock also advances by a microsecond on every iteration of the loop, so compare times
    with a tolerance. Its limits:

    - `time.monotonic`, `time.time` and `datetime.now` are not virtual. `wall_time` is the time of day that goes with
      the loop's time; the times in results of `bms_async` on this loop come from it.
    - While a thread of `asyncio.to_thread`, `loop.run_in_executor` or `anyio.to_thread.run_sync` runs, the clock
      stands still. If it runs for longer than the next timer's delay, the timer fires as on a real clock. Threads of
      your own, and those under an anyio limiter of your own, are not noticed.
    - Timers do not wait for real sockets and processes: those need a real clock. An event that is ready already, such
      as a signal, comes before the next timer.
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
        """Return the virtual time in seconds."""
        return self._virtual_now

    def wall_time(self) -> float:
        """Return the time of day in seconds since 1970: the loop's creation plus the virtual time and suspensions.

        If the machine's wall clock is set meanwhile, or replaced for a test, that is included.
        """
        was_set = time.time() - time.monotonic() - self._offset
        now = self._began_at + self._suspended + self._virtual_now
        # Small differences come from reading two clocks one after the other, and would change a run.
        return now + was_set if abs(was_set) >= _CLOCK_SET_THRESHOLD else now

    @property
    def suspended(self) -> float:
        """The seconds for which it was suspended so far."""
        return self._suspended

    def suspend(self, seconds: float) -> None:
        """Advance the time of day but not the loop's time, as a suspended machine does; see `suspend`."""
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected 0 or more seconds")
        self._suspended += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> Future[T]:
        """Run a function in a thread; the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._working += 1
        future.add_done_callback(self._end_work)
        return future

    async def shutdown_default_executor(self, *timeout: Any, **named_timeout: Any) -> None:
        """Shut the default executor down, in a thread during which the clock stands still too."""
        self._working += 1
        try:
            await super().shutdown_default_executor(*timeout, **named_timeout)
        finally:
            self._working -= 1

    def _end_work(self, _: Future[Any]) -> None:
        self._working -= 1

    def _run_once(self) -> None:
        # At a high time, a float cannot represent a step of a microsecond.
        self._virtual_now += max(_CREEP, math.ulp(self._virtual_now))
        if not self._ready:
            # A signal that has arrived already comes before the next timer.
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
        # An endless sleep sets a timer at infinity.
        if due == math.inf:
            raise DeadlockError(self._describe_deadlock())
        self._virtual_now = max(self._virtual_now, due)
        super()._run_once()  # type: ignore[misc]

    def _wait_for_threads(self, due: float) -> None:
        began, left = time.monotonic(), due - self._virtual_now
        # Blocks until a thread has ended, or for the delay of the next timer.
        super()._run_once()  # type: ignore[misc]
        if time.monotonic() - began >= left:
            self._virtual_now = max(self._virtual_now, due)

    def _threads_work(self) -> bool:
        if self._working:
            return True
        if self._thread_limiter is None:
            # anyio looks the library up in the current task, and between two tasks there is none.
            context = contextvars.Context()
            context.run(sniffio.current_async_library_cvar.set, "asyncio")
            self._thread_limiter = context.run(anyio.to_thread.current_default_thread_limiter)
        return self._thread_limiter.borrowed_tokens > 0

    def _describe_deadlock(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [f"  {task.get_name()}: {_describe_wait(task)}" for task in tasks[:_MAX_TASKS_SHOWN]]
        if len(tasks) > _MAX_TASKS_SHOWN:
            lines.append(f"  and {len(tasks) - _MAX_TASKS_SHOWN} more")
        hint = ""
        if len(self._selector.get_map()) > _WAKEUP_SOCKETS:
            hint = "; a task waits for a real socket or process, which needs a real clock"
        return "\n".join([f"all tasks wait, and nothing will ever happen{hint}", *lines])


def is_virtual() -> bool:
    """Return whether the running event loop has a virtual clock."""
    return isinstance(asyncio.get_running_loop(), VirtualClockLoop)


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a virtual clock that starts at 0; see `VirtualClockLoop`.

    Args:
        main: The function; it is called without arguments, and its result is returned.

    Raises:
        DeadlockError: All tasks wait, and nothing will ever happen.
        RuntimeError: It is called from within a running loop.
        TypeError: It is given a coroutine in position of the function.
    """
    given: object = main
    if isinstance(given, CoroutineType):
        given.close()
        raise TypeError(f"run_virtually({given.__name__}()): expected a function; call run_virtually({given.__name__})")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("run_virtually() runs its own loop, and one is running already: call it from a plain def")
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())


async def advance(seconds: float) -> None:
    """Let virtual time pass, with everything that is due in it.

    It takes half a millisecond more, so that timers at the very end have fired too, and their consequences are visible.

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
        raise ValueError(f"seconds={seconds!r}: expected 0 or more seconds")
    await anyio.sleep(seconds + _ADVANCE_SLACK)


def suspend(seconds: float) -> None:
    """Suspend the machine: the time of day advances, and a simulated cloud's with it, but not the loop's.

    Nothing runs meanwhile, no timer comes nearer, and the loop's time is unchanged: as on a laptop whose lid is closed.

    Args:
        seconds: How long; 0 or more.

    Raises:
        ValueError: `seconds` is below 0.
        RuntimeError: The running loop has a real clock.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualClockLoop):
        loop.suspend(seconds)
        return
    raise RuntimeError("suspend() needs a virtual clock: run_virtually(main), or @pytest.mark.bms(virtual=True)")


def _describe_wait(task: asyncio.Task[Any]) -> str:
    """Return where a task waits: its innermost line that is not in asyncio or anyio."""
    waiting: Any = task.get_coro()
    position, inner = "", "not begun"
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            inner = f"{frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
            if not frame.f_code.co_filename.startswith(_LIBRARY_PATHS):
                position = inner
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return position or inner
