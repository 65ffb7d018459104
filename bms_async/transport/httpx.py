"""The transport over httpx, or over httpx2, which has the same names."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
import httpx

from bms_async._threads import run_in_thread
from bms_async.errors import ConfigurationError, ResponseTooLargeError
from bms_async.wire import HttpRequest, HttpResponse, ResponseHeaders

from ._client_pool import ClientPool
from ._connect import (
    Proxy,
    create_ssl_context,
    create_usual_ssl_context,
    describe_proxy_unusable,
    proxy_from_environment,
    refuse_old_tls,
)
from ._decompress import CHUNK_SIZE, make_decompressor
from ._http1 import check_headers, not_sent_error, split_url
from ._httpx_errors import connect_timeout, timeout_error, to_transport_error
from ._httpx_trace import Progress, mask_reason_phrases
from ._pool import SAFE_METHODS
from .base import MAX_RESPONSE_BYTES, QueuedTransport, check_max_response_bytes

if TYPE_CHECKING:
    import httpx2

Client: TypeAlias = "httpx.AsyncClient | httpx2.AsyncClient"

_CONNECTIONS = 64
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}

_PORTS = {"http": 80, "https": 443}
# A pool without a limit has sys.maxsize connections.
_NO_LIMIT = 1_000_000


class HttpxTransport(QueuedTransport):
    """Sends requests over httpx, each connection in a pool of its own.

    A pool of httpx scans all of its connections for each request, which makes a large pool slow; a pool of one has
    nothing to scan. The transport is opened and closed with the client that it is given to; shared by several, it
    closes with the last of them. Requests run in tasks of its own, so cancelling a caller breaks no connection.
    A request other than GET or HEAD uses a connection that was in use within the last second, or a new one: a server
    may be closing an idle one.

    httpcore and httpx log as the application has configured them: httpx logs method, address and status of each request
    of a given client at INFO. Secrets are masked in their log records, without a filter on a logger.

    ::

        HttpxTransport()
        HttpxTransport(lambda: httpx.AsyncClient(http2=True, limits=httpx.Limits(max_connections=1)))
        HttpxTransport(httpx2.AsyncClient())

    Args:
        client: A function that returns an `httpx.AsyncClient` or an `httpx2.AsyncClient` for one connection; or one
            such client, whose pool is then used for all. The transport owns and closes them. By default it makes
            connections of its own, which verify TLS, and reads ``HTTPS_PROXY``, ``SSL_CERT_FILE`` and the like from
            the environment.
        connections: The maximum number of requests in flight. By default the limit of the given client's pool, or 64;
            never more than that limit.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the default ones.
        max_response_bytes: The size limit of a response, in bytes after decompression.

    Raises:
        ConfigurationError: `connections` or `max_response_bytes` is less than 1; or `ca_bundle` is given with a client,
            which has certificates of its own.
    """

    def __init__(
        self,
        client: Client | Callable[[], Client] | None = None,
        *,
        connections: int | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        if client is not None and ca_bundle is not None:
            raise ConfigurationError(
                "HttpxTransport(ca_bundle=...): expected no ca_bundle beside a client; pass verify= to the client"
            )
        if connections is not None and connections < 1:
            raise ConfigurationError(f"HttpxTransport(connections={connections!r}): expected at least 1")
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("HttpxTransport", max_response_bytes)
        self._ssl_context: ssl.SSLContext | None = None
        pool = _pool_size(client)
        # More requests would queue in the pool, where an abandoned request keeps its slot.
        connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        super().__init__(connections=connections)
        self._proxies: dict[Hashable, Proxy | None] = {}
        self._owns_clients = client is None
        self._pool: ClientPool[Any] | _SharedClient
        if client is None:
            self._pool = ClientPool(self._make_pool, max_idle=connections)
        # Clients are not callable, so a callable is a factory of clients.
        elif callable(client):
            # In a thread, because a new client may read certificates.
            make = functools.partial(run_in_thread, lambda: mask_reason_phrases(client()))
            self._pool = ClientPool(lambda _: make(), max_idle=connections)
        else:
            self._pool = _SharedClient(mask_reason_phrases(client))

    async def _load_files(self) -> None:
        if self._owns_clients and self._ssl_context is None:
            # Reading certificates takes tens of milliseconds, too long for the event loop.
            self._ssl_context = await run_in_thread(self._load_ssl_context)

    async def _close_connections(self) -> None:
        await self._pool.aclose()

    def _load_ssl_context(self) -> ssl.SSLContext:
        if self._ca_bundle is None:
            context = create_usual_ssl_context(lambda: httpx.create_ssl_context(trust_env=False))
        else:
            context = create_ssl_context(self._ca_bundle)
        refuse_old_tls(context)
        # The first transport imports httpcore, which would block the event loop too.
        httpx.AsyncHTTPTransport(verify=context)
        return context

    async def _make_pool(self, route: Hashable) -> httpx.AsyncHTTPTransport:
        """Make a pool of one connection, without a client: that would store cookies, and costs a tenth more CPU."""
        proxy = self._proxies[route]
        return httpx.AsyncHTTPTransport(
            verify=self._ssl_context or True,
            trust_env=False,
            limits=_ONE_CONNECTION,
            proxy=None if proxy is None else _to_httpx_proxy(proxy, self._ssl_context),
        )

    async def _route_to(self, request: HttpRequest) -> Hashable:
        """Return the route of a request, after checking that its proxy is usable."""
        if not self._owns_clients:
            return None
        route = "://".join(split_url(request)[:2])
        if route not in self._proxies:
            try:
                url = httpx.URL(route)
            except httpx.InvalidURL:
                raise not_sent_error(request, "InvalidURL: the URL has an invalid host or port") from None
            self._proxies[route] = await run_in_thread(proxy_from_environment, url.scheme, url.host, url.port)
        proxy = self._proxies[route]
        if proxy is not None and proxy.problem is not None:
            raise not_sent_error(request, describe_proxy_unusable(request, proxy.problem))
        return route

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        check_headers(request)
        route = await self._route_to(request)
        progress: Progress | None = None
        failure: Exception | None = None
        with anyio.CancelScope() as scope:
            try:
                async with self._pool.borrow(route, replayable=request.method in SAFE_METHODS) as client:
                    trace, timeouts = self._start_trace(request, client, scope)
                    built = self._build_request(client, request, {"timeout": timeouts, "trace": trace})
                    progress = trace
                    return await self._exchange_once(client, request, built)
            except ResponseTooLargeError as error:
                # Its frames hold the response.
                failure = error.with_traceback(None)
            except Exception as error:  # noqa: BLE001 - each library has errors of its own
                failure = to_transport_error(error, request, progress, _proxy_connected_to(request, progress))
            except BaseException:
                if progress is not None and not progress.sent and progress.in_handshake is not None:
                    # httpcore leaves a connection open whose handshake is cancelled.
                    with anyio.CancelScope(shield=True):
                        await progress.in_handshake.aclose()
                raise
        try:
            raise failure or timeout_error(request, progress, _proxy_connected_to(request, progress))
        finally:
            # Break the reference cycle: its traceback has this frame.
            del failure

    def _start_trace(
        self, request: HttpRequest, client: Any, scope: anyio.CancelScope
    ) -> tuple[Progress, dict[str, float | None]]:
        """Set the deadline of an exchange; return its trace and the timeouts for httpx.

        Until the connection is open, httpx bounds each step of connecting. From then on the rest of the exchange has
        the request's timeout, by the loop's clock.
        """
        connect = connect_timeout(request)
        pooled = self._owns_clients or _pool_of(client) is not None
        step = request.timeout
        timeouts: dict[str, float | None] = {"connect": connect, "read": step, "write": step, "pool": None}
        # Cancelled from outside, connecting would leave a socket open and a slot of a given pool taken
        # (encode/httpcore#1093). So the deadline lies beyond all of httpx's own timeouts until then.
        seconds = request.timeout + 3 * connect if pooled else request.timeout
        scope.deadline = asyncio.get_running_loop().time() + seconds
        return Progress(request, scope, timeouts), timeouts

    async def _exchange_once(self, client: Any, request: HttpRequest, built: httpx.Request) -> HttpResponse:
        response = await self._send(client, built)
        excessive = None
        try:
            body = await self._read_body(response)
            excessive = _connection_with_excess(client, response)
            if excessive is not None:
                # Data after the response must not be read as the response to the next request.
                await excessive.aclose()
        finally:
            await response.aclose()
        if excessive is not None:
            # The end of the response has made the connection idle again.
            await excessive.aclose()
        if body is None:
            raise ResponseTooLargeError(
                limit=self._max_response_bytes, status=response.status_code, operation=request.operation
            )
        headers = ResponseHeaders(response.headers.multi_items())
        return HttpResponse(status=response.status_code, headers=headers, body=body)

    def _build_request(self, client: Any, request: HttpRequest, extensions: dict[str, Any]) -> httpx.Request:
        headers = dict(request.headers)
        make = httpx.Request if self._owns_clients else client.build_request
        if self._owns_clients:
            given = {name.lower() for name in headers}
            headers |= {name: value for name, value in _HEADERS.items() if name.lower() not in given}
        built = make(request.method, request.url, headers=headers, content=request.body, extensions=extensions)
        if hasattr(built, "_content"):
            # The library keeps a plain copy of the body in a private attribute; a test fails if it moves.
            built._content = request.body  # noqa: SLF001
        return cast("httpx.Request", built)

    async def _send(self, client: Any, built: httpx.Request) -> httpx.Response:
        if self._owns_clients:
            return cast("httpx.Response", await client.handle_async_request(built))
        return cast("httpx.Response", await client.send(built, follow_redirects=False, stream=True))

    async def _read_body(self, response: httpx.Response) -> bytes | None:
        """Return a whole body; None if it is larger than the limit."""
        # Not a list of parts: a part may be one byte, which takes forty times as much in a list.
        body = bytearray()
        encoding = response.headers.get("content-encoding")
        decompressor = make_decompressor(encoding)
        stream: Any
        if response.is_stream_consumed or (encoding and decompressor is None):
            # It was read already, as by a mock; or only httpx knows its encoding.
            stream, decompressor = response.aiter_bytes(), None
        else:
            # The raw stream: httpx would decompress a part at once, however large it becomes, and its own iterator
            # gives the connection back at the end.
            stream = response.stream
        async for part in stream:
            for chunk in (part,) if decompressor is None else decompressor.feed(part):
                body += chunk
                if len(body) > self._max_response_bytes:
                    return None
                if len(chunk) == CHUNK_SIZE:
                    # This part has more chunks; let other tasks run in between.
                    await asyncio.sleep(0)
        if decompressor is not None:
            decompressor.finish()
        return bytes(body)


class _SharedClient:
    """A client given by the user, for all requests at once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @asynccontextmanager
    async def borrow(self, route: Hashable, *, replayable: bool) -> AsyncIterator[Any]:
        del route, replayable
        yield self._client

    async def aclose(self) -> None:
        await self._client.aclose()


