"""How fast is allowed: the documented limits, kept so that the server never has to refuse."""

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
