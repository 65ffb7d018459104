"""Which file or which server the address of a store means.

What is raised shows no password: an address that may hold one is shown as a secret.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from bms_async._extras import is_installed
from bms_async.errors import ConfigurationError
from bms_async.redaction import SecretStr, wrap_address

_DRIVERS = {
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
"""The schemes, and the library that each needs; none for a file."""

_EXTRAS = {"redis": "redis", "asyncpg": "postgres"}
_OWN = "machine"

SCHEMES = frozenset(_DRIVERS)
"""The schemes of all stores that there are."""


class AddressKind(NamedTuple):
    """Which addresses a kind of store may have.

    Attributes:
        file: The name of the file that all programs of this user on this machine share.
        schemes: The schemes of its addresses, of `SCHEMES`.
        expected: Examples of them, for errors.
    """

    file: str
    schemes: Collection[str]
    expected: str


class ServerAddress(NamedTuple):
    """The server of a store.

    Attributes:
        driver: The library that speaks to it: ``redis`` or ``asyncpg``.
        url: The address.
    """

    driver: str
    url: SecretStr


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


def is_own(address: str | None) -> bool:
    """Return whether an address means the file that all programs of this user on this machine share."""
    return address is None or address == _OWN


def find_file(argument: str, address: str | None, kind: AddressKind) -> Path | None:
    """Return the file of a store; None if the store is a server.

    Args:
        argument: What names the address, for errors.
        address: The address; None or ``machine`` for the file of this machine.
        kind: Which addresses there are.

    Raises:
        ConfigurationError: It is not the address of a store, or there is no place for the file.
    """
    if is_own(address):
        try:
            return state_folder() / kind.file
        except OSError as error:
            raise ConfigurationError(
                f"{argument}=None: there is no place for the file of this machine: {error}"
            ) from error
    shown = wrap_address(address) if isinstance(address, str) else address
    if not isinstance(address, str) or "://" not in address or _scheme_of(address) not in kind.schemes:
        raise ConfigurationError(f"{argument}={shown!r}: expected the address of a store: {kind.expected}")
    if _DRIVERS[_scheme_of(address)] is not None:
        return None
    parts = _split(argument, address, kind)
    path = unquote(parts.path)
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{argument}={shown!r}: expected the path of a file and no options; percent-encode '?' and '#' in the path"
        )
    # A relative path would be another store in each folder, so there is none; what SQLAlchemy writes with four slashes
    # is the same file.
    if parts.netloc or not path.strip("/"):
        raise ConfigurationError(
            f"{argument}={shown!r}: expected the whole path of a file, such as 'sqlite:///var/lib/bms/{kind.file}'"
        )
    return Path("/" + path.lstrip("/"))


def find_server(argument: str, address: str, kind: AddressKind) -> ServerAddress:
    """Return the server of a store that `find_file` finds no file for.

    Args:
        argument: What names the address, for errors.
        address: The address.
        kind: Which addresses there are.

    Raises:
        ConfigurationError: It is not the address of a store, or the store needs an extra that is not installed.
    """
    shown, driver = wrap_address(address), _DRIVERS[_scheme_of(address)]
    if driver is None:
        raise ValueError(f"{argument}={shown!r}: expected a server, got a file")
    if not is_installed(driver):
        extra = _EXTRAS[driver]
        raise ConfigurationError(
            f"{argument}={shown!r}: this store needs the extra {extra!r}: pip install 'bms-async[{extra}]'"
        )
    parts = _split(argument, address, kind)
    # A socket has a path, or the name of a database and the driver's own place for it.
    if not (parts.netloc or parts.path.strip("/")):
        raise ConfigurationError(f"{argument}={shown!r}: expected the store's host: {kind.expected}")
    return ServerAddress(driver, SecretStr(address))


def _scheme_of(address: str) -> str:
    return address.partition(":")[0].lower()


def _split(argument: str, address: str, kind: AddressKind) -> SplitResult:
    parts = _try_split(address)
    if parts is None:
        raise ConfigurationError(
            f"{argument}={wrap_address(address)!r}: expected a valid address of a store: {kind.expected}"
        )
    return parts


def _try_split(address: str) -> SplitResult | None:
    """Return the parts of an address; None if it is none, with no error whose frames have the password."""
    try:
        parts = urlsplit(address)
        # PostgreSQL's may name several hosts, each with a port.
        _ = None if "," in parts.netloc else parts.port
    except ValueError:
        return None
    return parts
