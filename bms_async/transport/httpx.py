"""Carrying requests with httpx, or with httpx2, which has the same names."""

from __future__ import annotations

import functools
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
import anyio.to_thread
import httpx

from bms_async.errors import AnswerTooLargeError, CallTimeoutError, ConfigurationError, TransportError
from bms_async.redaction import mask
from bms_async.wire import HttpRequest, HttpResponse

from ._carriers import Carriers
from ._head import split_url
from ._idle import REPEATABLE
from ._masking import mask_logs, masking, secrets_of
from ._proxies import proxy_from_environment
from ._queue import refuse_unsendable, within
from ._queued import QueuedTransport
from ._reach import tell_unreachable
from ._size import MAX_RESPONSE_BYTES, check_max_response_bytes
from ._trust import trust

if TYPE_CHECKING:
    import httpx2

Client: TypeAlias = "httpx.AsyncClient | httpx2.AsyncClient"

_CONNECTIONS = 64
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1)
_LONGEST_CONNECT = 10.0
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}

# By name, because httpx2 raises classes of its own with the names of httpx. Whatever is not named here may have
# been delivered: also a write that failed, for the other side may have read it all before it went away.
_NEVER_DELIVERED = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "InvalidURL",
        "LocalProtocolError",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
    }
)
_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout"})


class HttpxTransport(QueuedTransport):
    """Carries requests with httpx, each connection in a pool of its own.

    A pool of httpx looks at all of its connections for every request, which makes many of them slow; a pool of one has
    nothing to look at. The transport is opened and closed with the client that it is given to; shared by several, it
    closes with the last of them. Requests run in tasks of its own, so cancelling a caller leaves the connections whole.
    What is not a GET or HEAD goes on a connection that was in use within the last second, or on a new one: a server may
    be closing one that was idle.

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
        mask_logs()
        if client is not None and ca_bundle is not None:
            raise ConfigurationError("HttpxTransport(ca_bundle=...): a client has certificates of its own, its verify=")
        if connections is not None and connections < 1:
            raise ConfigurationError(f"HttpxTransport(connections={connections!r}): at least 1 is needed")
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("HttpxTransport", max_response_bytes)
        self._trust: ssl.SSLContext | None = None
        pool = _pool_size(client)
        # More than the pool holds would queue in it, where a request that is given up leaves its place taken.
        connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        super().__init__(connections=connections)
        self._proxies: dict[Hashable, httpx.Proxy | None] = {}
        self._is_ours = client is None
        self._carriers: Carriers[Any] | _Shared
        if client is None:
            self._carriers = Carriers(self._make_pool, most=connections)
        # A client cannot be called, and whatever can be called makes clients.
        elif callable(client):
            # In a thread, for making one may read certificates.
            make = functools.partial(anyio.to_thread.run_sync, client)
            self._carriers = Carriers(lambda _: make(), most=connections)
        else:
            self._carriers = _Shared(client)

    async def _prepare(self) -> None:
        if self._is_ours and self._trust is None:
            # Reading the certificates takes tens of milliseconds, which the loop has no time for.
            self._trust = await anyio.to_thread.run_sync(self._find_trust)

    async def _close_connections(self) -> None:
        await self._carriers.aclose()

    def _find_trust(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context() if self._ca_bundle is None else trust(self._ca_bundle)
        # The first transport imports what httpx is built on, for which the loop has no time either.
        httpx.AsyncHTTPTransport(verify=context)
        return context

    async def _make_pool(self, way: Hashable) -> httpx.AsyncHTTPTransport:
        """Make a connection's pool, without a client around it: that would keep cookies, and costs a tenth more."""
        if way not in self._proxies:
            url = httpx.URL(str(way))
            named = await anyio.to_thread.run_sync(proxy_from_environment, url.scheme, url.host, url.port)
            self._proxies[way] = None if named is None else httpx.Proxy(named)
        return httpx.AsyncHTTPTransport(
            verify=self._trust or True, trust_env=False, limits=_ONE_CONNECTION, proxy=self._proxies[way]
        )

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        refuse_unsendable(request)
        connect = min(request.timeout, _LONGEST_CONNECT)
        # Connecting (name, TCP, TLS, a proxy before it) is bounded by httpx itself: cut from outside it would leak
        # its place in a given client's pool. What is bounded from outside begins well after that can have ended.
        with masking(request):
            return await within(request, request.timeout + 3 * connect, self._carry(request, connect))

    async def _carry(self, request: HttpRequest, connect: float) -> HttpResponse:
        timeouts = {"connect": connect, "read": request.timeout, "write": request.timeout, "pool": None}
        failure: Exception | None = None
        handed_over = False
        try:
            way = "://".join(split_url(request)[:2]) if self._is_ours else None
            async with self._carriers.borrow(way, once=request.method not in REPEATABLE) as carrier:
                built = self._build(carrier, request, {"timeout": timeouts})
                handed_over = True
                response = await self._begin(carrier, built)
                try:
                    body = await self._read_body(request, response)
                finally:
                    await response.aclose()
                if self._is_ours and _has_more(carrier):
                    # Nobody asked for what came after the answer, and the next request must not get it for its own.
                    await carrier.aclose()
        except (AnswerTooLargeError, TransportError):
            raise
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            failure = error
        if failure is not None:
            raise _describe(failure, request, handed_over=handed_over)
        return HttpResponse(status=response.status_code, headers=tuple(response.headers.multi_items()), body=body)

    def _build(self, carrier: Any, request: HttpRequest, extensions: dict[str, Any]) -> httpx.Request:
        headers = dict(request.headers)
        make = httpx.Request if self._is_ours else carrier.build_request
        if self._is_ours:
            given = {name.lower() for name in headers}
            headers |= {name: value for name, value in _HEADERS.items() if name.lower() not in given}
        built = make(request.method, request.url, headers=headers, content=request.body, extensions=extensions)
        return cast("httpx.Request", built)

    async def _begin(self, carrier: Any, built: httpx.Request) -> httpx.Response:
        if self._is_ours:
            return cast("httpx.Response", await carrier.handle_async_request(built))
        return cast("httpx.Response", await carrier.send(built, follow_redirects=False, stream=True))

    async def _read_body(self, request: HttpRequest, response: httpx.Response) -> bytes:
        parts = []
        size = 0
        # What is not packed needs none of the layers that unpack.
        plain = self._is_ours and "content-encoding" not in response.headers
        stream: Any = response.stream if plain else response.aiter_bytes()
        async for part in stream:
            size += len(part)
            if size > self._max_response_bytes:
                raise AnswerTooLargeError(
                    limit=self._max_response_bytes, status=response.status_code, operation=request.operation
                )
            parts.append(part)
        return b"".join(parts)


