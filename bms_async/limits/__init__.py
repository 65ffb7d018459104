"""Rate limits: the documented ones are kept on this side, so that the server never has to refuse a call."""

from .accounts import Account, Membership
from .limits import Limits
from .pacer import Pacer, preload_aiolimiter
from .slot import Slot
from .statistics import LimiterStatistics
from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS
from .wait_queue import Lane
from .window import WindowLimiter

__all__ = [
    "DOCUMENTED_LIMITS",
    "POWER_OPERATIONS",
    "Account",
    "Lane",
    "LimiterStatistics",
    "Limits",
    "Membership",
    "Pacer",
    "Slot",
    "WindowLimiter",
    "preload_aiolimiter",
]
