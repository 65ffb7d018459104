"""Carrying requests with httpx, or with httpx2, which has the same names."""

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
from bms_async.wire import HttpRequest, HttpResponse

from ._connect import Proxy, create_ssl_context, describe_proxy_unusable, proxy_from_environment
from ._decompress import CHUNK_SIZE, make_decompressor
from ._http1 import check_headers, refused, split_url
from ._httpx_errors import connect_timeout, describe, describe_timeout
from ._httpx_trace import Progress, quiet
from ._pool import SAFE_METHODS, ClientPool
from .base import MAX_RESPONSE_BYTES, QueuedTransport, check_max_response_bytes

if TYPE_CHECKING:
    import httpx2

Client: TypeAlias = "httpx.AsyncClient | httpx2.AsyncClient"

_CONNECTIONS = 64
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}

_PORTS = {"http": 80, "https": 443}


class HttpxTransport(QueuedTransport):
    """Carries requests with httpx, each connection in a pool of its own.

    A pool of httpx looks at all of its connections for every request, which makes many of them slow; a pool of one has
    nothing to look at. The transport is opened and closed with the client that it is given to; shared by several, it
    closes with the last of them. Requests run in tasks of its own, so cancelling a caller leaves the connections whole.
    What is not a GET or HEAD goes on a connection that was in use within the last second, or on a new one: a server may
    be closing one that was idle.

    What httpcore and httpx log is theirs, and goes where the application has it go: httpx tells method, address and
    status of each request of a given client at INFO. Secrets are masked in what they log, without a filter on a logger.

    ::

        HttpxTransport()
        HttpxTransport(lambda: httpx.AsyncClient(http2=True, limits=httpx.Limits(max_connections=1)))
        HttpxTransport(httpx2.AsyncClient())

    Args:
        client: A function that makes an `httpx.AsyncClient` or an `httpx2.AsyncClient` for one connection; or one such
            client, whose pool is then used for all. They belong to the transport and are closed with it. By default
            it makes connections of its own, which verify TLS, and reads ``HTTPS_PROXY``, ``SSL_CERT_FILE`` and the
            like from the environment.
        connections: How many requests run at once at most. By default what the given client's pool allows, or 64;
            never more than that pool allows.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the usual ones.
        max_response_bytes: How large an answer may be, once it is unpacked.

    Raises:
        ConfigurationError: There are to be less than 1 connections or bytes; or `ca_bundle` is given beside a client,
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
            raise ConfigurationError("HttpxTransport(ca_bundle=...): a client has certificates of its own, its verify=")
        if connections is not None and connections < 1:
            raise ConfigurationError(f"HttpxTransport(connections={connections!r}): at least 1 is needed")
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("HttpxTransport", max_response_bytes)
        self._ssl_context: ssl.SSLContext | None = None
        pool = _pool_size(client)
        # More than the pool holds would queue in it, where a request that is given up leaves its place taken.
        connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        super().__init__(connections=connections)
        self._proxies: dict[Hashable, Proxy | None] = {}
        self._owns_clients = client is None
        self._pool: ClientPool[Any] | _SharedClient
        if client is None:
            self._pool = ClientPool(self._make_pool, most=connections)
        # A client cannot be called, and whatever can be called makes clients.
        elif callable(client):
            # In a thread, for making one may read certificates.
            make = functools.partial(run_in_thread, lambda: quiet(client()))
            self._pool = ClientPool(lambda _: make(), most=connections)
        else:
            self._pool = _SharedClient(quiet(client))

    async def _load_files(self) -> None:
        if self._owns_clients and self._ssl_context is None:
            # Reading the certificates takes tens of milliseconds, which the loop has no time for.
            self._ssl_context = await run_in_thread(self._load_ssl_context)

    async def _close_connections(self) -> None:
        await self._pool.aclose()

    def _load_ssl_context(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context() if self._ca_bundle is None else create_ssl_context(self._ca_bundle)
        # The first transport imports what httpx is built on, for which the loop has no time either.
        httpx.AsyncHTTPTransport(verify=context)
        return context

    async def _make_pool(self, route: Hashable) -> httpx.AsyncHTTPTransport:
        """Make a connection's pool, without a client around it: that would keep cookies, and costs a tenth more."""
        proxy = self._proxies[route]
        return httpx.AsyncHTTPTransport(
            verify=self._ssl_context or True,
            trust_env=False,
            limits=_ONE_CONNECTION,
            proxy=None if proxy is None else _as_httpx_takes_it(proxy, self._ssl_context),
        )

    async def _route_to(self, request: HttpRequest) -> Hashable:
        """Return where a request goes, and see that its proxy is known and can be used."""
        if not self._owns_clients:
            return None
        route = "://".join(split_url(request)[:2])
        if route not in self._proxies:
            try:
                url = httpx.URL(route)
            except httpx.InvalidURL:
                raise refused(request, "InvalidURL: the URL has a host or a port that cannot be") from None
            self._proxies[route] = await run_in_thread(proxy_from_environment, url.scheme, url.host, url.port)
        proxy = self._proxies[route]
        if proxy is not None and proxy.trouble is not None:
            raise refused(request, describe_proxy_unusable(request, proxy.trouble))
        return route

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        check_headers(request)
        route = await self._route_to(request)
        progress: Progress | None = None
        failure: Exception | None = None
        with anyio.CancelScope() as scope:
            try:
                async with self._pool.borrow(route, once=request.method not in SAFE_METHODS) as carrier:
                    following, timeouts = self._follow(request, carrier, scope)
                    built = self._build_request(carrier, request, {"timeout": timeouts, "trace": following})
                    progress = following
                    return await self._exchange_once(carrier, request, built)
            except ResponseTooLargeError as error:
                # Its frames hold what came.
                failure = error.with_traceback(None)
            except Exception as error:  # noqa: BLE001 - each library has errors of its own
                failure = describe(error, request, progress, _proxy_met(request, progress))
        try:
            raise failure or describe_timeout(request, progress, _proxy_met(request, progress))
        finally:
            # It has a traceback, which has this frame.
            del failure

    def _follow(
        self, request: HttpRequest, carrier: Any, scope: anyio.CancelScope
    ) -> tuple[Progress, dict[str, float | None]]:
        """Bound what follows, and return what tells how far it gets.

        Until the connection is there httpx bounds each step of connecting. From then on all that is left has the
        request's timeout, counted by the loop's clock.
        """
        connect = connect_timeout(request)
        pooled = self._owns_clients or _pool_of(carrier) is not None
        each = request.timeout
        timeouts: dict[str, float | None] = {"connect": connect, "read": each, "write": each, "pool": None}
        # Cut from outside, what is being connected would leave its socket open, and its place in a given pool taken
        # (encode/httpcore#1093). So the bound lies beyond all that httpx does until then.
        seconds = request.timeout + 3 * connect if pooled else request.timeout
        scope.deadline = asyncio.get_running_loop().time() + seconds
        return Progress(request, scope, timeouts), timeouts

    async def _exchange_once(self, carrier: Any, request: HttpRequest, built: httpx.Request) -> HttpResponse:
        response = await self._send(carrier, built)
        try:
            body = await self._read_body(response)
        finally:
            await response.aclose()
        if body is None:
            raise ResponseTooLargeError(
                limit=self._max_response_bytes, status=response.status_code, operation=request.operation
            )
        if self._owns_clients and _has_more(carrier):
            # Nobody asked for what came after the answer, and the next request must not get it for its own.
            await carrier.aclose()
        return HttpResponse(status=response.status_code, headers=tuple(response.headers.multi_items()), body=body)

    def _build_request(self, carrier: Any, request: HttpRequest, extensions: dict[str, Any]) -> httpx.Request:
        headers = dict(request.headers)
        make = httpx.Request if self._owns_clients else carrier.build_request
        if self._owns_clients:
            given = {name.lower() for name in headers}
            headers |= {name: value for name, value in _HEADERS.items() if name.lower() not in given}
        built = make(request.method, request.url, headers=headers, content=request.body, extensions=extensions)
        if hasattr(built, "_content"):
            # The library keeps a plain copy of what it sends, under no public name; a test tells if that moves.
            built._content = request.body  # noqa: SLF001
        return cast("httpx.Request", built)

    async def _send(self, carrier: Any, built: httpx.Request) -> httpx.Response:
        if self._owns_clients:
            return cast("httpx.Response", await carrier.handle_async_request(built))
        return cast("httpx.Response", await carrier.send(built, follow_redirects=False, stream=True))

    async def _read_body(self, response: httpx.Response) -> bytes | None:
        """Return a whole body; None where there is more of it than may be."""
        parts = []
        size = 0
        encoding = response.headers.get("content-encoding")
        unpack = make_decompressor(encoding)
        stream: Any
        if response.is_stream_consumed or (encoding and unpack is None):
            # It was read already, as those of a mock are; or only httpx knows how it is packed.
            stream, unpack = response.aiter_bytes(), None
        else:
            # What is not packed needs none of httpx's layers, which unpack what they are given in one turn.
            stream = response.stream if self._owns_clients else response.aiter_raw()
        async for part in stream:
            for piece in (part,) if unpack is None else unpack.feed(part):
                size += len(piece)
                if size > self._max_response_bytes:
                    return None
                parts.append(piece)
                if len(piece) == CHUNK_SIZE:
                    # There is more in this part than one turn of the loop should take.
                    await asyncio.sleep(0)
        if unpack is not None:
            unpack.finish()
        return b"".join(parts)