class _Shared:
    """The one client that a user gave, for all requests at once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @asynccontextmanager
    async def borrow(self, way: Hashable, *, once: bool) -> AsyncIterator[Any]:
        del way, once
        yield self._client

    async def aclose(self) -> None:
        await self._client.aclose()


def _describe(error: Exception, request: HttpRequest, *, handed_over: bool) -> TransportError:
    kind, text = type(error).__name__, str(error)
    # The libraries quote what they cannot read, and a strange server may well send back what it was sent.
    masked = mask(text, *secrets_of(request)) if text else text
    quoted, text = masked != text, masked
    if getattr(error, "_request", None) is not None:
        # It has the headers in it, and whoever keeps or pickles the error keeps them.
        error._request = None  # type: ignore[attr-defined]  # noqa: SLF001 - both libraries have it, and no setter
    told = f"{kind}: {text}" if text else kind
    described = (CallTimeoutError if kind.endswith("Timeout") else TransportError)(
        tell_unreachable(request, told) if kind in _NO_CONNECTION else told,
        maybe_delivered=handed_over and kind not in _NEVER_DELIVERED,
        operation=request.operation,
    )
    described.__cause__ = None if quoted else error
    return described


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
    pool = None if callable(client) else getattr(getattr(client, "_transport", None), "_pool", None)
    size = getattr(pool, "_max_connections", None)
    return size if isinstance(size, int) and 0 < size < 1_000_000 else None  # noqa: PLR2004 - httpx: no limit
