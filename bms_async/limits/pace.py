"""Pacing what should be even: job polls, which no caller waits for one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter


class Pace:
    """Lets through at most `quota` a window, a few at once and then one by one.

    aiolimiter's leaky bucket starts empty, and so lets through its capacity at once and as many again within the
    window. With the capacity ``b`` and the rate ``(quota - b) / window`` the sum stays within the quota.

    Args:
        quota: How many a window, at least 1.
        window: Seconds.
        burst: How many at once at most; less where the quota is small.
    """

    __slots__ = ("_limiter", "quota", "window")

    _limiter: AsyncLimiter

    def __init__(self, quota: float, *, window: float = 60.0, burst: int = 10) -> None:
        # Importing it reads its own version from the disk, a fifth of what importing this package costs.
        from aiolimiter import AsyncLimiter  # noqa: PLC0415

        self.quota = quota
        self.window = window
        burst = max(1, min(burst, int(quota // 4)))
        self._limiter = AsyncLimiter(burst, burst * window / max(quota - burst, quota / 2))

    @property
    def rate(self) -> float:
        """How many a second, in the long run."""
        return self._limiter.max_rate / self._limiter.time_period

    async def acquire(self) -> None:
        """Wait for the next turn."""
        await self._limiter.acquire()
