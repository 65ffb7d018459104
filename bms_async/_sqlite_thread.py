"""The one thread that works with a SQLite file, so that the event loop is never held (R9).

Rejected: a thread each time, since to see that it has ended the loop spins for up to the 5 ms after which Python makes
threads take turns: 4 ms a question where it takes 0.2 ms.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, TypeVarTuple

import anyio

from bms_async._sqlite_file import SqliteFile, primary_code
from bms_async._threads import run_in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_ATTEMPTS = 20
_PAUSE = 0.05
"""Seconds between attempts to open the file. SQLite does not wait where two processes make a new file at once."""


class SqliteThread:
    """Does all work with a file in one thread.

    Args:
        file: The file.
        what: What errors call it, before its path.
        name: The name of the thread.
    """

    def __init__(self, file: SqliteFile, *, what: str, name: str) -> None:
        self._file = file
        self._what = what
        self._name = name
        self._worker: ThreadPoolExecutor | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a thread."""
        return self._worker is not None

    async def open(self, function: Callable[[], None]) -> None:
        """Start the thread if there is none, and have it open the file; again while others make the file.

        Args:
            function: Opens the file.

        Raises:
            Exception: What opening it raised, as `SqliteFile.explaining` has it.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        for left in reversed(range(_ATTEMPTS)):
            try:
                await self.run(function)
            except sqlite3.OperationalError as error:
                if not left or primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return
            await anyio.sleep(_PAUSE)

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in the thread.

        Args:
            function: The function.
            *args: Its arguments.

        Raises:
            ConnectionError: There is no thread.
            Exception: What the function raised, as `SqliteFile.explaining` has it.
        """
        if self._worker is None:
            raise ConnectionError(f"{self._what} {self._file.path} is not open")
        # By way of the loop, because a virtual clock in tests does not advance while its executors work.
        work = partial(self._file.explaining, function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def aclose(self) -> None:
        """Close the file, and end the thread; closing what is not open does nothing."""
        worker, self._worker = self._worker, None
        if worker is not None:
            # What a cancelled caller left behind ends before it.
            worker.submit(self._file.close)
            await run_in_thread(worker.shutdown)
