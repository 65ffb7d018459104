"""The transport over connections of aiohttp.

aiohttp opens the connections (DNS, TCP, TLS, proxies) and parses the responses in C. Its `ClientSession` is not used:
it repeats a request when a kept connection breaks, rewrites the URL, adds headers, and costs more CPU than
everything else here together.
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
from ._connection import Connection, IdleConnections, try_parser
from ._http1 import not_sent_error, split_url, write_request
from ._pool import SAFE_METHODS
from .base import MAX_RESPONSE_BYTES, QueuedTransport, check_max_response_bytes

_CONNECTIONS = 100
_CONNECT_TIMEOUT = 10.0
_KEEP_ALIVE = 15.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
# The trial's response is there before it is read, so it never waits.
_TRIAL_TIMEOUT = 1.0
_TRIAL = HttpRequest(operation="versions.list", method="GET", url="http://127.0.0.1:1", headers={})


class AiohttpTransport(QueuedTransport):
    """Sends requests over connections of aiohttp; it needs the extra ``aiohttp``.

    It is opened and closed with the client that it is given to; shared by several, it closes with the last of them.
    Requests run in tasks of its own, so cancelling a caller breaks no connection.

    A request is written once, to one connection, and never again. If a kept connection breaks before a byte of the
    response has arrived, nothing proves that the server had not read the request. So the error says `maybe_delivered`,
    and the caller decides whether to repeat the call. Two bounds make this rare: an idle connection is closed after
    `keep_alive` seconds, or sooner if the server announced less; and a request other than GET or HEAD uses a connection
    that was in use within the last second, or a new one.

    Args:
        session: A session whose connector makes the connections and whose proxy is used. The transport owns and closes
            it; its headers, cookies and hooks are not used. Without one the transport makes connections of its own,
            which verify TLS, and reads ``HTTPS_PROXY``, ``SSL_CERT_FILE`` and the like from the environment.
        connections: The maximum number of requests in flight. By default the limit of the session's connector, or 100;
            never more than that limit.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the default ones.
        max_response_bytes: The size limit of a response, in bytes after decompression.
        keep_alive: Seconds after which an idle connection is closed.

    Raises:
        ConfigurationError: `connections` or `max_response_bytes` is less than 1, or `keep_alive` is not above 0;
            `ca_bundle` is given with a session, which has certificates of its own; or the installed aiohttp is not a
            tested version.
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
                "AiohttpTransport(ca_bundle=...): expected no ca_bundle beside a session; pass ssl= to its connector"
            )
        if session is not None and session.closed:
            raise ConfigurationError("AiohttpTransport(session=...): expected an open session, got a closed one")
        if connections is not None and connections < 1:
            raise ConfigurationError(f"AiohttpTransport(connections={connections!r}): expected at least 1")
        if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or not keep_alive > 0:
            raise ConfigurationError(
                f"AiohttpTransport(keep_alive={keep_alive!r}): expected a number of seconds above 0"
            )
        self._session = session
        self._connector: aiohttp.BaseConnector | None = session.connector if session is not None else None
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("AiohttpTransport", max_response_bytes)
        self._keep_alive = keep_alive
        pool = _pool_size(self._connector)
        # More requests would queue in the connector.
        self._connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        super().__init__(connections=self._connections)
        self._routes: dict[tuple[str, str], _Route] = {}
        self._idle: IdleConnections = IdleConnections(keep_alive)
        self._is_tried = False

    async def try_library(self) -> None:
        """Check the private parts of aiohttp that are used, with a response that no server sent.

        Raises:
            ConfigurationError: They do not behave as expected.
        """
        if self._is_tried:
            return
        problem = None
        try:
            _make_route(_TRIAL, URL(_TRIAL.url), None)
            async with asyncio.timeout(_TRIAL_TIMEOUT):
                await try_parser(ResponseHandler(asyncio.get_running_loop()), _TRIAL)
        except Exception as error:  # noqa: BLE001 - another version may raise anything
            problem = f"{type(error).__name__} at a trial: {error}"
        if problem is not None:
            raise unusable_error(aiohttp.__version__, problem)
        self._is_tried = True

    async def _load_files(self) -> None:
        await self.try_library()
        if self._connector is None:
            # Reading certificates takes tens of milliseconds, too long for the event loop.
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
        data, keep_alive = write_request(request, route.path_prefix + target, route.host, route.proxy_headers)
        connection = self._idle.pop_idle(route, replayable=request.method in SAFE_METHODS)
        if connection is None:
            connection = await self._connect(request, route)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(request.timeout):
                response = await connection.exchange(request, data, self._max_response_bytes)
        except ResponseTooLargeError as error:
            # Its frames hold the response.
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - errors of the library and of sockets
            failure = _to_transport_error(error, request, connection)
        except BaseException:
            connection.close()
            raise
        if failure is not None:
            connection.close()
            try:
                raise failure
            finally:
                # Break the reference cycle: its traceback has this frame.
                del failure
        if keep_alive and connection.idle_limit > 0 and connection.usable and not connection.sending:
            self._idle.put(route, connection)
        else:
            connection.close()
        return response

    async def _route_to(self, request: HttpRequest, scheme: str, netloc: str) -> _Route:
        try:
            url = URL(f"{scheme}://{netloc}")
        except ValueError:
            raise not_sent_error(request, "InvalidURL: the URL has an invalid host or port") from None
        if not url.raw_host or url.raw_user or url.raw_password:
            raise not_sent_error(request, "InvalidURL: expected a URL with a host and without a user name")
        proxy = None if self._session is None else _proxy_of(self._session)
        if proxy is None and (self._session is None or self._session.trust_env):
            proxy = await run_in_thread(proxy_from_environment, scheme, url.raw_host, url.port)
        return self._routes.setdefault((scheme, netloc), _make_route(request, url, proxy))

    async def _connect(self, request: HttpRequest, route: _Route) -> Connection:
        while self._idle.count and self._idle.count + self._queue.statistics().in_flight > self._connections:
            self._idle.evict_oldest()
        connector, seconds = self._connector, min(request.timeout, _CONNECT_TIMEOUT)
        if connector is None:
            raise ClientClosedError(f"{request.operation}: the transport is not open; use it inside `async with`")
        failure: Exception
        try:
            async with asyncio.timeout(seconds):
                return Connection(await connector.connect(route.connect_request, [], _NO_TIMEOUT), self._keep_alive)
        except TimeoutError:
            failure = CallTimeoutError(
                describe_connect_failure(request, f"ConnectTimeout: no connection within {seconds:g} s", route.proxy),
                maybe_delivered=False,
                operation=request.operation,
            )
        except Exception as error:  # noqa: BLE001 - nothing of the request was written
            failure = _connect_error(error, request, route)
        try:
            raise failure
        finally:
            # Break the reference cycle: its traceback has this frame.
            del failure


