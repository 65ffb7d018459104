"""What somebody waits for, and what a poll means for the waiter: no clock, no I/O."""

from __future__ import annotations

import asyncio
import math

from bms_async.errors import BmsError, NotFoundError, ServerFaultError, ServerLostError
from bms_async.models import Server, ServerStatus

_GONE = frozenset({"DELETED", "SOFT_DELETED"})
_SETTLED = frozenset({ServerStatus.ACTIVE, ServerStatus.SHUTOFF})
_MAX_SEEN = 256
_TASK_GRACE = 300.0
"""Seconds for which a server in ERROR may still be at work: it can be stopped, restarted and deleted like that."""


class Waiter:
    """One wait for one server.

    Attributes:
        wanted: The status that is waited for; None where it is the server's deletion.
        after: How many polls had begun when the wait did; what those show does not count.
        future: Resolves with the server as wanted, None for one that is deleted.
    """

    __slots__ = ("_faulty_since", "_news_at", "_seen", "_was_well", "after", "future", "server_id", "wanted")

    def __init__(self, server_id: str, wanted: str | None, *, after: int) -> None:
        self.server_id = server_id
        self.wanted = wanted
        self.after = after
        self.future: asyncio.Future[Server | None] = asyncio.get_running_loop().create_future()
        self._faulty_since: float | None = None
        self._was_well = False
        self._news_at: float | None = None
        self._seen: set[tuple[object, ...]] = set()

    @property
    def goal(self) -> str:
        """What is waited for, in words."""
        return self.wanted or "the deletion"

    def accept(self, server: Server, now: float, *, outage: float = 0.0, longest: float = math.inf) -> None:
        """Take in what a poll showed.

        Args:
            server: The server.
            now: The loop's time.
            outage: For how many seconds polls had failed before this one, which do not count as time without news.
            longest: Seconds after which a wait without news ends.
        """
        has_patience = self._may_wait_on(server, now, outage, longest)
        if self._is_reached(server):
            self._resolve(server)
        elif server.status in _GONE:
            self.fail(lost(self, server, "was deleted"))
        elif server.status != ServerStatus.ERROR:
            self._was_well = True
        else:
            self._faulty_since = now if self._faulty_since is None else self._faulty_since
            # The reference lets a faulty server be stopped (5.3.4), and it is faulty until that is done. One that was
            # well when the wait began has failed now, whatever task it still shows.
            if self._was_well or not server.task_state or now - self._faulty_since >= _TASK_GRACE:
                self.fail(ServerFaultError(server, wanted=self.wanted))
        if not has_patience:
            task = f" ({server.task_state})" if server.task_state else ""
            state = f"is {server.status or 'without a status'}{task}"
            self.fail(lost(self, server, f"{state} and has shown nothing new for {longest:g} s"))

    def _may_wait_on(self, server: Server, now: float, outage: float, longest: float) -> bool:
        shown = (server.status, server.task_state, server.progress)
        if self._news_at is None or (shown not in self._seen and len(self._seen) < _MAX_SEEN):
            # What was seen before is no news: a server may go back and forth for ever.
            self._seen.add(shown)
            self._news_at = now
        self._news_at = min(now, self._news_at + outage)
        return now - self._news_at <= longest

    def take_not_found(self, error: NotFoundError, server: Server | None) -> None:
        """Take in that a poll was answered 404.

        Only the compute service's own word for it proves a deletion: a gateway that has lost a route answers 404 too.

        Args:
            error: The answer.
            server: What was known of the server last.
        """
        if self.wanted is None and error.code is not None and not error.code.startswith("APIG"):
            self._resolve(None)
        else:
            self.fail(lost(self, server, "is not known to the cloud (any more)", error))

    def fail(self, error: BmsError) -> None:
        """End the wait with an error, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)
            # Whoever was cancelled in the very same pass will not ask.
            self.future.exception()

    def _is_reached(self, server: Server) -> bool:
        if self.wanted is None:
            return server.status in _GONE
        return server.status == self.wanted and (self.wanted not in _SETTLED or not server.task_state)

    def _resolve(self, server: Server | None) -> None:
        if not self.future.done():
            self.future.set_result(server)


def lost(waiter: Waiter, server: Server | None, why: str, cause: Exception | None = None) -> ServerLostError:
    """Return the error for a wait that can come to nothing; each waiter gets an error of its own.

    Args:
        waiter: Who waits.
        server: What was known of the server last.
        why: Why.
        cause: What was answered last.
    """
    error = ServerLostError(
        f"server {waiter.server_id} {why}, where {waiter.goal} was waited for",
        server_id=waiter.server_id,
        wanted=waiter.wanted,
        server=server,
    )
    error.__cause__ = cause
    return error
