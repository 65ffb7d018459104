"""Connecting: the proxy, the trusted certificates, and the texts of errors when no connection is made."""

from __future__ import annotations

import os
import re
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from bms_async.errors import ConfigurationError
from bms_async.redaction import SecretBytes, SecretStr
from bms_async.wire import HttpRequest

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}
_PROXY_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = frozenset(_PROXY_PORTS)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,15}")
_ENTRY_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d+)")
# The error handler by which os.environ holds bytes that are not UTF-8.
_ENVIRONMENT_ERRORS = "surrogateescape"


class Proxy(NamedTuple):
    """A proxy to a server.

    Attributes:
        address: Scheme, host and port, without a password.
        authorization: The value of ``Proxy-Authorization``; None without credentials.
        problem: Why it cannot be used, and what to do; None if it can.
    """

    address: str
    authorization: SecretStr | None = None
    problem: str | None = None

    @property
    def host_and_port(self) -> str:
        """Host and port, for errors."""
        return self.address.partition("://")[2]


def proxy_from_environment(scheme: str, host: str, port: int | None) -> Proxy | None:
    """Return the proxy to a server; None if it is reached directly.

    ``NO_PROXY`` may name hosts, domains, addresses, networks (``10.0.0.0/8``) and ``*``, each with or without a port,
    separated by commas or blanks. Call this in a thread: on some systems it reads more than the environment.
    """
    # This machine is never reached through a proxy, even if NO_PROXY does not name it.
    if host in _LOOPBACK:
        return None
    if not _may_have_proxies():
        return None
    # It brings email and http.client with it.
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - only where a proxy may be named

    proxies = getproxies()
    port = port or _PORTS.get(scheme, 0)
    # Without a port, proxy_bypass would read the end of an IPv6 address as one.
    if _is_exempt(proxies.get("no", ""), host, port) or proxy_bypass(f"{host}:{port}"):
        return None
    named = proxies.get(scheme) or proxies.get("all")
    return read_proxy(named) if named else None


def _may_have_proxies() -> bool:
    """Return whether the settings of the system, or a variable, may name a proxy."""
    if sys.platform in {"darwin", "win32"}:
        return True
    names = (name.lower() for name, value in os.environ.items() if value)
    return any(name.endswith("_proxy") and name != "no_proxy" for name in names)


def read_proxy(text: str) -> Proxy:
    """Parse a proxy's address leniently.

    The name and the password in it are UTF-8, as curl and browsers send them, and may be percent-encoded. A ``#``, a
    ``?`` or an ``@`` in them may also stand unencoded.
    """
    scheme, credentials, host_and_port = _split(text)
    if scheme not in _PROXY_SCHEMES:
        kind = f"{scheme}://" if _SCHEME.fullmatch(scheme) else "an unknown kind"
        return Proxy(
            host_and_port,
            problem=f"expected a proxy of http:// or https://, got {kind}; name another one, or name the server in "
            "NO_PROXY",
        )
    try:
        parts = urlsplit(f"//{host_and_port}")
        host, port = parts.hostname, _PROXY_PORTS[scheme] if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    # urlsplit leaves out line breaks and tabs.
    if not host or not port or not host_and_port.isprintable():
        return Proxy("", problem="expected an address http://host:port, got one without host or with an invalid port")
    shown = f"[{host}]" if ":" in host else host
    authorization = None
    if credentials is not None:
        name, _, password = map(SecretStr, credentials.partition(":"))
        authorization = write_basic(_decoded(name), _decoded(password))
    return Proxy(f"{scheme}://{shown}:{port}", authorization)


def _split(text: str) -> tuple[str, SecretStr | None, str]:
    """Return a proxy's scheme, name and password, and host with port."""
    scheme, mark, rest = map(SecretStr, text.strip().partition("://"))
    if not mark:
        scheme, rest = SecretStr("http"), scheme
    credentials, at, host_and_port = map(SecretStr, rest.rpartition("@"))
    return scheme.lower(), credentials if at else None, re.split(r"[/?#]", host_and_port, maxsplit=1)[0]


def write_basic(name: bytes, password: bytes) -> SecretStr:
    """Return the value of ``Proxy-Authorization`` for a name and a password."""
    return SecretStr("Basic " + b64encode(name + b":" + password).decode())


def _decoded(text: str) -> SecretBytes:
    return SecretBytes(unquote_to_bytes(text.encode(errors=_ENVIRONMENT_ERRORS)))


def _is_exempt(no_proxy: str, host: str, port: int) -> bool:
    address = _address(host)
    for entry, entry_port in _entries(no_proxy):
        if entry_port is not None and entry_port != port:
            continue
        if entry == "*":
            return True
        if address is not None and _covers(entry, address):
            return True
        domain = entry.removeprefix("*").strip(".").lower()
        if domain and (host.rstrip(".").lower() == domain or host.rstrip(".").lower().endswith(f".{domain}")):
            return True
    return False


