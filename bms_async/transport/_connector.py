"""Opening connections of HTTP/1.1: DNS, TCP, TLS and proxies.

Through a proxy, plain HTTP is asked for with absolute URLs, and a server with TLS by a tunnel (CONNECT). A proxy may be
reached over TLS too; a tunnel through it is TLS in TLS, which asyncio and uvloop both have. Of a name with several
addresses, uvloop tries one after another; elsewhere they are tried in parallel.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from bms_async._threads import run_in_thread
from bms_async.errors import CallTimeoutError, ConfigurationError, TransportError
from bms_async.redaction import SecretBytes, SecretStr
from bms_async.wire import HttpRequest

from ._causes import keep_cause
from ._connect import (
    Proxy,
    create_ssl_context,
    create_usual_ssl_context,
    describe_connect_failure,
    describe_proxy_refusal,
    describe_proxy_unreachable,
    describe_proxy_unusable,
    proxy_from_environment,
    refuse_old_tls,
)
from ._http1 import not_sent_error
from ._http1_connection import Connection
from ._parser import ResponseParser
from ._sockets import connect_socket, is_address
from ._writer import RequestWriter

_CONNECT_TIMEOUT = 10.0
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._~!$&'()*+,;=-]+|[0-9a-f:.]+(?:%[0-9a-z._~-]+)?")
_SUCCESSFUL = range(200, 300)
_NAMING = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""The variables that TLS reads files by."""


class Route:
    """How requests to one address are sent.

    Attributes:
        host: The name or address of the server.
        port: Its port.
        is_secure: Whether it is reached over TLS.
        proxy: The proxy to it; None without one.
        writer: Writes its requests.
    """

    __slots__ = ("host", "is_secure", "port", "proxy", "writer")

    def __init__(self, scheme: str, host: str, port: int, proxy: Proxy | None) -> None:
        self.host = host
        self.port = port
        self.is_secure = scheme == "https"
        self.proxy = proxy
        shown = _with_port(host, None if port == _PORTS[scheme] else port)
        if proxy is None or self.is_secure:
            self.writer = RequestWriter(shown)
        else:
            # Without a tunnel the proxy reads each request, and its password is among the headers.
            self.writer = RequestWriter(shown, f"http://{shown}", _authorization_line(proxy))


class Connector:
    """Opens connections.

    Args:
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the default ones.

    Attributes:
        routes: The known routes, by scheme and host with port as the URL has them.
    """

    def __init__(self, ca_bundle: str | os.PathLike[str] | None) -> None:
        self._ca_bundle = ca_bundle
        self._ssl_context: ssl.SSLContext | None = None
        self._loading = asyncio.Lock()
        self._find_proxy: Callable[[str, str, int | None], Proxy | None] = proxy_from_environment
        self.routes: dict[tuple[str, str], Route] = {}

    async def load_certificates(self) -> None:
        """Read the certificates that somebody has named, once; the usual ones are read for the first address with TLS.

        Raises:
            ConfigurationError: They cannot be read.
        """
        if self._ca_bundle is not None or any(map(os.environ.get, _NAMING)):
            await self._load()

    async def _load(self) -> None:
        async with self._loading:
            if self._ssl_context is None:
                # Reading them takes tens of milliseconds, too long for the event loop.
                self._ssl_context = await run_in_thread(_default_ssl_context, self._ca_bundle)

    def forget(self) -> None:
        """Forget the headers of earlier requests."""
        for route in self.routes.values():
            route.writer.forget()

    async def route_to(self, request: HttpRequest, scheme: str, netloc: str) -> Route:
        """Return the route to an address.

        Args:
            request: The request, for errors.
            scheme: The scheme of its URL.
            netloc: Host and port of its URL.

        Raises:
            TransportError: The address is invalid, or its proxy or TLS cannot be used.
        """
        route = self.routes.get((scheme, netloc))
        if route is None:
            host, port = _read_address(request, netloc)
            proxy = await run_in_thread(self._find_proxy, scheme, host, port)
            if proxy is not None and proxy.problem is not None:
                raise not_sent_error(request, describe_proxy_unusable(request, proxy.problem))
            if scheme == "https" or (proxy is not None and proxy.address.startswith("https:")):
                try:
                    await self._load()
                except ConfigurationError as error:
                    raise not_sent_error(request, str(error)) from error
            # Another task may have done the same meanwhile.
            route = self.routes.setdefault((scheme, netloc), Route(scheme, host, port or _PORTS[scheme], proxy))
        return route

    async def open(self, request: HttpRequest, route: Route, connection: Connection) -> None:
        """Open a connection.

        Args:
            request: The request that it is opened for, for its timeout and for errors.
            route: Where to.
            connection: The protocol of the connection.

        Raises:
            TransportError: It cannot be opened; nothing was sent.
        """
        attempt = _Attempt(route, self._ssl_context)
        seconds = min(request.timeout, _CONNECT_TIMEOUT)
        failure: TransportError | None = None
        try:
            async with asyncio.timeout(seconds) as scope:
                await attempt.connect(connection)
                if not connection.usable:
                    raise _reset_error()  # noqa: TRY301 - it is worded like the others
        except Exception as error:  # noqa: BLE001 - nothing of the request was written
            failure = (
                _connect_error(error, request, attempt)
                if not scope.expired()
                else CallTimeoutError(
                    describe_connect_failure(
                        request, f"ConnectTimeout: no connection within {seconds:g} s", attempt.proxy_name
                    ),
                    maybe_delivered=False,
                    operation=request.operation,
                )
            )
        finally:
            if not connection.usable:
                attempt.close()
                connection.close()
        if failure is not None:
            try:
                raise failure
            finally:
                # Break the reference cycle: its traceback has this frame.
                del failure


