"""A process of a scenario, as it is seen from the stage."""

from __future__ import annotations

import asyncio

from tests.limits.shared.failures._worker import Said
from tests.support.changes import Changes
from tests.support.seen import SeenProcess


class Worker(SeenProcess):
    """A process, as it is seen from here."""

    def __init__(self, name: str, changes: Changes) -> None:
        super().__init__(name, changes)
        self.holder = ""
        self.calls = 0

    def hear(self, said: Said, writer: asyncio.StreamWriter) -> None:
        self.note(said, writer)
        self.holder = said.holder
        self.calls += said.what == "called" and said.status == 200