class _Route:
    """How requests to one address are sent.

    Attributes:
        connect_request: The request for which aiohttp opens a connection; it is not sent.
        host: The value of ``Host``.
        path_prefix: What is written before a request's path.
        proxy_headers: Header lines for a proxy.
        proxy: Host and port of the proxy; None without one.
    """

    __slots__ = ("connect_request", "host", "path_prefix", "proxy", "proxy_headers")

    def __init__(
        self,
        connect_request: aiohttp.ClientRequest,
        *,
        host: str,
        path_prefix: str = "",
        proxy_headers: str = "",
        proxy: str | None = None,
    ) -> None:
        self.connect_request = connect_request
        self.host = host
        self.path_prefix = path_prefix
        self.proxy_headers = proxy_headers
        self.proxy = proxy


def _make_route(request: HttpRequest, url: URL, proxy: Proxy | None) -> _Route:
    host = url.host_port_subcomponent or ""
    loop = asyncio.get_running_loop()
    if proxy is None:
        return _Route(aiohttp.ClientRequest("GET", url, loop=loop), host=host)
    if proxy.problem is not None:
        raise not_sent_error(request, describe_proxy_unusable(request, proxy.problem))
    try:
        proxy_url = URL(proxy.address)
    except ValueError:
        raise not_sent_error(request, describe_proxy_unusable(request, "its address has an invalid host")) from None
    # The password is sent in a header: in the address it would show in the repr of each connection.
    headers = CIMultiDict({} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization})
    connect_request = aiohttp.ClientRequest("GET", url, loop=loop, proxy=proxy_url, proxy_headers=headers)
    if url.scheme != "http":
        return _Route(connect_request, host=host, proxy=proxy.host_and_port)
    # Without a tunnel the proxy reads each request, and its password is among the headers.
    proxy_headers = SecretStr("" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n")
    return _Route(
        connect_request,
        host=host,
        path_prefix=f"http://{host}",
        proxy_headers=proxy_headers,
        proxy=proxy.host_and_port,
    )


def _proxy_of(session: aiohttp.ClientSession) -> Proxy | None:
    """Return the proxy of a session, for which there are no public attributes."""
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


def _connect_error(error: Exception, request: HttpRequest, route: _Route) -> TransportError:
    """Return the error of a connection that could not be opened, worded like that of the transport over httpx."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return not_sent_error(request, describe_proxy_refusal(request, error.status, route.proxy or ""))
    if route.proxy is not None and not isinstance(error, aiohttp.ClientConnectorError):
        # A failure after connecting to the proxy and before the server is one of CONNECT.
        return not_sent_error(request, describe_proxy_refusal(request, None, route.proxy))
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    reason = str(cause)
    if route.proxy is not None and _is_proxy_failure(error, route.proxy):
        failure = not_sent_error(request, describe_proxy_unreachable(request, reason, route.proxy))
    else:
        failure = not_sent_error(request, describe_connect_failure(request, f"ConnectError: {reason}", route.proxy))
    failure.__cause__ = keep_cause(cause, request, written=route.proxy is not None)
    return failure


def _is_proxy_failure(error: Exception, proxy: str) -> bool:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return True
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    host = f"[{error.host}]" if error.host and ":" in error.host else error.host
    return f"{host}:{error.port}" == proxy


def _to_transport_error(error: Exception, request: HttpRequest, connection: Connection) -> TransportError:
    """Return the error of a request that failed on a connection, worded like that of the transport over httpx.

    Nothing from the server is quoted, and no error that quotes it is kept as the cause: a faulty server may echo the
    request.
    """
    if isinstance(error, TimeoutError):
        kind = "WriteTimeout" if connection.sending else "ReadTimeout"
        return CallTimeoutError(
            f"{kind}: no complete response within {request.timeout:g} s",
            maybe_delivered=True,
            operation=request.operation,
        )
    cause: Exception | None = None
    if isinstance(error, OSError):
        text, cause = f"ReadError: {error.strerror or type(error).__name__}", error
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "RemoteProtocolError: the server closed the connection without a complete response"
    elif isinstance(error, aiohttp.ClientPayloadError):
        text = "RemoteProtocolError: the response body is incomplete or malformed"
    elif isinstance(error, HttpProcessingError):
        text = "RemoteProtocolError: the response is not HTTP"
    elif isinstance(error, zlib.error):
        text = "DecodingError: the response body is not encoded as its headers say"
    else:
        text, cause = f"{type(error).__name__} while sending", error
    failure = TransportError(text, maybe_delivered=connection.wrote, operation=request.operation)
    failure.__cause__ = None if cause is None else keep_cause(cause, request, written=connection.wrote)
    return failure


def _pool_size(connector: aiohttp.BaseConnector | None) -> int | None:
    sizes = [] if connector is None else [connector.limit, connector.limit_per_host]
    return min((size for size in sizes if size), default=None)
