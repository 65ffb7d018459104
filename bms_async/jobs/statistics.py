"""The figures of a watcher."""

from __future__ import annotations

import msgspec


class WatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a watcher.

    Attributes:
        polled: Jobs that are polled.
        idle: Jobs that have a handle but no waiter, and so are not polled.
        in_flight: Polls in flight.
        polls: Polls made.
        failed_polls: Polls that failed.
        ended: Jobs whose end was seen.
        lost: Jobs that were lost: their end cannot be known.
        load: The ratio of the polls that awaited jobs demand to those they may get, at least 1.
        subscribers: Open subscriptions to events.
        next_poll: Seconds until the next poll is due, None if there is nothing to poll.
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
