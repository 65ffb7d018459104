"""What a reconciler needs of the world beside the states of servers: something that acts, and something that remembers.

Without a journal both are of this process alone. With one the desired states are in it, one replica leads, and what
it begins is a durable run, which the next leader finds and follows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias

import msgspec

from bms_async.fleet.outcome import Outcome

ReconcileAction: TypeAlias = Literal["servers.start", "servers.stop"]
"""What a reconciler may do to a server; it never reboots one."""


class DesiredRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a server.

    Attributes:
        server_id: Its id, canonical.
        status: ``ACTIVE`` or ``SHUTOFF``; None where the server was forgotten.
        attempts: How often in a row it could not be brought there.
        retry_at: When it may be tried again, in seconds since the epoch; None for at once.
        retry_reason: Why it could not be brought there, for people; None where it could.
    """

    server_id: str
    status: str | None
    attempts: int = 0
    retry_at: float | None = None
    retry_reason: str | None = None


class DesiredPage(msgspec.Struct, frozen=True, kw_only=True):
    """Desired states as they are read from the memory.

    Attributes:
        rows: They, the last of a server in force; empty once all that was there at the beginning has been read.
        revision: Everything that `Memory.save` has returned this revision for, or a smaller one, has been read.
    """

    rows: Sequence[DesiredRow]
    revision: int


class Actor(Protocol):
    """Carries out what a reconciler decides."""

    async def act(self, action: ReconcileAction, ids: Sequence[str], on_outcome: Callable[[Outcome], None]) -> None:
        """Ask servers, and return once each has its outcome.

        Args:
            action: What is done to them.
            ids: The servers: no more than one wave.
            on_outcome: Called with the outcome of each as soon as it is known.

        Raises:
            Exception: The run could not begin or was lost; servers without an outcome are looked at again.
        """
        ...

    def resume(
        self, on_begin: Callable[[ReconcileAction, Sequence[str]], None], on_outcome: Callable[[Outcome], None]
    ) -> AbstractAsyncContextManager[None]:
        """Follow what an earlier leader has begun, for as long as the block lasts.

        Args:
            on_begin: Called with the servers of each unfinished run, before the block begins.
            on_outcome: Called with the outcome of each.
        """
        ...


class Memory(Protocol):
    """Remembers the desired states beyond this process, and says whether this replica acts."""

    @property
    def is_durable(self) -> bool:
        """Whether anything outlives the process."""
        ...

    async def save(self, rows: Sequence[DesiredRow]) -> int:
        """Write desired states down; the last row of a server wins. Waits for as long as the journal is away.

        Args:
            rows: They, without what is known of attempts.

        Returns:
            Their revision: `changes` has yielded them once it has yielded a page with this revision or a greater one.
        """
        ...

    async def save_attempts(self, rows: Sequence[DesiredRow]) -> None:
        """Write down how often servers were tried, for the next leader; a row that has another status is left alone."""
        ...

    def changes(self) -> AsyncGenerator[DesiredPage]:
        """Yield all desired states, and then what any replica changes, this one included, as long as it is iterated.

        Pages are short: whoever reads them has no turn of the event loop within one. A page without rows is yielded
        once all that was there at the beginning has been yielded.
        """
        ...

    def lead(self) -> AbstractAsyncContextManager[None]:
        """Wait until this replica leads; the block is cancelled from within once it does not lead any more.

        Raises:
            LeadershipLostError: It does not lead any more; it may wait for its turn again.
        """
        ...
