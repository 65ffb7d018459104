"""Which store of shared limits an address means."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bms_async import _addresses
from bms_async._addresses import SCHEMES, AddressKind, find_server, is_own

from .store import Store

__all__ = ["find_file", "find_store", "is_own"]

_STORES = AddressKind(
    file="limits.db",
    schemes=SCHEMES,
    expected=(
        "'redis://host:6379/0', 'valkey://…', 'rediss://…', 'postgresql://user@host/db', 'sqlite:///path' or 'machine'"
    ),
)


def find_store(argument: str, address: str | None) -> Callable[[], Store]:
    """Return what makes the store of an address; nothing is opened yet.

    Args:
        argument: What names the address, for errors.
        address: The address; None or ``machine`` for the file of this machine.

    Raises:
        ConfigurationError: It is not the address of a store, or the store needs an extra that is not installed.
    """
    file = find_file(argument, address)
    if file is not None:
        from .sqlite import SqliteStore  # noqa: PLC0415 - most clients share no limits

        return partial(SqliteStore, file, trust_new=is_own(address))
    server = find_server(argument, address or "", _STORES)
    if server.driver == "redis":
        from .redis import RedisStore  # noqa: PLC0415 - it needs an extra

        return partial(RedisStore, server.url)
    from .postgres import PostgresStore  # noqa: PLC0415 - it needs an extra

    return partial(PostgresStore, server.url)


def find_file(argument: str, address: str | None) -> Path | None:
    """Return the file of a store; None if the store is a server.

    Args:
        argument: What names the address, for errors.
        address: The address; None or ``machine`` for the file of this machine.

    Raises:
        ConfigurationError: It is not the address of a store, or there is no place for the file.
    """
    return _addresses.find_file(argument, address, _STORES)
