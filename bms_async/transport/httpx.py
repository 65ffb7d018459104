"""Carrying requests with httpx, or with httpx2, which has the same names."""

from __future__ import annotations

import os
import sys
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread
import httpx

from bms_async._owner import finish
from bms_async.errors import AnswerTooLargeError, CallTimeoutError, ConfigurationError, TransportError
from bms_async.wire import HttpRequest, HttpResponse

from ._masking import mask_tokens
from ._queue import Flight, SendQueue, TransportStatistics, refuse_unsendable, within
from ._size import MAX_RESPONSE_BYTES, check_max_response_bytes
from ._trust import trust

if TYPE_CHECKING:
    import httpx2

_CONNECTIONS = 64
_LONGEST_CONNECT = 10.0
_SECRET_LENGTH = 8

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


class HttpxTransport:
    """Carries requests with an `httpx.AsyncClient`.

    It is opened and closed with the client that it is given to; shared by several, it closes with the last of them.
    Requests run in tasks of its own, so cancelling a caller leaves the connections whole.

    Args:
        client: What carries the requests, an `httpx.AsyncClient` or an `httpx2.AsyncClient`; it belongs to the
            transport from then on and is closed with it. Without one the transport makes its own, which verifies TLS
            and reads ``HTTPS_PROXY``, ``SSL_CERT_FILE`` and the like from the environment.
        connections: How many requests run at once at most. By default what the client's pool allows, or 64; never
            more than the pool allows.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the usual ones.
        max_response_bytes: How large an answer may be, once it is unpacked.

    Raises:
        ConfigurationError: There are to be less than 1 connections or bytes; or `ca_bundle` is given beside a client,
            which has certificates of its own.
    """

    def __init__(
        self,
        client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
        *,
        connections: int | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        mask_tokens()
        if client is not None and ca_bundle is not None:
            raise ConfigurationError("HttpxTransport(ca_bundle=...): a client has certificates of its own, its verify=")
        self._client: Any = client
        self._ca_bundle = ca_bundle
        self._max_response_bytes = check_max_response_bytes("HttpxTransport", max_response_bytes)
        self._making = anyio.Lock()
        if connections is not None and connections < 1:
            raise ConfigurationError(f"HttpxTransport(connections={connections!r}): at least 1 is needed")
        pool = _pool_size(client) if client is not None else None
        # More than the pool holds would queue in it, where a request that is given up leaves its place taken.
        connections = min(connections or pool or _CONNECTIONS, pool or sys.maxsize)
        self._connections = connections
        self._queue = SendQueue(self._exchange, connections=connections)

    def __repr__(self) -> str:
        state = "open" if self._queue.is_open else "closed"
        figures = self._queue.statistics()
        return f"<HttpxTransport {state}, {figures.in_flight} of {figures.connections} in flight>"

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one.

        Raises:
            ClientClosedError: It was closed before; make a new one.
            ConfigurationError: `ca_bundle` cannot be read.
        """
        async with self._making:
            if self._client is None and not self._queue.is_closed:
                # Reading the certificates takes tens of milliseconds, which the loop has no time for.
                self._client = await anyio.to_thread.run_sync(self._make_client)
        await self._queue.open()

    async def aclose(self) -> None:
        """Count one client less; after the last one, end what is under way and close the connections."""
        await finish(self._close())

    async def _close(self) -> None:
        await self._queue.aclose()
        if self._queue.is_closed and self._client is not None:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def submit(self, request: HttpRequest) -> Flight:
        """Take a request and return at once; it is sent as soon as a connection is free."""
        return self._queue.submit(request)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole answer.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The transport is not open, or was closed meanwhile.
        """
        return await self._queue.submit(request).wait()

    def statistics(self) -> TransportStatistics:
        """Tell what is under way."""
        return self._queue.statistics()

    def _make_client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
        # A gateway's cookie may be a session of one account, and clients of several may share this transport.
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        # What runs on this machine is not reached through a proxy, whatever NO_PROXY forgets to say.
        direct = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
        return httpx.AsyncClient(
            limits=limits,
            cookies=cookies,
            follow_redirects=False,
            mounts=direct,
            verify=True if self._ca_bundle is None else trust(self._ca_bundle),
        )

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        refuse_unsendable(request)
        connect = min(request.timeout, _LONGEST_CONNECT)
        # Connecting (name, TCP, TLS, a proxy before it) is bounded by httpx itself: cut from outside it would leak
        # its place in the pool. What is bounded from outside begins well after that can have ended.
        return await within(request, request.timeout + 3 * connect, self._carry(request, connect))

    async def _carry(self, request: HttpRequest, connect: float) -> HttpResponse:
        timeouts = {"connect": connect, "read": request.timeout, "write": request.timeout, "pool": None}
        failure: Exception | None = None
        try:
            response = await self._client.send(
                self._client.build_request(
                    request.method,
                    request.url,
                    headers=dict(request.headers),
                    content=request.body,
                    extensions={"timeout": timeouts},
                ),
                follow_redirects=False,
                stream=True,
            )
            try:
                body = await self._read_body(request, response)
            finally:
                await response.aclose()
        except AnswerTooLargeError:
            raise
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            failure = error
        if failure is not None:
            raise _describe(failure, request)
        return HttpResponse(status=response.status_code, headers=tuple(response.headers.multi_items()), body=body)

    async def _read_body(self, request: HttpRequest, response: httpx.Response) -> bytes:
        parts = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_response_bytes:
                raise AnswerTooLargeError(
                    limit=self._max_response_bytes, status=response.status_code, operation=request.operation
                )
            parts.append(part)
        return b"".join(parts)


def _describe(error: Exception, request: HttpRequest) -> TransportError:
    kind, text = type(error).__name__, str(error)
    # The libraries quote what they cannot read, and a strange server may well send back what it was sent.
    quoted = [value for value in request.headers.values() if len(value) >= _SECRET_LENGTH and value in text]
    for value in quoted:
        text = text.replace(value, "***")
    described = (CallTimeoutError if kind.endswith("Timeout") else TransportError)(
        f"{kind}: {text}" if text else kind,
        maybe_delivered=kind not in _NEVER_DELIVERED,
        operation=request.operation,
    )
    described.__cause__ = None if quoted else error
    return described


def _pool_size(client: httpx.AsyncClient | httpx2.AsyncClient) -> int | None:
    """Return how many connections a client's pool holds.

    httpx does not tell, so this reads its private parts, and a test on both libraries tells if they move; where
    there is no pool (a transport for ASGI or a mock) there is no such number.
    """
    pool = getattr(getattr(client, "_transport", None), "_pool", None)
    size = getattr(pool, "_max_connections", None)
    return size if isinstance(size, int) and 0 < size < 1_000_000 else None  # noqa: PLR2004 - httpx: no limit
