"""Waiting for what is said or counted, and never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """What has to be waited for: whoever changes something says so, and all look again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            await self._event.wait()
