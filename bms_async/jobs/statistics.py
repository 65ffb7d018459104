"""What a watcher is doing, in numbers."""

from __future__ import annotations

import msgspec


class WatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher is doing.

    Attributes:
        polled: Jobs that are polled.
        idle: Jobs that nobody waits for, and that are not polled for that reason.
        in_flight: Polls under way.
        polls: Polls made.
        failed_polls: Polls that told nothing.
        ended: Jobs seen to their end.
        lost: Jobs whose end cannot be known.
        load: How many times more polls the jobs that somebody waits for want than they may have, at least 1.
        subscribers: Subscriptions to events that are open.
        next_poll: Seconds until the next poll is due, None when there is nothing to poll.
    """

    polled: int
    idle: int
    in_flight: int
    polls: int
    failed_polls: int
    ended: int
    lost: int
    load: float
    subscribers: int
    next_poll: float | None
