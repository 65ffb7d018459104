"""What a limiter tells of itself."""

from __future__ import annotations

import msgspec


class LimiterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a limiter is doing.

    Attributes:
        capacity: Calls a window now; less than `limit` for a while after the server refused one.
        limit: Calls a window as documented or set; None without a limit. Nothing that is learned changes it.
        used: Calls in flight, and calls whose slot has not come back yet.
        free: Calls that could go now.
        waiting_interactive: Calls that wait in the interactive lane.
        waiting_bulk: Calls that wait in the bulk lane.
        next_slot: Seconds until a slot comes back, None when one is free or none is on its way back.
        calls: Calls let through in all.
        refused: Calls that the server counted out all the same.
        learned: The lower limit that the server named in a refusal, which is kept for a while: calls, and the window in
            seconds. None when nothing was learned, or it is forgotten.
        forgotten_in: Seconds until that is forgotten, if nothing more is refused; None likewise.
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
    still: float | None, interactive: int, bulk: int, calls: int, refused: int
) -> LimiterStatistics:
    """Return what a limiter without a limit tells, which stands still for so many seconds."""
    return LimiterStatistics(
        capacity=None, limit=None, used=0, free=None, waiting_interactive=interactive, waiting_bulk=bulk,
        next_slot=still, calls=calls, refused=refused,
    )  # fmt: skip
