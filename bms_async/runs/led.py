"""The runs of a leader: those that a reconciler begins, and that the next one finds.

What is guaranteed: a run is begun by whoever leads, and by nobody else, and no batch of it is marked as sent once its
term is over, by whichever worker. Whoever leads next finds all runs of those before it that have not ended.

How: the fence of the term is in the run. Its row is locked and looked at in the transaction that writes the run down,
and looked at in the one that marks a batch as sent. A later leader cancels what it finds, so that what was not sent is
skipped, and follows what was: what an earlier one decided may be wrong by now.

Rejected: to carry on all of an earlier leader's runs. They have servers that are to be in another state since, and a
run that waits for its slot may be minutes old. And a place of their own in the journal, since these runs ought to be
seen, and their jobs watched, like all others.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from bms_async.errors import LeadershipLostError
from bms_async.fleet.source import Servers
from bms_async.journal import Journal, LedBy, unpack_ids
from bms_async.journal.transactions.runs import list_open, read_open_batches

from .leader import Leaders, Term
from .options import DurableOptions
from .pruning import prune
from .run import DurableRun

_YIELD_EVERY = 20
"""Batches that are unpacked without a turn of the event loop."""

_NUMBERED = re.compile(r"\d+-\d+")
"""What the key of a run ends with: the fence, and a number."""

BeginRun = Callable[[str, Servers, str, DurableOptions, LedBy], Awaitable[DurableRun]]


class LedRuns:
    """The runs that a leader begins, and its term.

    Args:
        name: The leader's name in its place, printable, and of 80 characters at most.
        journal: Returns the journal, once it is open.
        find_place: Finds the endpoint and the project.
        leaders: The terms of the client.
        begin: Writes a run down for a term, and works on it.
        carry_on: Works on a run.
    """

    def __init__(
        self,
        name: str,
        *,
        journal: Callable[[], Journal],
        find_place: Callable[[], Awaitable[str]],
        leaders: Leaders,
        begin: BeginRun,
        carry_on: Callable[[DurableRun], Awaitable[None]],
    ) -> None:
        self.name = name
        self._get_journal = journal
        self._find_place = find_place
        self._leaders = leaders
        self._begin = begin
        self._carry_on = carry_on
        self._term: Term | None = None
        self._begun = 0

    @property
    def journal(self) -> Journal:
        """The journal, open.

        Raises:
            ConfigurationError: The client has none.
        """
        return self._get_journal()

    async def place(self) -> str:
        """Return the endpoint and the project.

        Raises:
            CallError: The project's id cannot be found out.
        """
        return await self._find_place()

    @property
    def is_leading(self) -> bool:
        """Whether this process leads now."""
        return self._term is not None and self._term.is_valid()

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Term]:
        """Lead for as long as the block lasts, as `DurableRuns.lead` does, alone in this place by this name.

        Raises:
            LeadershipLostError: The lease was lost.
            JournalError: The journal could not be used while this waited to lead.
            ClientClosedError: The client is not open, or was closed inside of the block.
        """
        name = f"{self._prefix}{await self.place()}"
        async with self._leaders.lead(self.journal, name) as term:
            self._term = term
            self._begun = 0
            try:
                yield term
            finally:
                self._term = None

    async def begin(self, action: str, servers: Sequence[str], options: DurableOptions) -> DurableRun:
        """Begin a run.

        Args:
            action: Such as ``servers.stop``.
            servers: The servers.
            options: Its options.

        Raises:
            LeadershipLostError: This process does not lead, and nothing was sent.
            JournalError: The run could not be written down, or that was not confirmed.
            InvalidRequestError: An option is invalid.
        """
        term = self._term
        if term is None or not term.is_valid():
            fence = 0 if term is None else term.fence
            raise LeadershipLostError(
                f"{action}: expected to lead {self.name!r}, got that this process does not; nothing was sent",
                name=self.name,
                fence=fence,
            )
        self._begun += 1
        key = f"{self._prefix}{term.fence}-{self._begun}"
        return await self._begin(action, servers, key, options, LedBy(name=term.name, fence=term.fence))

    async def take_over(self) -> list[tuple[DurableRun, set[str]]]:
        """Cancel the runs of earlier leaders, and work on what of them was sent.

        Returns:
            The runs that have not ended, and the servers of each that were sent and have no outcome yet.

        Raises:
            JournalError: The journal cannot be used.
        """
        found = []
        for kept in await self.journal.run(list_open, await self.place(), self._prefix, writes=False):
            if not _NUMBERED.fullmatch(kept.key.removeprefix(self._prefix)):
                # The name of another one begins like this one's, and has a slash in it.
                continue
            run = DurableRun(self.journal, kept)
            await run.cancel()
            sent = await self._read_sent(run)
            if sent:
                await self._carry_on(run)
                found.append((run, sent))
        return found

    async def _read_sent(self, run: DurableRun) -> set[str]:
        sent: set[str] = set()
        # Before the outcomes, so that no server has ended meanwhile whose outcome is not seen.
        for at, packed in enumerate(await self.journal.run(read_open_batches, run.id, writes=False), 1):
            sent.update(unpack_ids(packed))
            if at % _YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        if sent:
            async for outcome in run.outcomes(wait=False):
                sent.discard(outcome.server_id)
        return sent

    async def prune(self, older_than: float) -> None:
        """Delete the runs of this leader, and of those before it, that have ended.

        Args:
            older_than: Those that ended more than so many seconds ago.

        Raises:
            JournalError: The journal cannot be used.
        """
        await prune(self.journal, await self.place(), older_than, self._prefix)

    @property
    def _prefix(self) -> str:
        return f"reconcile/{self.name}/"
