"""A process of a scenario, as it is seen from the stage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress

from tests.limits.shared.failures._gateway import Changes
from tests.limits.shared.failures._worker import Said


class Worker:
    """A process, as it is seen from here."""

    def __init__(self, name: str, changes: Changes) -> None:
        self.name = name
        self.pid = 0
        self.holder = ""
        self.calls = 0
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

    def hear(self, said: Said, writer: asyncio.StreamWriter) -> None:
        self.pid, self.holder, self._writer = said.pid, said.holder, writer
        self.said[said.what] += 1
        self.calls += said.what == "called" and said.status == 200

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
