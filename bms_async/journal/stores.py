"""Which journal an address means."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bms_async._addresses import AddressKind, find_file, find_server

from .store import JournalStore

_KIND = AddressKind(
    file="runs.db",
    schemes=("postgresql", "postgres", "sqlite"),
    expected="'postgresql://user@host/db', 'sqlite:///path' or 'machine'",
)


def find_journal(argument: str, address: str | None) -> Callable[[], JournalStore]:
    """Return what makes the store of an address; nothing is opened yet.

    Args:
        argument: What names the address, for errors.
        address: The address; None or ``machine`` for the file of this machine.

    Raises:
        ConfigurationError: It is not the address of a journal, or needs an extra that is not installed.
    """
    file = find_file(argument, address, _KIND)
    if file is not None:
        from .sqlite import SqliteJournal  # noqa: PLC0415 - most clients keep no runs

        return partial(SqliteJournal, file)
    # The server first, since it is looked at there whether the extra is installed.
    url = find_server(argument, address or "", _KIND).url
    from .postgres import PostgresJournal  # noqa: PLC0415 - it needs an extra

    make = partial(PostgresJournal, url)
    # An address that is none is refused now, and not when the journal is opened.
    make()
    return make