def _entries(no_proxy: str) -> Iterator[tuple[str, int | None]]:
    for entry in re.split(r"[,\s]+", no_proxy):
        with_port = _ENTRY_WITH_PORT.fullmatch(entry)
        name, port = (with_port[1], int(with_port[2])) if with_port else (entry, None)
        if name:
            yield name.replace("[", "").replace("]", ""), port


def _covers(entry: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_PROXY_AUTHENTICATION_REQUIRED = 407


def describe_connect_failure(request: HttpRequest, reason: str, proxy: str | None = None) -> str:
    """Return the error text for a failed connection to a server, with what to check.

    Args:
        request: The request.
        reason: The library's error.
        proxy: Host and port of the proxy through which the server was to be reached; the proxy itself worked.
    """
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        hint = "if a private authority signs its certificate, name that authority with ca_bundle or OS_CACERT"
    elif "WRONG_VERSION_NUMBER" in reason:
        hint = "the server does not use TLS; is the port right, or is it an http address of this machine?"
    else:
        hint = "are its endpoint and region right, and is it reachable from here?"
    through = "" if proxy is None else f" through the proxy {proxy}"
    return f"{reason}; no connection to {_shown_address(request)}{through}: {hint}"


def describe_proxy_unreachable(request: HttpRequest, reason: str, proxy: str) -> str:
    """Return the error text for a proxy that cannot be reached or does not respond.

    Args:
        request: The request.
        reason: The library's error.
        proxy: Host and port of the proxy.
    """
    return (
        f"ProxyError: no connection to the proxy {proxy} on the way to {_shown_address(request)} ({reason}): "
        "is the proxy's address right, or should NO_PROXY name the server?"
    )


def describe_proxy_refusal(request: HttpRequest, status: int | None, proxy: str) -> str:
    """Return the error text for a proxy that does not connect to the server.

    Args:
        request: The request.
        status: The status of the proxy's response; None if it closed the connection instead.
        proxy: Host and port of the proxy.
    """
    result = "closed the connection on CONNECT" if status is None else f"responded with {status} to CONNECT"
    hint = (
        "it requires a name and a password, which belong before the host: http://name:password@host:port"
        if status == _PROXY_AUTHENTICATION_REQUIRED
        else "does it allow that address, or should NO_PROXY name the server?"
    )
    return f"ProxyError: the proxy {proxy} {result}, so {_shown_address(request)} was not reached: {hint}"


def describe_proxy_unusable(request: HttpRequest, problem: str) -> str:
    """Return the error text for a proxy that cannot be used."""
    return f"ProxyError: the proxy to {_shown_address(request)} cannot be used: {problem}"


def _shown_address(request: HttpRequest) -> str:
    url = urlsplit(request.url)
    # Without a name and a password before the host.
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def refuse_old_tls(context: ssl.SSLContext) -> None:
    """Have a context refuse TLS below 1.2, which some builds of Python leave to the settings of the system.

    Args:
        context: The context, which may ask for more than that already.
    """
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)


def create_ssl_context(ca_bundle: str | os.PathLike[str]) -> ssl.SSLContext:
    """Return a context that trusts these certificates only. Call this in a thread: it reads files.

    Args:
        ca_bundle: A file in PEM form, or a folder of such files named by OpenSSL's hashes.

    Raises:
        ConfigurationError: The file cannot be read, or has no certificate.
    """
    path = Path(ca_bundle).expanduser()
    with _naming(f"ca_bundle={str(path)!r}"):
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))


def create_usual_ssl_context(default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context that trusts what the environment names, as OpenSSL reads it. Call this in a thread.

    Args:
        default: Makes the context if it names nothing.

    Raises:
        ConfigurationError: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names nothing that can be read.
    """
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        with _naming(f"SSL_CERT_FILE={file!r}"):
            return ssl.create_default_context(cafile=file)
    if folders:
        # Without certificates, nothing would fail before the first handshake.
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
            raise ConfigurationError(f"SSL_CERT_DIR={folders!r}: expected folders, got none that exists")
        with _naming(f"SSL_CERT_DIR={folders!r}"):
            return ssl.create_default_context(capath=folders)
    with _naming("the default certificates"):
        return default()


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Name what cannot be read, which may be the file that Python's own TLS logs its keys to."""
    try:
        yield
    except ssl.SSLError as error:
        raise ConfigurationError(f"{source}: expected certificates in PEM form, got none") from error
    except OSError as error:
        log = os.environ.get("SSLKEYLOGFILE")
        shown = f"SSLKEYLOGFILE={log!r}" if log and error.filename == log else source
        raise ConfigurationError(f"{shown}: {error.strerror or type(error).__name__}") from error
