"""Errors of reconcilers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from .base import BmsError

_MAX_SHOWN = 3


class NotSyncedError(BmsError, TimeoutError):
    """Servers were not as desired in time.

    Attributes:
        reasons: Why not, for people, by server.
    """

    def __init__(self, message: str, *, reasons: Mapping[str, str]) -> None:
        self.reasons = reasons
        super().__init__(message)

    @classmethod
    def of(
        cls, reasons: Mapping[str, str], total: int, seconds: float, *, trouble: str | None = None
    ) -> NotSyncedError:
        """Return the error for some servers of those that were waited for.

        Args:
            reasons: Why each of them is not synced.
            total: How many were waited for.
            seconds: For how long.
            trouble: Why states cannot be read at the moment; None if they can.
        """
        shown = [f"{server_id}: {reason}" for server_id, reason in islice(reasons.items(), _MAX_SHOWN)]
        more = f"; and {len(reasons) - _MAX_SHOWN:,} more" if len(reasons) > _MAX_SHOWN else ""
        verb = "is" if len(reasons) == 1 else "are"
        text = f"{len(reasons):,} of {total:,} servers {verb} not as desired after {seconds:g} s"
        unread = "" if trouble is None else f"; states cannot be read now: {trouble}"
        return cls(f"{text}: {'; '.join(shown)}{more}{unread}", reasons=reasons)
