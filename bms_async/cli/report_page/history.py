"""How many calls a run made, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

__all__ = ["CallHistory"]


class CallHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a run's action and its polls, as they were read off the limiters' `statistics()` now and then.

    Attributes:
        operation: What the run calls, such as ``servers.stop``.
        limit: How many of these calls a minute may hold; None without a limit.
        started: When the run began.
        calls: Seconds since then, and how many calls had been made in all until then; neither ever goes back. The
            oftener it was read, the less is left uncertain.
        polls: The same of the polls.
        poll_limit: How many polls a minute may hold; None without a limit, or where it is not to be shown.
    """

    operation: str
    limit: int | None
    started: datetime
    calls: Sequence[tuple[float, int]] = ()
    polls: Sequence[tuple[float, int]] = ()
    poll_limit: int | None = None
