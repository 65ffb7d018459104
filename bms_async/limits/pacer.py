"""Pacing of job polls, which should be spread evenly: no caller waits for a single one."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from bms_async._threads import run_in_thread

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class Pacer:
    """A rate limiter: at most `quota` acquisitions a window, a few at once and then one by one.

    aiolimiter's leaky bucket starts empty, so it lets its capacity through at once and as many again within the window.
    With the capacity ``b`` and the rate ``(quota - b) / window`` the sum stays within the quota.

    Args:
        quota: Acquisitions a window, at least 1.
        window: Seconds.
        burst: Maximum number of acquisitions at once; fewer where the quota is small.
    """

    __slots__ = ("_burst", "_limiter", "_period", "quota", "window")

    def __init__(self, quota: float, *, window: float = 60.0, burst: int = 10) -> None:
        self.quota = quota
        self.window = window
        burst = max(1, min(burst, int(quota // 4)))
        self._burst, self._period = burst, burst * window / max(quota - burst, quota / 2)
        self._limiter: AsyncLimiter | None = None

    @property
    def rate(self) -> float:
        """Acquisitions a second, in the long run."""
        return self._burst / self._period

    async def acquire(self) -> None:
        """Wait until the rate allows one more."""
        if self._limiter is None:
            await _import_aiolimiter()
            # Another caller may have waited for the same.
            self._limiter = self._limiter or self._make_limiter()
        await self._limiter.acquire()

    def _make_limiter(self) -> AsyncLimiter:
        from aiolimiter import AsyncLimiter  # noqa: PLC0415

        return AsyncLimiter(self._burst, self._period)


async def _import_aiolimiter() -> None:
    """Import aiolimiter in a thread: it reads its own version from the disk while it is imported.

    It costs a fifth of what importing this package costs, and clients that watch no job never need it.
    """
    if "aiolimiter" not in sys.modules:
        await run_in_thread(import_module, "aiolimiter")
