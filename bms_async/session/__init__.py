"""Making calls: within the limits, with credentials, and with retries that are paid from one shared budget."""

from .core import Core, SessionStatistics
from .options import CallOptions
from .session import Session

__all__ = ["CallOptions", "Core", "Session", "SessionStatistics"]
