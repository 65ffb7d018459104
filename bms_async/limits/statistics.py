"""The statistics of a limiter."""

from __future__ import annotations

import msgspec


class SharedStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a process knows of the limits that it shares with others.

    Attributes:
        account: The name of the account; None until the project's id is known, where that names it.
        store: The address of the store, without user and password.
        unreachable_for: Seconds since the store was first seen not to answer; None while it answers.
        error: Why it does not answer; None while it does.
        is_alone: Whether this process goes on with its share meanwhile; see ``without_store`` of `Limits.shared`.
        closed_for: Seconds until the account is open; see `Limits.shared`.
        holders: Processes that have or want slots of the limit that was asked for last.
        waiting_elsewhere: Calls of other processes that wait for it.
        questions: Questions that were answered, in all.
    """

    account: str | None
    store: str
    unreachable_for: float | None
    error: str | None
    is_alone: bool
    closed_for: float
    holders: int
    waiting_elsewhere: int
    questions: int


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
        shared: What is known of the processes that share the limit; None where none do. `used` counts the calls of all
            of them, as far as it is known here.
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
    shared: SharedStatistics | None = None


def unlimited_statistics(
    blocked_for: float | None, interactive: int, bulk: int, calls: int, refused: int
) -> LimiterStatistics:
    """Return the statistics of a limiter without a limit, which is blocked for so many seconds."""
    return LimiterStatistics(
        capacity=None, limit=None, used=0, free=None, waiting_interactive=interactive, waiting_bulk=bulk,
        next_slot=blocked_for, calls=calls, refused=refused,
    )  # fmt: skip
