"""A process of a scenario, as it is seen from the stage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import Protocol

import psutil  # type: ignore[import-untyped]

from tests.support.changes import Changes

_POLL = 0.01
"""Seconds between two looks at whether a process stands still, of which the system does not speak."""


class Words(Protocol):
    """What a process says."""

    @property
    def what(self) -> str: ...

    @property
    def pid(self) -> int: ...


class SeenProcess:
    """A process, as it is seen from here."""

    def __init__(self, name: str, changes: Changes) -> None:
        self.name = name
        self.pid = 0
        self._changes = changes
        self.said: Counter[str] = Counter()
        self._writer: asyncio.StreamWriter | None = None
        self._is_killed = False

    @property
    def is_over(self) -> bool:
        return self._is_killed or self.has_said("done")

    def has_said(self, what: str) -> bool:
        return self.said[what] > 0

    def count(self, what: str) -> int:
        return self.said[what]

    async def until(self, what: str) -> None:
        await self._changes.until(lambda: self.has_said(what))

    def note(self, said: Words, writer: asyncio.StreamWriter) -> None:
        self.pid, self._writer = said.pid, writer
        self.said[said.what] += 1

    def go(self) -> None:
        assert self._writer is not None
        self._writer.write(b"go\n")

    def kill(self) -> None:
        """End it at once; what is over already is left alone, for its number may be another's."""
        if self.pid and not self.is_over:
            self._is_killed = True
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    async def resume(self) -> None:
        """Have it go on as soon as it stands still; what is over is left alone, for its number may be another's."""
        # It says that it will stand still before it does. Nothing else would wake it if this signal came too early.
        with suppress(psutil.NoSuchProcess):
            while not self.is_over and psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
            if not self.is_over:
                psutil.Process(self.pid).resume()
