"""What asks the ledger for the limiters of an account, as they see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bms_async.limits.statistics import SharedStatistics


class Asker(Protocol):
    """What asks the ledger for a limiter, as the limiter sees it."""

    @property
    def statistics(self) -> SharedStatistics:
        """What is known of the store and the account."""
        ...

    @property
    def closed_for(self) -> float:
        """Seconds until the account is open, by the last answer to any of its limiters."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why nothing is granted, if the store does not answer."""
        ...

    def clock(self) -> float:
        """Return the time that leases are counted by, in seconds."""
        ...

    @property
    def bare_clock(self) -> Callable[[], float]:
        """What `clock` calls while the event loop is the same."""
        ...

    def check_running(self) -> None:
        """Raise a `ConfigurationError` if nothing will be asked, because no client is open."""
        ...

    def wake(self, at: float) -> None:
        """Ask at a time by the loop's clock, if not earlier."""
        ...
