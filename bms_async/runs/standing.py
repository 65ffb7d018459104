"""Whether a worker is able to work: its credentials may be wrong, while those of another worker are right.

What it guarantees: beside a worker that sends, one that cannot send takes a batch now and then, and takes nothing over.
So it neither uses up the attempts of all batches, nor makes UNKNOWN what another worker could have watched to its end.
Where nobody else has sent for as long as a batch is tried again, it works on, so that the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio

from bms_async.api.bms.servers import GET
from bms_async.errors import ApiError, AuthenticationError, ClientClosedError, DecodeError, JournalError
from bms_async.fleet.plan import RETRY_DELAYS
from bms_async.journal import Journal, KeptBatch, unpack_ids
from bms_async.journal.transactions.claims import LEASE, others_send
from bms_async.session import Session

_GRACE = 6.0
"""Seconds in which a worker that looks for work seldom has looked once."""

_LONG_PAUSE = 60.0
_ALONE_AFTER = sum(RETRY_DELAYS)
"""Seconds for which nobody else has sent anything, after which a worker that cannot send goes on all the same."""

_PROBE_FOR = LEASE / 2
_SERVER_FAULT = 500


class Standing:
    """What a worker knows of its own credentials.

    Args:
        journal: The journal, open.
        session: What makes the calls.
        place: The endpoint and the project.
        owner: The worker.
        clock: The clock, in seconds.
    """

    def __init__(
        self,
        journal: Journal,
        session: Session,
        *,
        place: str,
        owner: str,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._journal = journal
        self._session = session
        self._place = place
        self._owner = owner
        self._clock = clock
        self._is_proven = False
        self._failing_since: float | None = None
        self._pause = 0.0
        self._next_try = 0.0

    def note(self, delay: float | None) -> None:
        """Note that a batch was accepted, or could not be sent with this worker's credentials.

        Args:
            delay: Seconds until that batch is tried again; None if one was accepted.
        """
        self._is_proven = delay is None
        if delay is None:
            self._failing_since, self._pause = None, 0.0
            return
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        # Longer than the delay, since at its end another worker has to be the first to take that batch.
        self._pause = max(delay + _GRACE, min(_LONG_PAUSE, 2 * self._pause))
        self._next_try = now + self._pause

    async def may_try(self) -> bool:
        """Return whether it may take a batch now.

        Raises:
            JournalError: The journal cannot be read.
        """
        since = self._failing_since
        if since is None:
            return True
        now = self._clock()
        if now < min(self._next_try, since + _ALONE_AFTER):
            return False
        others = await self._journal.run(others_send, self._place, self._owner, writes=False)
        if self._is_proven:
            # One of its batches was accepted meanwhile.
            return True
        if others:
            self._failing_since = since = now
        return now >= min(self._next_try, since + _ALONE_AFTER)

    async def is_able(self, taken: Sequence[KeptBatch]) -> bool:
        """Return whether it can carry on what another worker has left, which it finds out by a call.

        Args:
            taken: What it has just taken over.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._is_proven:
            return True
        server_id = _any_server(taken)
        if server_id is None or await self._can_read(server_id):
            self.note(None)
            return True
        is_alone = self._failing_since is not None and self._clock() >= self._failing_since + _ALONE_AFTER
        self.note(0.0)
        return is_alone

    async def _can_read(self, server_id: str) -> bool:
        with anyio.move_on_after(_PROBE_FOR):
            try:
                await self._session.call(GET, path={"server_id": server_id})
            except ClientClosedError:
                raise
            except ApiError as error:
                # Any other refusal comes from a cloud that knows who asks.
                return not isinstance(error, AuthenticationError) and error.status < _SERVER_FAULT
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                return isinstance(error, DecodeError)
            return True
        return False


def _any_server(taken: Sequence[KeptBatch]) -> str | None:
    for kept in taken:
        # What of it cannot be understood is said where it is carried on.
        with suppress(JournalError):
            for server_id in unpack_ids(kept.ids):
                return server_id
    return None
