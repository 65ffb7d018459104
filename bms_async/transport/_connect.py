"""How a connection comes about: through which proxy, with whose certificates, and what an error says if it does not."""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies, proxy_bypass

from bms_async.errors import ConfigurationError
from bms_async.redaction import SecretBytes, SecretStr
from bms_async.wire import HttpRequest

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}
_PROXY_PORTS = {"http": 80, "https": 443}
_SPOKEN = frozenset(_PROXY_PORTS)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,15}")
_ENTRY_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d+)")
# As the environment holds bytes that are not UTF-8.
_AS_GIVEN = "surrogateescape"


class Proxy(NamedTuple):
    """A proxy on the way to a server.

    Attributes:
        address: Scheme, host and port, without a password.
        authorization: The value of ``Proxy-Authorization``; None where it has no password.
        trouble: Why it cannot be used, and what to do; None where it can.
    """

    address: str
    authorization: SecretStr | None = None
    trouble: str | None = None

    @property
    def place(self) -> str:
        """Its host and port, for an error."""
        return self.address.partition("://")[2]


def proxy_from_environment(scheme: str, host: str, port: int | None) -> Proxy | None:
    """Return the proxy to a server; None where it is reached directly.

    ``NO_PROXY`` may name hosts, domains, addresses, networks (``10.0.0.0/8``) and ``*``, each with a port or without,
    between commas or blanks. On some systems this asks more than the environment, and so belongs into a thread.
    """
    # What runs on this machine is not reached through a proxy, whatever NO_PROXY forgets to say.
    if host in _LOOPBACK:
        return None
    proxies = getproxies()
    port = port or _PORTS.get(scheme, 0)
    # A port must be there: without one, the end of an IPv6 address would be taken for it.
    if _is_exempt(proxies.get("no", ""), host, port) or proxy_bypass(f"{host}:{port}"):
        return None
    named = proxies.get(scheme) or proxies.get("all")
    return read_proxy(named) if named else None


def read_proxy(text: str) -> Proxy:
    """Read a proxy's address as people write it.

    The name and the password in it are UTF-8, as curl and browsers send them, and may be percent-encoded; a ``#``, a
    ``?`` or an ``@`` in them is taken as it is where that is not done.
    """
    scheme, credentials, place = _split(text)
    if scheme not in _SPOKEN:
        kind = f"{scheme}://" if _SCHEME.fullmatch(scheme) else "an unknown kind"
        return Proxy(
            place,
            trouble=f"a proxy of {kind} is not spoken here; name one with an address of http:// or https://, "
            "or have NO_PROXY name the server",
        )
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port or _PROXY_PORTS[scheme]
    except ValueError:
        host = None
    if not host:
        return Proxy("", trouble="its address has no host, or no such port is; expected http://host:port")
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
    credentials, at, place = map(SecretStr, rest.rpartition("@"))
    return scheme.lower(), credentials if at else None, re.split(r"[/?#]", place, maxsplit=1)[0]


def write_basic(name: bytes, password: bytes) -> SecretStr:
    """Return the value of ``Proxy-Authorization`` for a name and a password."""
    return SecretStr("Basic " + b64encode(name + b":" + password).decode())


def _decoded(text: str) -> SecretBytes:
    return SecretBytes(unquote_to_bytes(text.encode(errors=_AS_GIVEN)))


def _is_exempt(no_proxy: str, host: str, port: int) -> bool:
    address = _address(host)
    for entry, only in _entries(no_proxy):
        if only is not None and only != port:
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


_WANTS_A_PASSWORD = 407


def describe_connect_failure(request: HttpRequest, why: str, proxy: str | None = None) -> str:
    """Tell why there is no connection, to whom, and what to look at.

    Args:
        request: What was to be sent.
        why: What the library said.
        proxy: Host and port of the proxy that it was to lead through, and that did what a proxy has to do.
    """
    if "CERTIFICATE_VERIFY_FAILED" in why:
        look = "if a private authority signs for it, name its certificates with ca_bundle or OS_CACERT"
    elif "WRONG_VERSION_NUMBER" in why:
        look = "no TLS is spoken there; is the port right, or is it an http address of this machine?"
    else:
        look = "are its endpoint and region right, and is there a way to it from here?"
    through = "" if proxy is None else f" through the proxy {proxy}"
    return f"{why}; no connection to {_shown_address(request)}{through}: {look}"


def describe_proxy_unreachable(request: HttpRequest, why: str, proxy: str) -> str:
    """Tell that the proxy is not there, or says nothing; of the server nothing is known then.

    Args:
        request: What was to be sent.
        why: What the library said.
        proxy: Host and port of the proxy.
    """
    return (
        f"ProxyError: no connection to the proxy {proxy}, through which {_shown_address(request)} is reached ({why}): "
        "is the proxy's address right, or should NO_PROXY name the server?"
    )


def describe_proxy_refusal(request: HttpRequest, status: int | None, proxy: str) -> str:
    """Tell that the proxy does not lead to the server.

    Args:
        request: What was to be sent.
        status: What it answered; None where it hung up instead.
        proxy: Host and port of the proxy.
    """
    did = "hung up instead of answering CONNECT" if status is None else f"answered {status} to CONNECT"
    look = (
        "it wants a name and a password, which its address has before the host: http://name:password@host:port"
        if status == _WANTS_A_PASSWORD
        else "does it allow that address, or should NO_PROXY name the server?"
    )
    return f"ProxyError: the proxy {proxy} {did}, and so {_shown_address(request)} was not reached: {look}"


def describe_proxy_unusable(request: HttpRequest, trouble: str) -> str:
    """Tell why the proxy that is named cannot be used."""
    return f"ProxyError: the proxy to {_shown_address(request)} cannot be used: {trouble}"


def _shown_address(request: HttpRequest) -> str:
    place = urlsplit(request.url)
    # Without the name and the password that an address may begin with.
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}"


def create_ssl_context(ca_bundle: str | os.PathLike[str]) -> ssl.SSLContext:
    """Return a context that trusts these certificates and no others; it reads files, and so belongs into a thread.

    Args:
        ca_bundle: A file in PEM form, or a folder of such files with the names that OpenSSL gives them.

    Raises:
        ConfigurationError: It cannot be read, or holds no certificate.
    """
    path = Path(ca_bundle).expanduser()
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError as error:
        raise ConfigurationError(f"ca_bundle={str(path)!r}: no certificate in PEM form is in it") from error
    except OSError as error:
        raise ConfigurationError(f"ca_bundle={str(path)!r}: {error.strerror or type(error).__name__}") from error
