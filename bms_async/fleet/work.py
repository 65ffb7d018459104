"""What a run does with its servers: the part of it that knows how one is asked and followed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, TypeAlias

from .batch import Batch
from .source import IdSource
from .tracker import RunTracker
from .walk import Walk


class Work(Protocol):
    """Asks the servers of a run, each at the right moment, and follows each to its end.

    Attributes:
        walk: Says which of them may be asked when.
    """

    walk: Walk

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to find out what no response says."""
        ...

    async def carry_out(self) -> None:
        """Read the source, ask all servers and follow them to their ends."""
        ...

    def stop(self) -> None:
        """Begin nothing more; the tracker is stopping."""
        ...

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give all servers that wait their outcome: those that wait for a retry, and those that were never sent.

        Args:
            unknown: Takes those that would be UNKNOWN, as batches, in the place of concluding them; None concludes all.
        """
        ...

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read the states of servers that are no longer followed once, and conclude what they prove."""
        ...

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        ...


MakeWork: TypeAlias = Callable[[RunTracker, IdSource], Work]
"""Makes the work of a run."""