class _Attempt:
    """One attempt to open a connection, and how far it got."""

    def __init__(self, route: Route, context: ssl.SSLContext | None) -> None:
        self._route = route
        self._context = context
        self._tunnel: _Tunnel | None = None
        self.reached_proxy = self.has_tunnel = False

    @property
    def proxy_name(self) -> str | None:
        """Host and port of the proxy, if any."""
        return None if self._route.proxy is None else self._route.proxy.host_and_port

    async def connect(self, connection: Connection) -> None:
        """Open the connection."""
        route = self._route
        if route.proxy is None:
            await _connect(connection, route.host, route.port, self._context if route.is_secure else None)
            return
        address = urlsplit(route.proxy.address)
        host, port = address.hostname or "", address.port or 0
        context = self._context if address.scheme == "https" else None
        if not route.is_secure:
            await _connect(connection, host, port, context)
            return
        self._tunnel = _Tunnel()
        await _connect(self._tunnel, host, port, context)
        self.reached_proxy = True
        through = await self._tunnel.ask(route.host, route.port, route.proxy)
        self.has_tunnel = True
        transport = await asyncio.get_running_loop().start_tls(
            through, connection, _required(self._context), server_hostname=route.host.rstrip(".")
        )
        if transport is None:
            raise _reset_error()
        connection.connection_made(transport)

    def close(self) -> None:
        """Close what was opened."""
        if self._tunnel is not None and self._tunnel.transport is not None:
            self._tunnel.transport.abort()


async def _connect(protocol: asyncio.BaseProtocol, host: str, port: int, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    name = None if context is None else host.rstrip(".")
    if not isinstance(loop, asyncio.BaseEventLoop):
        # uvloop closes the descriptor of a given socket and lets the socket close it once more.
        await loop.create_connection(lambda: protocol, host, port, ssl=context, server_hostname=name)
        return
    opened = await connect_socket(host, port)
    try:
        await loop.create_connection(lambda: protocol, sock=opened, ssl=context, server_hostname=name)
    except BaseException:
        # To close it twice does no harm, if the loop has closed it.
        opened.close()
        raise


class _RefusedError(Exception):
    """A proxy has refused to connect to the server."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy that is asked for a tunnel."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser = ResponseParser(0)
        self._response: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, host: str, port: int, proxy: Proxy) -> asyncio.Transport:
        """Ask for the tunnel, and return what leads through it.

        Raises:
            _RefusedError: The proxy did not open it.
        """
        if self.transport is None:
            raise _RefusedError(None)
        self._parser.expect(bodiless=True)
        address = _with_port(host, port)
        self.transport.write(
            SecretBytes(
                f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{_authorization_line(proxy)}\r\n".encode("ascii")
            )
        )
        await self._response
        status = self._parser.status
        excess = self._parser.excess
        self._parser.close()
        # A server with TLS does not speak first, so nothing has to be passed on.
        if status not in _SUCCESSFUL or excess or self.transport is None:
            raise _RefusedError(status or None)
        return self.transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are no subclasses.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._parser.complete or self._parser.problem is not None:
            self._resolve()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        self._resolve()

    def _resolve(self) -> None:
        if not self._response.done():
            self._response.set_result(None)


def _connect_error(error: Exception, request: HttpRequest, attempt: _Attempt) -> TransportError:
    """Return the error of a connection that could not be opened, worded like those of the other transports."""
    proxy = attempt.proxy_name
    if isinstance(error, _RefusedError):
        return not_sent_error(request, describe_proxy_refusal(request, error.status, proxy or ""))
    reason = str(error) or type(error).__name__
    if proxy is not None and not attempt.reached_proxy:
        text = describe_proxy_unreachable(request, reason, proxy)
    else:
        text = describe_connect_failure(request, f"ConnectError: {reason}", proxy)
    failure = not_sent_error(request, text)
    failure.__cause__ = keep_cause(error, request, written=proxy is not None)
    return failure


def _default_ssl_context(ca_bundle: str | os.PathLike[str] | None) -> ssl.SSLContext:
    context = create_usual_ssl_context(_context_of_certifi) if ca_bundle is None else create_ssl_context(ca_bundle)
    refuse_old_tls(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _context_of_certifi() -> ssl.SSLContext:
    import certifi  # noqa: PLC0415 - only where something is reached over TLS

    return ssl.create_default_context(cafile=certifi.where())


def _read_address(request: HttpRequest, netloc: str) -> tuple[str, int | None]:
    """Return the host and the port of a URL."""
    # urlsplit leaves out line breaks and tabs, and a port of 0 would pass for none.
    if "@" in netloc or not netloc.isprintable():
        raise not_sent_error(request, "InvalidURL: expected a URL with a host and without a user name")
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname, parts.port
        if host and not is_address(host):
            host = host.encode("idna").decode("ascii")
    except ValueError:
        raise not_sent_error(request, "InvalidURL: the URL has an invalid host or port") from None
    if port == 0:
        raise not_sent_error(request, "InvalidURL: the URL has an invalid host or port")
    if not host or _HOST.fullmatch(host) is None:
        raise not_sent_error(request, "InvalidURL: expected a URL with a host and without a user name")
    return host, port


def _with_port(host: str, port: int | None) -> str:
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _authorization_line(proxy: Proxy) -> SecretStr:
    return SecretStr("" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n")


def _required(context: ssl.SSLContext | None) -> ssl.SSLContext:
    if context is None:
        raise _reset_error()
    return context


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
