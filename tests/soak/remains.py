"""What is there: tasks, sockets, objects, memory; and whatever complains behind everybody's back."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import stat
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

_STATUS = Path("/proc/self/statm")
_DESCRIPTORS = Path("/dev/fd")
_ONES_WITH_AN_END = frozenset(
    {"FleetRun", "PendingRequest", "Call", "JobRecord", "BmsClient", "AiohttpTransport", "Http1Transport"}
)
SENDING = "bms_async send"


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of this process.

    Attributes:
        tasks: By their names, this one left out.
        sockets: How many are open.
        objects: What the collector knows.
        ours: Of objects that have an end, how many there still are.
        megabytes: Resident memory.
    """

    tasks: Counter[str]
    sockets: int
    objects: int
    ours: Counter[str]
    megabytes: float


def look() -> Remains:
    """Look, after what is garbage was collected, and what the allocator keeps of it was given back."""
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    here = asyncio.current_task()
    things = gc.get_objects()
    ours = Counter(
        name
        for each in things
        if (name := type(each).__name__) in _ONES_WITH_AN_END and type(each).__module__.startswith("bms_async.")
    )
    return Remains(
        tasks=Counter(_kind(task) for task in asyncio.all_tasks() if task is not here),
        sockets=count_sockets(),
        objects=len(things),
        ours=ours,
        megabytes=read_memory(),
    )


def count_sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for each in list(_DESCRIPTORS.iterdir()):
        try:
            count += stat.S_ISSOCK(os.fstat(int(each.name)).st_mode)
        except OSError:
            # It was the one that the directory is read with.
            continue
    return count


def read_memory() -> float:
    """Return the resident memory of this process in MB."""
    if _STATUS.exists():
        return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True, text=True)
    return int(told.stdout) / 1e3


def tell_waits(part: str) -> list[str]:
    """Return where each task waits that is in some part of the package."""
    told = []
    for task in asyncio.all_tasks():
        places: list[str] = []
        inner: Any = task.get_coro()
        while inner is not None:
            frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
            if frame is not None:
                places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
        if any(part in place for place in places) or part in task.get_name():
            told.append(" > ".join(places[-4:]))
    return told


def _kind(task: asyncio.Task[Any]) -> str:
    """Return a task's name without the number that asyncio gives those that nobody named."""
    return task.get_name().rstrip("0123456789")


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what nobody is told otherwise: warnings, errors in `__del__`, and what the SDK logs as its own fault."""
    complaints: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            what = "" if record.exc_info is None else f": {record.exc_info[1]!r}"
            complaints.append(f"{record.name}: {record.getMessage()}{what}")

    def warn(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        complaints.append(f"{category.__name__}: {message}")

    def cannot_be_raised(what: Any) -> None:
        complaints.append(f"in {what.object!r}: {what.exc_value!r}")

    handler, hook = Handler(logging.ERROR), sys.unraisablehook
    loggers = {logging.getLogger(name): logging.getLogger(name).propagate for name in ("bms_async", "asyncio")}
    for logger in loggers:
        logger.addHandler(handler)
        # Whoever keeps records keeps the errors in them, and all that those have seen.
        logger.propagate = False
    sys.unraisablehook = cannot_be_raised
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = warn
            yield complaints
            # What complains when it is collected is to do so here.
            gc.collect()
    finally:
        sys.unraisablehook = hook
        for logger, propagates in loggers.items():
            logger.removeHandler(handler)
            logger.propagate = propagates
