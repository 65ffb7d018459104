"""All limits of an account, shared by every client that is given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from bms_async.errors import ConfigurationError

from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS, UNDOCUMENTED_OPERATIONS
from .window import WindowLimiter

_KNOWN = (*DOCUMENTED_LIMITS, *UNDOCUMENTED_OPERATIONS)
_POWER_BUDGET = "servers.start/stop/reboot"


class Limits:
    """The calls a minute that each operation may make.

    Clients that are given the same object share its budgets; give one to all clients of an account. It belongs to one
    event loop at a time.

    ::

        Limits()                        # as documented
        Limits({"servers.stop": 20})    # one of them changed
        Limits({"jobs.get": None})      # one of them lifted

    Args:
        changes: From operation names to calls a minute; None lifts a limit.
        shared_power_budget: Make start, stop and reboot share one budget, for a gateway that counts by URI.
        reserve: The share of each limit that bulk work leaves to interactive calls, rounded down to whole calls. The
            default is what one second of the limit allows: nothing at 50 a minute, where one call is already two per
            cent of a fleet's speed, 16 at 1000.

    Raises:
        ConfigurationError: A name is not an operation's, or a number is not a whole one above 0.
    """

    def __init__(
        self,
        changes: Mapping[str, int | None] | None = None,
        *,
        shared_power_budget: bool = False,
        reserve: float = 1 / 60,
    ) -> None:
        if not 0 <= reserve < 1:
            raise ConfigurationError(f"Limits(reserve={reserve!r}): a share, at least 0 and less than 1")
        self._limited = True
        self._reserve = reserve
        self._limiters: dict[str, WindowLimiter] = {}
        self._limits: dict[str, int | None] = {**DOCUMENTED_LIMITS, **_checked(changes or {})}
        if shared_power_budget:
            given = [limit for name in POWER_OPERATIONS if (limit := self._limits[name]) is not None]
            budget = WindowLimiter(_POWER_BUDGET, min(given, default=None), reserve=reserve)
            self._limiters = dict.fromkeys(POWER_OPERATIONS, budget)

    @classmethod
    def unlimited(cls) -> Self:
        """Return limits that limit nothing, for tests and private clouds."""
        limits = cls()
        limits._limited = False
        return limits

    def __getitem__(self, operation: str) -> WindowLimiter:
        """Return the limiter of an operation; one without a documented limit has a limiter that never waits."""
        limiter = self._limiters.get(operation)
        if limiter is None:
            limit = self._limits.get(operation) if self._limited else None
            limiter = self._limiters[operation] = WindowLimiter(operation, limit, reserve=self._reserve)
        return limiter

    def __repr__(self) -> str:
        if not self._limited:
            return "Limits.unlimited()"
        changed = {name: limit for name, limit in self._limits.items() if limit != DOCUMENTED_LIMITS.get(name)}
        return f"Limits({changed or ''})"


def _checked(changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    for name, limit in changes.items():
        if name not in _KNOWN and not name.startswith("nova."):
            from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

            near = get_close_matches(name, _KNOWN, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"Limits: {name!r} is not the name of an operation with a limit{hint}")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(f"Limits: {name!r}: {limit!r} is not a whole number of calls a minute above 0")
    return changes
