"""One wait for a server, and the effect of each poll on it: no clock, no I/O."""

from __future__ import annotations

import asyncio
import math

from bms_async.errors import BmsError, NotFoundError, ServerFaultError, ServerLostError
from bms_async.models import Server, ServerStatus

_GONE = frozenset({"DELETED", "SOFT_DELETED"})
_IDLE_STATUSES = frozenset({ServerStatus.ACTIVE, ServerStatus.SHUTOFF})
_MAX_SEEN = 256
_TASK_GRACE = 300.0
"""Seconds that a server in ERROR may have a running task: it can be stopped, restarted and deleted in ERROR."""


class Waiter:
    """One wait for one server.

    Attributes:
        wanted: The status that is waited for; None for the server's deletion.
        after: The number of polls that had begun before the wait; their results do not count.
        future: Resolves with the server in that status; with None for its deletion.
    """

    __slots__ = ("_changed_at", "_error_since", "_seen", "_was_well", "after", "future", "server_id", "wanted")

    def __init__(self, server_id: str, wanted: str | None, *, after: int) -> None:
        self.server_id = server_id
        self.wanted = wanted
        self.after = after
        self.future: asyncio.Future[Server | None] = asyncio.get_running_loop().create_future()
        self._error_since: float | None = None
        self._was_well = False
        self._changed_at: float | None = None
        self._seen: set[tuple[object, ...]] = set()

    @property
    def goal(self) -> str:
        """The expected status, for texts."""
        return self.wanted or "the deletion"

    def accept(self, server: Server, now: float, *, outage: float = 0.0, grace: float = math.inf) -> None:
        """Handle the result of a poll.

        Args:
            server: The server.
            now: The loop's time.
            outage: Seconds that polls had been failing before this one; they do not count as time without a change.
            grace: Seconds without a change after which the wait ends.
        """
        may_continue = self._record_change(server, now, outage) <= grace
        if self._is_reached(server):
            self._resolve(server)
        elif server.status in _GONE:
            self.fail(lost_error(self, server, "was deleted"))
        elif server.status != ServerStatus.ERROR:
            self._was_well = True
        else:
            self._error_since = now if self._error_since is None else self._error_since
            # A server in ERROR may be stopped (API reference 5.3.4), and is in ERROR until that is done. But one that
            # was well during the wait has failed now, whatever its task_state.
            if self._was_well or not server.task_state or now - self._error_since >= _TASK_GRACE:
                self.fail(ServerFaultError(server, wanted=self.wanted))
        if not may_continue:
            task = f" ({server.task_state})" if server.task_state else ""
            state = f"is {server.status or 'without a status'}{task}"
            self.fail(lost_error(self, server, f"{state} and has not changed for {grace:g} s"))

    def _record_change(self, server: Server, now: float, outage: float) -> float:
        """Return the seconds since the last change, without the outage."""
        shown = (server.status, server.task_state, server.progress)
        if self._changed_at is None or (shown not in self._seen and len(self._seen) < _MAX_SEEN):
            # A state that was seen before is not a change: a server may alternate between two for ever.
            self._seen.add(shown)
            self._changed_at = now
        self._changed_at = min(now, self._changed_at + outage)
        return now - self._changed_at

    def on_not_found(self, error: NotFoundError, server: Server | None) -> None:
        """Handle a poll that ended in 404.

        Only a 404 of the compute service proves a deletion: a gateway that has lost a route responds 404 too.

        Args:
            error: The error of the poll.
            server: The server's last known state.
        """
        if self.wanted is None and error.code is not None and not error.code.startswith("APIG"):
            self._resolve(None)
        else:
            self.fail(lost_error(self, server, "is not known to the cloud (any more)", error))

    def fail(self, error: BmsError) -> None:
        """End the wait with an error, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)
            # Marks it as retrieved, for the waiter may have been cancelled meanwhile.
            self.future.exception()

    def _is_reached(self, server: Server) -> bool:
        if self.wanted is None:
            return server.status in _GONE
        return server.status == self.wanted and (self.wanted not in _IDLE_STATUSES or not server.task_state)

    def _resolve(self, server: Server | None) -> None:
        if not self.future.done():
            self.future.set_result(server)


def lost_error(waiter: Waiter, server: Server | None, why: str, cause: Exception | None = None) -> ServerLostError:
    """Return the error for a wait that cannot succeed; each waiter gets an error of its own.

    Args:
        waiter: The wait.
        server: The server's last known state.
        why: The reason, in words that follow "but it".
        cause: The error of the last poll.
    """
    error = ServerLostError(
        f"expected {waiter.goal} of server {waiter.server_id}, but it {why}",
        server_id=waiter.server_id,
        wanted=waiter.wanted,
        server=server,
    )
    error.__cause__ = cause
    return error
