"""A clock that goes on while the machine sleeps, and a name for the time since the machine came up.

A lease is worth nothing on a clock that stands still in sleep: the process would wake up after an hour, believe that it
still had its slots, and send.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OFFSETS = Path("/proc/self/timens_offsets")


def _bind() -> partial[float]:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None and sys.platform == "darwin":
        clock = time.CLOCK_MONOTONIC
    return partial(time.monotonic) if clock is None else partial(time.clock_gettime, clock)


steady_clock = _bind()
"""What `steady_time` calls, for who calls it so often that a function of Python's counts."""


def steady_time() -> float:
    """Return seconds on a clock that is never set and does not stop while the machine sleeps.

    On Linux and where else there is one it is CLOCK_BOOTTIME. On macOS it is CLOCK_MONOTONIC, which goes on in sleep
    there, while `time.monotonic` reads another clock that does not. On Windows `time.monotonic` goes on. On any other
    system it may stop in sleep, and a machine that holds leases must not sleep there. All count from about when the
    machine came up.
    """
    return steady_clock()


@runtime_checkable
class _HasWallTime(Protocol):
    """A loop with a time of day of its own, such as a virtual one."""

    def wall_time(self) -> float: ...


def own_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float] | None:
    """Return the clock of a loop that has a time of day of its own, such as a virtual one; None for any other loop.

    It goes on while the loop is suspended, so that it stands in for `steady_time` too.
    """
    return loop.wall_time if isinstance(loop, _HasWallTime) else None


def boot_id() -> str:
    """Return a name for the time since the machine came up; empty where the system has none.

    It is the kernel's boot id on Linux, and the boot session's on macOS.
    """
    if sys.platform == "darwin":
        return _boot_session()
    with suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""


def namespace_offset() -> float:
    """Return the seconds by which this process has CLOCK_BOOTTIME ahead of the machine it runs on.

    It is 0 but in a container with a time namespace, in which the clock is put forward or back.
    """
    try:
        lines = _OFFSETS.read_text(encoding="ascii").splitlines()
    except OSError:
        # Another system, or a kernel without time namespaces.
        return 0.0
    for line in lines:
        clock, seconds, nanoseconds = line.split()
        if clock == "boottime":
            return int(seconds) + int(nanoseconds) / 1e9
    return 0.0


def _boot_session() -> str:
    import ctypes  # noqa: PLC0415 - only macOS has to be asked like this

    value = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(value))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", value, ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return ""
    return "" if failed else value.value.decode("ascii", "replace")
