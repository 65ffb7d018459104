"""Deleting what the journal keeps for a while alone."""

from __future__ import annotations

from bms_async.journal import Journal
from bms_async.journal.transactions.desired import list_reconcilers, trim_forgotten
from bms_async.journal.transactions.events import list_places, trim_events
from bms_async.journal.transactions.runs import delete_ended

from .journaled_steps import place_of_steps


async def prune(journal: Journal, place: str | None, older_than: float, prefix: str) -> int:
    """Delete runs that have ended; and jobs, events and forgotten servers of that age, a few at a time.

    Args:
        journal: The journal, open.
        place: The endpoint and the project; None for all.
        older_than: Those that ended more than so many seconds ago.
        prefix: What the keys of the runs begin with; if it is not empty, nothing else is deleted.

    Returns:
        How many runs were deleted.

    Raises:
        JournalError: The journal cannot be written.
    """
    deleted = 0
    for each in (place,) if place is None else (place, place_of_steps(place)):
        while count := await journal.run(delete_ended, older_than, each, prefix):
            deleted += count
    if prefix:
        return deleted
    for its_place in await journal.run(list_places, writes=False) if place is None else [place]:
        while await journal.run(trim_events, its_place, older_than):
            pass
    for reconciler in await journal.run(list_reconcilers, place, writes=False):
        while await journal.run(trim_forgotten, *reconciler, older_than):
            pass
    return deleted
