"""Which store an address means."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from bms_async._extras import is_installed
from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_address, wrap_secrets

from .store import Store

_SCHEMES = {
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "unix": "redis",
    "redis+unix": "redis",
    "valkey+unix": "redis",
    "postgresql": "asyncpg",
    "postgres": "asyncpg",
    "sqlite": None,
}
_EXTRAS = {"redis": "redis", "asyncpg": "postgres"}
_OWN = "machine"
_EXPECTED = (
    "'redis://host:6379/0', 'valkey://…', 'rediss://…', 'postgresql://user@host/db', 'sqlite:///path' or 'machine'"
)


def state_folder() -> Path:
    """Return the folder of this user's state; it is not created.

    Raises:
        OSError: There is neither a home folder nor XDG_STATE_HOME.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "bms"
    try:
        return Path.home() / ".local" / "state" / "bms"
    except RuntimeError as error:
        raise OSError("there is no home folder; set XDG_STATE_HOME") from error


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
    return _find_server(argument, address or "")


def is_own(address: str | None) -> bool:
    """Return whether an address means the file that all programs of this user on this machine share."""
    return address is None or address == _OWN


def find_file(argument: str, address: str | None) -> Path | None:
    """Return the file of a store; None if the store is a server.

    Args:
        argument: What names the address, for errors.
        address: The address; None or ``machine`` for the file of this machine.

    Raises:
        ConfigurationError: It is not the address of a store, or there is no place for the file.
    """
    if is_own(address):
        try:
            return state_folder() / "limits.db"
        except OSError as error:
            raise ConfigurationError(
                f"{argument}=None: there is no place for the file of this machine: {error}"
            ) from error
    shown = wrap_address(address) if isinstance(address, str) else address
    if not isinstance(address, str) or "://" not in address or _scheme_of(address) not in _SCHEMES:
        raise ConfigurationError(f"{argument}={shown!r}: expected the address of a store: {_EXPECTED}")
    if _scheme_of(address) != "sqlite":
        return None
    parts = _split(argument, address)
    path = unquote(parts.path)
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{argument}={shown!r}: expected the path of a file and no options; percent-encode '?' and '#' in the path"
        )
    # A relative path would be another budget in each folder, so there is none; what SQLAlchemy writes with four slashes
    # is the same file.
    if parts.netloc or not path.strip("/"):
        raise ConfigurationError(
            f"{argument}={shown!r}: expected the whole path of a file, such as 'sqlite:///var/lib/bms/limits.db'"
        )
    return Path("/" + path.lstrip("/"))


def _scheme_of(address: str) -> str:
    return address.partition(":")[0].lower()


def _split(argument: str, address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        # PostgreSQL's may name several hosts, each with a port.
        _ = None if "," in parts.netloc else parts.port
    except ValueError:
        raise ConfigurationError(
            f"{argument}={wrap_address(address)!r}: expected a valid address of a store: {_EXPECTED}"
        ) from None
    return parts


def _find_server(argument: str, address: str) -> Callable[[], Store]:
    shown, module = wrap_address(address), _SCHEMES[_scheme_of(address)]
    if module is not None and not is_installed(module):
        extra = _EXTRAS[module]
        raise ConfigurationError(
            f"{argument}={shown!r}: this store needs the extra {extra!r}: pip install 'bms-async[{extra}]'"
        )
    parts = _split(argument, address)
    # A socket has a path, or the name of a database and the driver's own place for it.
    if not (parts.netloc or parts.path.strip("/")):
        raise ConfigurationError(f"{argument}={shown!r}: expected the store's host: {_EXPECTED}")
    if module == "redis":
        from .redis import RedisStore  # noqa: PLC0415 - it needs an extra

        return partial(RedisStore, wrap_secrets(address))
    from .postgres import PostgresStore  # noqa: PLC0415 - it needs an extra

    return partial(PostgresStore, wrap_secrets(address))