def _to_httpx_proxy(proxy: Proxy, context: ssl.SSLContext | None) -> httpx.Proxy:
    headers = None if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    return httpx.Proxy(
        proxy.address, headers=headers, ssl_context=context if proxy.address.startswith("https:") else None
    )


def _proxy_connected_to(request: HttpRequest, progress: Progress | None) -> str | None:
    """Return host and port of the proxy that a connection was made to, if any."""
    if progress is None or progress.peer is None:
        return None
    url = httpx.URL(request.url)
    if progress.peer == (url.raw_host.decode(), url.port or _PORTS.get(url.scheme)):
        return None
    host, port = progress.peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _connection_with_excess(client: Any, response: Any) -> Any:
    """Return the connection of a response, if data has arrived after its end.

    httpx has no public attribute for this; a test fails if the private ones move.
    """
    stream = response.extensions.get("network_stream")
    if stream is None:
        return None
    for transport in (client, getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        for connection in getattr(getattr(transport, "_pool", None), "connections", ()):
            # A connection through a proxy holds one to the proxy, and either holds the one of HTTP/1.1.
            while (inner := getattr(connection, "_connection", None)) is not None:
                connection = inner  # noqa: PLW2901
            if getattr(connection, "_network_stream", None) is stream:
                state = getattr(connection, "_h11_state", None)
                return connection if state is not None and state.trailing_data[0] else None
    return None


def _pool_size(client: object) -> int | None:
    """Return the size of a client's pool; None if it has no pool (a transport for ASGI, or a mock).

    httpx has no public attribute for this; a test on both libraries fails if the private ones move.
    """
    size = None if callable(client) else getattr(_pool_of(client), "_max_connections", None)
    return size if isinstance(size, int) and 0 < size < _NO_LIMIT else None


def _pool_of(client: object) -> object:
    return getattr(getattr(client, "_transport", None), "_pool", None)