class _SharedClient:
    """The one client that a user gave, for all requests at once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @asynccontextmanager
    async def borrow(self, route: Hashable, *, once: bool) -> AsyncIterator[Any]:
        del route, once
        yield self._client

    async def aclose(self) -> None:
        await self._client.aclose()


def _as_httpx_takes_it(proxy: Proxy, context: ssl.SSLContext | None) -> httpx.Proxy:
    headers = None if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    return httpx.Proxy(
        proxy.address, headers=headers, ssl_context=context if proxy.address.startswith("https:") else None
    )


def _proxy_met(request: HttpRequest, progress: Progress | None) -> str | None:
    """Return host and port of what a connection was made to, if it was not the server."""
    if progress is None or progress.place is None:
        return None
    url = httpx.URL(request.url)
    if progress.place == (url.raw_host.decode(), url.port or _PORTS.get(url.scheme)):
        return None
    host, port = progress.place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_more(carrier: httpx.AsyncHTTPTransport) -> bool:
    """Return whether more bytes came than the answer has.

    httpx does not tell, so this reads its private parts, and a test tells if they move.
    """
    connections = carrier._pool.connections  # noqa: SLF001
    state = getattr(getattr(connections[0], "_connection", None), "_h11_state", None) if connections else None
    return state is not None and bool(state.trailing_data[0])


def _pool_size(client: object) -> int | None:
    """Return how many connections a client's pool holds.

    httpx does not tell, so this reads its private parts, and a test on both libraries tells if they move; where
    there is no pool (a transport for ASGI or a mock) there is no such number.
    """
    size = None if callable(client) else getattr(_pool_of(client), "_max_connections", None)
    return size if isinstance(size, int) and 0 < size < 1_000_000 else None  # noqa: PLR2004 - httpx: no limit


def _pool_of(client: object) -> object:
    return getattr(getattr(client, "_transport", None), "_pool", None)
