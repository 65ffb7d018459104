"""How fast is allowed: the documented limits, kept so that the server never has to refuse."""

from .limits import Limits
from .pace import Pace
from .table import DOCUMENTED_LIMITS, POWER_OPERATIONS
from .window import Lane, LimiterStatistics, Slot, WindowLimiter

__all__ = [
    "DOCUMENTED_LIMITS",
    "POWER_OPERATIONS",
    "Lane",
    "LimiterStatistics",
    "Limits",
    "Pace",
    "Slot",
    "WindowLimiter",
]
