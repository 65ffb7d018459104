"""A process of a scenario, as it is seen from the stage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import Protocol

from tests.support.changes import Changes


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

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
