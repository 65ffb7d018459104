"""The calls of a run over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

__all__ = ["CallHistory"]


class CallHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a run's action and its polls, sampled from the `statistics()` of the limiters.

    Attributes:
        operation: The operation of the run, such as ``servers.stop``.
        limit: Calls a minute by the limit; None without a limit.
        started: When the run began.
        calls: Pairs of seconds since then and the calls made until then; neither ever decreases. More samples leave
            less uncertain.
        polls: The same of the polls.
        poll_limit: Polls a minute by the limit; None without a limit, or where it is not shown.
    """

    operation: str
    limit: int | None
    started: datetime
    calls: Sequence[tuple[float, int]] = ()
    polls: Sequence[tuple[float, int]] = ()
    poll_limit: int | None = None
