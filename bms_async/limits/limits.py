"""All limits of an account, shared by every client that is given them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Self

from bms_async.errors import ConfigurationError

from .loop_binding import LoopBinding
from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS, UNDOCUMENTED_OPERATIONS
from .window import WindowLimiter

_KNOWN = (*DOCUMENTED_LIMITS, *UNDOCUMENTED_OPERATIONS)
_POWER_BUDGET = "servers.start/stop/reboot"


class Limits:
    """The calls a minute that each operation may make.

    Clients that are given the same object share its budgets. Those of one account that are given none share one too,
    all over the process. It belongs to one event loop at a time: another one is refused with a `ConfigurationError`
    while calls wait on the first, or clients are open on it and it runs.

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
        self._binding = LoopBinding()
        self._limiters: dict[str, WindowLimiter] = {}
        self._limits: dict[str, int | None] = {**DOCUMENTED_LIMITS, **_checked(changes or {})}
        if shared_power_budget:
            given = [limit for name in POWER_OPERATIONS if (limit := self._limits[name]) is not None]
            budget = WindowLimiter(_POWER_BUDGET, min(given, default=None), reserve=reserve, home=self._binding)
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
            limiter = self._limiters[operation] = WindowLimiter(
                operation, limit, reserve=self._reserve, home=self._binding
            )
        return limiter

    @property
    def is_unlimited(self) -> bool:
        """Whether they limit nothing at all."""
        return not self._limited

    def _is_idle(self) -> bool:
        """Tell whether nothing of them is used, and nothing is left of what refusals taught."""
        now = self._binding.now()
        return all(limiter.is_idle(now) for limiter in list(self._limiters.values()))

    def snapshot(self) -> dict[str, list[float]]:
        """Return what is used now, for another process to `restore`: a program that goes on where one has ended.

        It is called inside the event loop.

        Returns:
            By operation, the seconds until each used slot comes back, ascending; operations of which none is used are
            left out. How long an operation stands still after a refusal is not told.
        """
        # Operations that share a budget have one limiter.
        own = {id(limiter): name for name, limiter in reversed(self._limiters.items())}
        used = {name: self._limiters[name].snapshot() for name in reversed(own.values())}
        return {name: seconds for name, seconds in used.items() if seconds}

    def restore(self, spent: Mapping[str, Iterable[float]]) -> None:
        """Count calls in that another process made for this account, as its `snapshot` told.

        It is called inside the event loop, before the first call. What those slots hold is not given out before they
        come back, so that both together keep within the limits. Two processes that work at the same time are not
        helped by it: neither sees what the other does.

        Args:
            spent: By operation, the seconds from now until each slot comes back; what is past counts for nothing.

        Raises:
            ConfigurationError: A name is not an operation's, or something is no number of seconds.
        """
        for name in spent:
            _check_name(name)
        checked = {name: _checked_seconds(name, seconds) for name, seconds in spent.items()}
        for name, seconds in checked.items():
            self[name].restore(seconds)

    def __repr__(self) -> str:
        if not self._limited:
            return "Limits.unlimited()"
        changed = {name: limit for name, limit in self._limits.items() if limit != DOCUMENTED_LIMITS.get(name)}
        return f"Limits({changed or ''})"


def _checked(changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    for name, limit in changes.items():
        _check_name(name)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(f"Limits: {name!r}: {limit!r} is not a whole number of calls a minute above 0")
    return changes


def _check_name(name: str) -> None:
    if name not in _KNOWN:
        from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

        near = get_close_matches(name, _KNOWN, n=1) or [each for each in _KNOWN if each == f"servers.{name}"]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"Limits: {name!r} is not the name of an operation with a limit{hint}")


def _checked_seconds(name: str, spent: Iterable[float]) -> list[float]:
    seconds = list(spent)
    for each in seconds:
        if isinstance(each, bool) or not isinstance(each, int | float) or math.isnan(each):
            raise ConfigurationError(f"Limits.restore: {name!r}: {each!r} is not a number of seconds")
    return seconds
