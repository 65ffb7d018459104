"""The URL of a Redis or Valkey server, taken apart so that no error and no variable shows its password (R5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bms_async.errors import ConfigurationError
from bms_async.redaction import Secret, SecretStr

_SERVERS = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
"""The schemes of servers, and whether they mean TLS."""

_SOCKETS = ("unix", "redis+unix", "valkey+unix")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PORT = 6379

_EXPECTED = (
    "the store's URL: expected redis://[[user]:password@]host[:port][/db], the same with rediss, valkey or valkeys, or "
    f"unix:///path[?db=0], and of options {', '.join(_FILES)} with TLS, got another form; percent-encode what is "
    "neither a letter nor a digit in user and password"
)


class RedisAddress(NamedTuple):
    """Where a server is, and how it lets us in.

    Attributes:
        label: The address for people, without user and password.
        host: The host's name; empty for a socket.
        port: The port; 0 for a socket.
        path: The path of a socket; else empty.
        db: The number of the database.
        user: The user's name, if there is one.
        password: The password, if there is one.
        has_tls: Whether the connection is encrypted.
        files: The files with certificates and keys, by the names that redis-py has for them.
    """

    label: str
    host: str
    port: int
    path: str
    db: int
    user: SecretStr | None
    password: Secret | None
    has_tls: bool
    files: Mapping[str, str]


def read_address(url: SecretStr) -> RedisAddress:
    """Take a URL apart.

    Args:
        url: The URL.

    Raises:
        ConfigurationError: It is no URL of a server; the error shows nothing of it.
    """
    try:
        address = _read(urlsplit(url))
    except ValueError:
        address = None
    if address is None:
        raise ConfigurationError(_EXPECTED)
    return address


def _read(parts: SplitResult) -> RedisAddress | None:
    query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    options = dict(query)
    has_tls = _SERVERS.get(parts.scheme, False)
    is_socket = parts.scheme in _SOCKETS
    allowed = {"db"} | (set(_FILES) if has_tls else set())
    if parts.fragment or len(options) < len(query) or not options.keys() <= allowed:
        return None
    path = unquote(parts.path)
    database = options.pop("db", "") or ("" if is_socket else path.strip("/")) or "0"
    if not (database.isascii() and database.isdecimal()):
        return None
    host, port = parts.hostname or "", parts.port or _PORT
    if is_socket and not host and path.startswith("/"):
        label, port = f"unix://{path}?db={int(database)}", 0
    elif parts.scheme in _SERVERS and host:
        label = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/{int(database)}"
    else:
        return None
    return RedisAddress(
        label=label,
        host=host,
        port=port,
        path=path if is_socket else "",
        db=int(database),
        user=SecretStr(unquote(parts.username)) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        has_tls=has_tls,
        files=options,
    )
