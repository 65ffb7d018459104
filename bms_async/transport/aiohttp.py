"""Carrying requests over connections of aiohttp.

aiohttp makes the connections (names, TCP, TLS, proxies) and reads the answers with its parser in C. What lies between
in its `ClientSession` is left out: it would send a request again by itself when a kept connection breaks, rewrite the
URL, add headers, and cost more than everything else here together.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import zlib

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from bms_async._threads import run_in_thread
from bms_async.errors import (
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ResponseTooLargeError,
    TransportError,
)
from bms_async.redaction import SecretStr
from bms_async.wire import HttpRequest, HttpResponse

from ._aiohttp_version import check_version, unusable_error
from ._causes import keep_cause
from ._connect import (
    Proxy,
    create_ssl_context,
    describe_connect_failure,
    describe_proxy_refusal,
    describe_proxy_unreachable,
    describe_proxy_unusable,
    proxy_from_environment,
    read_proxy,
    write_basic,
)
from ._connection import Connection, try_parser
from ._http1 import refused, split_url, write_request
from ._pool import SAFE_METHODS, IdleConnections
from .base import MAX_RESPONSE_BYTES, QueuedTransport, check_max_response_bytes

_CONNECTIONS = 100
_CONNECT_TIMEOUT = 10.0
_KEEP_ALIVE = 15.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
# All of it is there before it is read, so that nothing is waited for.
_TRIAL_TIMEOUT = 1.0
_TRIAL = HttpRequest(operation="versions.list", method="GET", url="http://127.0.0.1:1", headers={})


class AiohttpTransport(QueuedTransport):
    """Carries requests over connections of aiohttp; it needs the extra ``speedups``.

    It is opened and closed with the client that it is given to; shared by several, it closes with the last of them.
    Requests run in tasks of its own, so cancelling a caller leaves the connections whole.

    A request is written once, to one connection, and never again. If a kept connection breaks before a byte of the
    answer has come, nothing can prove that the server had not read the request before it closed, so the error says
    `maybe_delivered`, and it is the caller's to repeat what may be repeated. What makes this rare: an idle connection
    is closed after `keep_alive` seconds, or sooner if the server announced less; and a request other than GET or HEAD
    goes on a connection that was in use within the last second, or on a new one.

    Args:
        session: Whose connector makes the connections, and whose proxy is used. It belongs to the transport from then
            on and is closed with it; its headers, cookies and hooks are not used. Without one the transport makes
            connections of its own, which verify TLS, and reads ``HTTPS_PROXY``, ``SSL_CERT_FILE`` and the like from
            the environment.
        connections: How many requests run at once at most. By default what the session's connector allows, or 100;
            never more than that allows.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the usual ones.
        max_response_bytes: How large an answer may be, once it is unpacked.
        keep_alive: Seconds after which an idle connection is closed.

    Raises:
        ConfigurationError: There are to be less than 1 connections or bytes, or not more than 0 seconds;
            `ca_bundle` is given beside a session, which has certificates of its own; or aiohttp is there in a version
            that this was not tested with.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession | None = None,
        *,
        connections: int | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        keep_alive: float = _KEEP_ALIVE,
    ) -> None:
        check_version(aiohttp.__version__)
        if session is not None and ca_bundle is not None:
            raise ConfigurationError(
                "AiohttpTransport(ca_bundle=...): a session's connector has certificates, its ssl="
            )
        if session is not None and session.closed:
            raise ConfigurationError("AiohttpTransport(session=...): it is closed")
        if connections is not None and connections < 1:
            raise ConfigurationError(f"AiohttpTransport(connections={connections!r}): at least 1 is needed")
        if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or not keep_alive > 0:
            raise ConfigurationError(
                f"AiohttpTransport(keep_alive={keep_alive!r}): a number of seconds above 0 is needed"
            )
        self._session = session
        self._connector: aiohttp.BaseConnector | None = session.connector if session is not None else None
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("AiohttpTransport", max_response_bytes)
        self._keep_alive = keep_alive
        pool = _pool_size(self._connector)
        # More than the connector allows would wait in it.
        self._connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        super().__init__(connections=self._connections)
        self._routes: dict[tuple[str, str], _Route] = {}
        self._idle: IdleConnections = IdleConnections(keep_alive)
        self._is_tried = False

    async def try_library(self) -> None:
        """See that the parts of aiohttp that are not public do what they have to, with an answer that nobody sent.

        Raises:
            ConfigurationError: They do not.
        """
        if self._is_tried:
            return
        why = None
        try:
            _make_route(_TRIAL, URL(_TRIAL.url), None)
            async with asyncio.timeout(_TRIAL_TIMEOUT):
                await try_parser(ResponseHandler(asyncio.get_running_loop()), _TRIAL)
        except Exception as error:  # noqa: BLE001 - what another version does instead may raise anything
            why = f"{type(error).__name__} at a trial: {error}"
        if why is not None:
            raise unusable_error(aiohttp.__version__, why)
        self._is_tried = True

    async def _load_files(self) -> None:
        await self.try_library()
        if self._connector is None:
            # Reading the certificates takes tens of milliseconds, which the loop has no time for.
            context = await run_in_thread(_default_ssl_context, self._ca_bundle)
            self._connector = aiohttp.TCPConnector(limit=self._connections, ssl=context)

    async def _close_connections(self) -> None:
        self._idle.close()
        if self._session is not None:
            await self._session.close()
        elif self._connector is not None:
            await self._connector.close()

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        scheme, netloc, target = split_url(request)
        route = self._routes.get((scheme, netloc)) or await self._route_to(request, scheme, netloc)
        text, keeps = write_request(request, route.prefix + target, route.host, route.more)
        connection = self._idle.pop_idle(route, once=request.method not in SAFE_METHODS)
        if connection is None:
            connection = await self._connect(request, route)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(request.timeout):
                response = await connection.exchange(request, text, self._max_response_bytes)
        except ResponseTooLargeError as error:
            # Its frames hold what came.
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - the library has many errors, and sockets theirs
            failure = _to_transport_error(error, request, connection)
        except BaseException:
            connection.close()
            raise
        if failure is not None:
            connection.close()
            try:
                raise failure
            finally:
                # It has a traceback, which has this frame.
                del failure
        if keeps and connection.idle_limit > 0 and connection.usable and not connection.sending:
            self._idle.put(route, connection)
        else:
            connection.close()
        return response

    async def _route_to(self, request: HttpRequest, scheme: str, netloc: str) -> _Route:
        try:
            url = URL(f"{scheme}://{netloc}")
        except ValueError:
            raise refused(request, "InvalidURL: the URL has a host or a port that cannot be") from None
        if not url.raw_host or url.raw_user or url.raw_password:
            raise refused(request, "InvalidURL: the URL has no host, or a user name, which is not sent")
        proxy = None if self._session is None else _proxy_of(self._session)
        if proxy is None and (self._session is None or self._session.trust_env):
            proxy = await run_in_thread(proxy_from_environment, scheme, url.raw_host, url.port)
        return self._routes.setdefault((scheme, netloc), _make_route(request, url, proxy))

    async def _connect(self, request: HttpRequest, route: _Route) -> Connection:
        while self._idle.number and self._idle.number + self._queue.statistics().in_flight > self._connections:
            self._idle.evict_oldest()
        connector, seconds = self._connector, min(request.timeout, _CONNECT_TIMEOUT)
        if connector is None:
            raise ClientClosedError(f"{request.operation}: the transport is not open; use it inside `async with`")
        failure: Exception
        try:
            async with asyncio.timeout(seconds):
                return Connection(await connector.connect(route.asks, [], _NO_TIMEOUT), self._keep_alive)
        except TimeoutError:
            failure = CallTimeoutError(
                describe_connect_failure(request, f"ConnectTimeout: nothing within {seconds:g} s", route.proxy),
                maybe_delivered=False,
                operation=request.operation,
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing of the request was written
            failure = _describe_no_connection(error, request, route)
        try:
            raise failure
        finally:
            # It has a traceback, which has this frame.
            del failure


class _Route:
    """How requests to one address are sent.

    Attributes:
        asks: What aiohttp makes a connection for.
        host: What ``Host`` says.
        prefix: What is written before a request's path.
        more: Header lines for a proxy.
        proxy: Host and port of the proxy; None where there is none.
    """

    __slots__ = ("asks", "host", "more", "prefix", "proxy")

    def __init__(
        self, asks: aiohttp.ClientRequest, *, host: str, prefix: str = "", more: str = "", proxy: str | None = None
    ) -> None:
        self.asks = asks
        self.host = host
        self.prefix = prefix
        self.more = more
        self.proxy = proxy


def _make_route(request: HttpRequest, url: URL, proxy: Proxy | None) -> _Route:
    host = url.host_port_subcomponent or ""
    loop = asyncio.get_running_loop()
    if proxy is None:
        return _Route(aiohttp.ClientRequest("GET", url, loop=loop), host=host)
    if proxy.trouble is not None:
        raise refused(request, describe_proxy_unusable(request, proxy.trouble))
    try:
        through = URL(proxy.address)
    except ValueError:
        raise refused(request, describe_proxy_unusable(request, "its address has a host that cannot be")) from None
    # The password goes as a header of its own: in the address it would show in the repr of each connection.
    headers = CIMultiDict({} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization})
    asks = aiohttp.ClientRequest("GET", url, loop=loop, proxy=through, proxy_headers=headers)
    if url.scheme != "http":
        return _Route(asks, host=host, proxy=proxy.place)
    # No tunnel leads through it then: the proxy reads each request, and its password is among the headers.
    more = SecretStr("" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n")
    return _Route(asks, host=host, prefix=f"http://{host}", more=more, proxy=proxy.place)


def _proxy_of(session: aiohttp.ClientSession) -> Proxy | None:
    """Return the proxy that a session was made with; there are no public names for it."""
    if getattr(session, "_default_proxy", None) is None:
        return None
    proxy = read_proxy(str(session._default_proxy))  # noqa: SLF001
    auth: aiohttp.BasicAuth | None = getattr(session, "_default_proxy_auth", None)
    if auth is None:
        return proxy
    return proxy._replace(authorization=write_basic(auth.login.encode(), auth.password.encode()))


def _default_ssl_context(ca_bundle: str | os.PathLike[str] | None) -> ssl.SSLContext:
    if ca_bundle is None:
        ca_bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or certifi.where()
    context = create_ssl_context(ca_bundle)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _describe_no_connection(error: Exception, request: HttpRequest, route: _Route) -> TransportError:
    """Tell why there is no connection, in the words that the transport over httpx has for it."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refused(request, describe_proxy_refusal(request, error.status, route.proxy or ""))
    if route.proxy is not None and not isinstance(error, aiohttp.ClientConnectorError):
        # What breaks between the proxy's own connection and the server's is the request for a tunnel.
        return refused(request, describe_proxy_refusal(request, None, route.proxy))
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    why = str(cause)
    if route.proxy is not None and _is_about(error, route.proxy):
        failure = refused(request, describe_proxy_unreachable(request, why, route.proxy))
    else:
        failure = refused(request, describe_connect_failure(request, f"ConnectError: {why}", route.proxy))
    failure.__cause__ = keep_cause(cause, request, written=route.proxy is not None)
    return failure


def _is_about(error: Exception, proxy: str) -> bool:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return True
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    host = f"[{error.host}]" if error.host and ":" in error.host else error.host
    return f"{host}:{error.port}" == proxy


def _to_transport_error(error: Exception, request: HttpRequest, connection: Connection) -> TransportError:
    """Tell what became of a request on a connection, in the words that httpx has for it.

    Nothing that the server said is quoted, and no error that quotes it is kept as the cause: a strange server may well
    send back what it was sent.
    """
    if isinstance(error, TimeoutError):
        kind = "WriteTimeout" if connection.sending else "ReadTimeout"
        return CallTimeoutError(
            f"{kind}: no whole answer within {request.timeout:g} s", maybe_delivered=True, operation=request.operation
        )
    cause: Exception | None = None
    if isinstance(error, OSError):
        text, cause = f"ReadError: {error.strerror or type(error).__name__}", error
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "RemoteProtocolError: the server hung up without a whole answer"
    elif isinstance(error, aiohttp.ClientPayloadError):
        text = "RemoteProtocolError: the body of the answer is broken off or malformed"
    elif isinstance(error, HttpProcessingError):
        text = "RemoteProtocolError: the answer is not HTTP"
    elif isinstance(error, zlib.error):
        text = "DecodingError: the body of the answer is not packed as its headers say"
    else:
        text, cause = f"{type(error).__name__} while sending", error
    described = TransportError(text, maybe_delivered=connection.wrote, operation=request.operation)
    described.__cause__ = None if cause is None else keep_cause(cause, request, written=connection.wrote)
    return described


def _pool_size(connector: aiohttp.BaseConnector | None) -> int | None:
    sizes = [] if connector is None else [connector.limit, connector.limit_per_host]
    return min((size for size in sizes if size), default=None)
