"""The statistics of a limiter."""

from __future__ import annotations

import msgspec


class LimiterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a limiter.

    Attributes:
        capacity: Calls a window now; less than `limit` for a while after a 429.
        limit: Calls a window as documented or set; None without a limit. What is learned from refusals does not
            change it.
        used: Calls in flight, and calls whose slot has not come back yet.
        free: Calls that could be sent now.
        waiting_interactive: Calls that wait in the interactive lane.
        waiting_bulk: Calls that wait in the bulk lane.
        next_slot: Seconds until a slot comes back; None if one is free or none is in its cooldown.
        calls: Calls that got a slot, in all.
        refused: Calls that the server rate-limited all the same.
        learned: The lower limit that the server named with a 429, and that is kept for a while: calls, and the window
            in seconds. None if nothing was learned, or it is forgotten.
        forgotten_in: Seconds until `learned` is forgotten, if there is no further 429; None if it is None.
    """

    capacity: int | None
    limit: int | None
    used: int
    free: int | None
    waiting_interactive: int
    waiting_bulk: int
    next_slot: float | None
    calls: int
    refused: int
    learned: tuple[int, float] | None = None
    forgotten_in: float | None = None


def unlimited_statistics(
    blocked_for: float | None, interactive: int, bulk: int, calls: int, refused: int
) -> LimiterStatistics:
    """Return the statistics of a limiter without a limit, which is blocked for so many seconds."""
    return LimiterStatistics(
        capacity=None, limit=None, used=0, free=None, waiting_interactive=interactive, waiting_bulk=bulk,
        next_slot=blocked_for, calls=calls, refused=refused,
    )  # fmt: skip
