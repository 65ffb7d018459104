"""The clock of a loop with real sockets: it may run ahead or stand still, so that no test waits for the machine's."""

from __future__ import annotations

import asyncio


class _Clock:
    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._ahead = 0.0
        self._stands_at: float | None = None

    def __call__(self) -> float:
        return (self._time() if self._stands_at is None else self._stands_at) + self._ahead

    def run_ahead(self, seconds: float) -> None:
        self._ahead += seconds

    def stand_still(self) -> None:
        self._stands_at = self._time()


def run_ahead(seconds: float) -> None:
    """Let so much time have passed for the running loop."""
    _clock().run_ahead(seconds)


def stand_still() -> None:
    """Let no more time pass for the running loop; what it does for its sockets and tasks goes on."""
    _clock().stand_still()


def _clock() -> _Clock:
    loop = asyncio.get_running_loop()
    if not isinstance(loop.time, _Clock):
        loop.time = _Clock()  # type: ignore[method-assign]
    assert isinstance(loop.time, _Clock)
    return loop.time
