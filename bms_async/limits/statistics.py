"""What a limiter tells of itself."""

from __future__ import annotations

import msgspec


class LimiterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a limiter is doing.

    Attributes:
        capacity: Calls a window now; less than `limit` for a while after the server refused one.
        limit: Calls a window as documented or set; None without a limit.
        used: Calls in flight, and calls whose slot has not come back yet.
        free: Calls that could go now.
        waiting_interactive: Calls that wait in the interactive lane.
        waiting_bulk: Calls that wait in the bulk lane.
        next_slot: Seconds until a slot comes back, None when one is free or none is on its way back.
        calls: Calls let through in all.
        refused: Calls that the server counted out all the same.
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
