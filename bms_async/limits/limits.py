"""The limits of an account, shared by every client that is given them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Self

from bms_async.errors import ConfigurationError

from .limiter import Limiter
from .loop_binding import LoopBinding
from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS, UNDOCUMENTED_OPERATIONS
from .window import WindowLimiter

_KNOWN = (*DOCUMENTED_LIMITS, *UNDOCUMENTED_OPERATIONS)
_POWER_BUDGET = "servers.start/stop/reboot"


class Limits:
    """The calls a minute that each operation may make.

    Clients that are given the same object share its budgets. Clients of one account that are given none share one
    object too, all over the process. A `Limits` belongs to one event loop at a time: on another one it raises a
    `ConfigurationError` while calls wait on the first, or while that runs and has open clients.

    ::

        Limits()                        # as documented
        Limits({"servers.stop": 20})    # one of them changed
        Limits({"jobs.get": None})      # one of them lifted

    Args:
        changes: Calls a minute by the name of the operation; None lifts a limit.
        shared_power_budget: Whether start, stop and reboot share one budget, for a gateway that counts by URI.
        reserve: The share of each limit that bulk calls leave to interactive ones, rounded down to whole calls. The
            default is what one second of the limit allows: 16 at 1000 a minute, and nothing at 50, where one call is
            already two per cent of a fleet's speed.

    Raises:
        ConfigurationError: A name is not that of an operation, or a limit is not a whole number above 0.
    """

    def __init__(
        self,
        changes: Mapping[str, int | None] | None = None,
        *,
        shared_power_budget: bool = False,
        reserve: float = 1 / 60,
    ) -> None:
        if not 0 <= reserve < 1:
            raise ConfigurationError(f"Limits(reserve={reserve!r}): expected a share, at least 0 and below 1")
        self._is_unlimited = False
        self._reserve = reserve
        self._binding = LoopBinding()
        self._limiters: dict[str, Limiter] = {}
        self._limits: dict[str, int | None] = {**DOCUMENTED_LIMITS, **_check_changes(changes or {})}
        if shared_power_budget:
            given = [limit for name in POWER_OPERATIONS if (limit := self._limits[name]) is not None]
            budget = WindowLimiter(_POWER_BUDGET, min(given, default=None), reserve=reserve, binding=self._binding)
            self._limiters = dict.fromkeys(POWER_OPERATIONS, budget)

    @classmethod
    def unlimited(cls) -> Self:
        """Return limits without any limit, for tests and private clouds."""
        limits = cls()
        limits._is_unlimited = True
        return limits

    def __getitem__(self, operation: str) -> Limiter:
        """Return the limiter of an operation; that of an operation without a limit never makes a call wait."""
        limiter = self._limiters.get(operation)
        if limiter is None:
            limit = None if self._is_unlimited else self._limits.get(operation)
            limiter = self._limiters[operation] = WindowLimiter(
                operation, limit, reserve=self._reserve, binding=self._binding
            )
        return limiter

    @property
    def is_unlimited(self) -> bool:
        """Whether no operation has a limit."""
        return self._is_unlimited

    def _is_idle(self) -> bool:
        """Return whether no slot is used, and nothing that was learned from refusals is left."""
        now = self._binding.now()
        return all(limiter.is_idle(now) for limiter in list(self._limiters.values()))

    def snapshot(self) -> dict[str, list[float]]:
        """Return the slots that are used now, for `restore` in a process that goes on where this one has ended.

        It is called inside the event loop.

        Returns:
            The seconds until each used slot comes back, ascending, by operation; operations with none used are left
            out. How long an operation is still blocked after a refusal is not included.
        """
        # Operations that share a budget share a limiter, which counts once.
        own = {id(limiter): name for name, limiter in reversed(self._limiters.items())}
        used = {name: self._limiters[name].snapshot() for name in reversed(own.values())}
        return {name: seconds for name, seconds in used.items() if seconds}

    def restore(self, spent: Mapping[str, Iterable[float]]) -> None:
        """Reserve the slots that another process used for this account, as its `snapshot` reported them.

        It is called inside the event loop, before the first call. The slots come back when those of the other process
        would have, so that both together keep within the limits. It does not help two processes that work at the same
        time: neither sees the calls of the other.

        Args:
            spent: The seconds from now until each slot comes back, by operation; values of 0 and below are ignored.

        Raises:
            ConfigurationError: A name is not that of an operation, or a value is not a number of seconds.
        """
        for name in spent:
            _check_name(name)
        checked = {name: _check_seconds(name, seconds) for name, seconds in spent.items()}
        for name, seconds in checked.items():
            self[name].restore(seconds)

    def __repr__(self) -> str:
        if self._is_unlimited:
            return "Limits.unlimited()"
        changed = {name: limit for name, limit in self._limits.items() if limit != DOCUMENTED_LIMITS.get(name)}
        return f"Limits({changed or ''})"


def _check_changes(changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    for name, limit in changes.items():
        _check_name(name)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(
                f"Limits: {name!r}: expected a whole number of calls a minute above 0, or None, got {limit!r}"
            )
    return changes


def _check_name(name: str) -> None:
    if name not in _KNOWN:
        from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

        near = get_close_matches(name, _KNOWN, n=1) or [known for known in _KNOWN if known == f"servers.{name}"]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"Limits: {name!r} is not the name of an operation with a limit{hint}")


def _check_seconds(name: str, spent: Iterable[float]) -> list[float]:
    values = list(spent)
    for seconds in values:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
            raise ConfigurationError(f"Limits.restore: {name!r}: expected a number of seconds, got {seconds!r}")
    return values
