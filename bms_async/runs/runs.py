"""Where durable runs are kept: what users make and hand to their clients."""

from __future__ import annotations

from collections.abc import Callable

from bms_async.journal import Journal, JournalStore
from bms_async.journal.stores import find_journal


class Runs:
    """A journal of durable runs: a file of this machine, or a database that many machines share.

    ::

        runs = Runs("postgresql://ops@db/bms")
        async with BmsClient.from_env(runs=runs) as bms:
            run = await bms.runs.reboot(ids, key="kernel-42")

    Clients of one event loop may share it. It is opened with the first of them and closed with the last.

    Args:
        store: The journal's address: ``postgresql://user@host:5432/database`` (extra ``postgres``) or
            ``sqlite:///var/lib/bms/runs.db``; None or ``machine`` for the file of this user on this machine,
            ``~/.local/state/bms/runs.db``.

    Raises:
        ConfigurationError: It is not the address of a journal, or needs an extra that is not installed.
    """

    def __init__(self, store: str | None = None) -> None:
        self._make: Callable[[], JournalStore] = find_journal("store", store)
        self.journal = Journal(self._make)

    @property
    def label(self) -> str:
        """The place of the journal, without user and password."""
        return self.journal.label

    def __repr__(self) -> str:
        return f"<Runs in {self.label}>"
