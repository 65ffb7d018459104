"""Where a batch of a durable run is written down, as the fleet sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bms_async.jobs import JobHandle

from .batch import Batch
from .outcome import Outcome


class FollowingBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of servers that are to be sent again.

    Attributes:
        batch: The servers, and what is known of them.
        delay: Seconds before it may be sent.
        grid: Seconds of the grid of the time of day that this is aligned to; 0 for none.
        is_part: Whether it is a part of a batch that was refused.
    """

    batch: Batch
    delay: float = 0.0
    grid: float = 0.0
    is_part: bool = False


class BatchLog(Protocol):
    """Where a batch is written down."""

    async def sending(self, batch: Batch) -> None:
        """Write down that its request is about to leave.

        Raises:
            BatchWithdrawnError: It must not be sent.
        """
        ...

    async def refused(self, batch: Batch) -> None:
        """Write down that the cloud surely did nothing, and that it is going to be sent again.

        Raises:
            BatchWithdrawnError: It is not this worker's any more.
        """
        ...

    async def watching(self, batch: Batch, job: JobHandle) -> None:
        """Write down its job.

        Raises:
            BatchWithdrawnError: It is not this worker's any more.
        """
        ...

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Write down outcomes of it.

        Raises:
            BatchWithdrawnError: It is not this worker's any more.
        """
        ...

    async def finish(self, outcomes: Sequence[Outcome], following: Sequence[FollowingBatch], extra_calls: int) -> None:
        """Write down its end, with the outcomes that are left and the batches that follow it.

        Raises:
            BatchWithdrawnError: It is not this worker's any more.
        """
        ...
