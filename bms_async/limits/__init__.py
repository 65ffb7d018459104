"""Rate limits: the documented ones are kept on this side, so that the server never has to refuse a call.

All but the table is imported on first use: the table is data, and the rest needs an event loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS

if TYPE_CHECKING:
    from .account import Account
    from .accounts import Membership
    from .limiter import Limiter
    from .limits import Limits
    from .pacer import Pacer
    from .slot import Slot
    from .statistics import LimiterStatistics, SharedStatistics
    from .wait_queue import Lane
    from .window import WindowLimiter

__all__ = [
    "DOCUMENTED_LIMITS",
    "POWER_OPERATIONS",
    "Account",
    "Lane",
    "Limiter",
    "LimiterStatistics",
    "Limits",
    "Membership",
    "Pacer",
    "SharedStatistics",
    "Slot",
    "WindowLimiter",
]

_ON_DEMAND = {
    "Account": "account",
    "Lane": "wait_queue",
    "Limiter": "limiter",
    "LimiterStatistics": "statistics",
    "Limits": "limits",
    "Membership": "accounts",
    "Pacer": "pacer",
    "SharedStatistics": "statistics",
    "Slot": "slot",
    "WindowLimiter": "window",
}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _ON_DEMAND:
            found = getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
            globals()[name] = found
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
