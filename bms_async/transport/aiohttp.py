"""The transport over a session of aiohttp that the application hands over (rule R3).

Only documented parts of aiohttp are used, so any release from 3.11 on will do.

The guarantee: a request is sent once, and an error says `maybe_delivered=False` only if aiohttp reported that it began
the request, and reported no connection for it. After no other transport error is a reboot sent again.

How: aiohttp repeats an idempotent request (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) by itself when its connection
breaks, and no setting prevents that. It never repeats a POST, as a reboot is. But it emits trace events, and a trace
hook may raise. So each request carries a `_Progress` as its trace context: the first connection marks it, and what
would send it a second time raises, which also stops a middleware of the session that repeats requests. Where the events
do not arrive, as under a mock, `maybe_delivered` is always True.

Rejected: the connector and the parser without the session, because both are private; a middleware for each request,
which aiohttp 3.11 lacks; and the type of an exception as the criterion, because a request whose connection cannot be
opened may have been sent on an earlier one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import ClientTimeout, TraceConfig
from multidict import CIMultiDict
from yarl import URL

from bms_async.errors import CallTimeoutError, ConfigurationError, ResponseTooLargeError, TransportError
from bms_async.wire import HttpRequest, HttpResponse, ResponseHeaders

from ._causes import keep_cause
from ._connect import describe_connect_failure, describe_proxy_refusal, describe_proxy_unreachable
from ._decompress import CHUNK_SIZE, make_decompressor
from ._http1 import check_headers, not_sent_error, split_url
from .base import MAX_RESPONSE_BYTES, QueuedTransport, check_max_response_bytes

_CONNECTIONS = 100
_CONNECT_TIMEOUT = 10.0
_NO_TIMEOUT = ClientTimeout(total=None)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
_NOT_ADDED = ("User-Agent", "Content-Type")
# A Keystone token alone may be larger than aiohttp's default of 8 KB.
_MAX_HEADER = 64 * 1024
# A larger body is passed on in pieces: aiohttp warns of one above 1 MB, and the pieces show how far it got.
_PIECE = 64 * 1024


class AiohttpTransport(QueuedTransport):
    """Sends requests over an `aiohttp.ClientSession` of the application, with its connector, proxy, TLS and resolver.

    ::

        AiohttpTransport(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50), trust_env=True))

    It works with any aiohttp from 3.11 on. The transport owns the session: it is opened and closed with the client that
    it is given to; shared by several, it closes with the last of them. Requests run in tasks of its own, so cancelling
    a caller breaks no connection. A request is sent once: that aiohttp sends a GET, HEAD, PUT or DELETE again when its
    connection breaks is prevented, and a POST it never sends again.

    What a session of aiohttp cannot promise, and the default transport of the extra ``speedups`` can:

    - Idle connections are the session's own. A request may go on one that the server is just closing; it then fails,
      and `maybe_delivered` is True although nothing was read. ``TCPConnector(keepalive_timeout=1)`` makes this rare,
      and ``force_close=True`` excludes it at the price of a connection for each request.
    - `maybe_delivered` is False only until there is a connection. A request that fails between then and its first byte
      counts as one that may have been delivered.
    - A response without a length that ends because its connection broke may pass for a complete one.
    - Errors name a proxy only where aiohttp's own do.
    - A connection is kept though the request had ``Connection: close``, unless the server closes it.
    - Connections are closed as aiohttp does it: one whose server has stopped reading stays open until that reads on or
      is gone, even after the transport was closed, and older releases wait until the server has ended TLS.
    - What a server sends behind a response, or as trailers, may be taken for a part of the next one.

    The session's default headers, ``raise_for_status``, ``timeout`` and ``auto_decompress`` are not used, nor are
    cookies: its jar is emptied with each request, for clients with other credentials may share the transport. Its trace
    hooks and middlewares act on each request and see the headers with their secrets. With ``trust_env``, newer releases
    of aiohttp send what a netrc file has for the server, and then refuse a request that is signed with an access key.

    Args:
        session: The session. The transport owns and closes it.
        connections: The maximum number of requests in flight. By default the limit of the session's connector, or 100;
            never more than that limit.
        max_response_bytes: The size limit of a response, in bytes after decompression.

    Raises:
        ConfigurationError: `session` is not an open session of aiohttp, or has an ``auth``, which would go to the
            cloud; or `connections` or `max_response_bytes` is less than 1.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        connections: int | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        if not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(
                f"AiohttpTransport(session=...): expected an aiohttp.ClientSession, got {type(session).__name__}"
            )
        if session.closed:
            raise ConfigurationError("AiohttpTransport(session=...): expected an open session, got a closed one")
        # The attribute will go, together with what it stands for.
        if getattr(session, "auth", None) is not None:
            raise ConfigurationError(
                "AiohttpTransport(session=...): expected a session without auth; the client authenticates itself"
            )
        if connections is not None and connections < 1:
            raise ConfigurationError(f"AiohttpTransport(connections={connections!r}): expected at least 1")
        self._session = session
        self._max_response_bytes = check_max_response_bytes("AiohttpTransport", max_response_bytes)
        pool = _pool_size(session.connector)
        # More requests would queue in the connector.
        super().__init__(connections=min(connections or pool or _CONNECTIONS, pool or sys.maxsize))
        self._addresses: dict[tuple[str, str], str] = {}
        if _TRACE not in session.trace_configs:
            session.trace_configs.append(_TRACE)

    async def _load_files(self) -> None:
        """Do nothing: the session has its certificates."""

    async def _close_connections(self) -> None:
        await self._session.close()

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        url = self._url_of(request)
        check_headers(request)
        deadline = asyncio.timeout(request.timeout)
        progress = _Progress(request, deadline)
        failure: Exception
        try:
            async with deadline:
                return await self._exchange_once(request, url, progress)
        except ResponseTooLargeError as error:
            # Its frames hold the response.
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - errors of the library, of sockets and of the session's hooks
            failure = _to_transport_error(error, request, progress)
        try:
            raise failure
        finally:
            # Break the reference cycle: its traceback has this frame.
            del failure

    async def _exchange_once(self, request: HttpRequest, url: URL, progress: _Progress) -> HttpResponse:
        body = request.body or None
        response = await self._session.request(
            request.method,
            url,
            data=body if body is None or len(body) <= _PIECE else _in_pieces(body, progress),
            headers=progress.headers,
            skip_auto_headers=_NOT_ADDED,
            allow_redirects=False,
            raise_for_status=False,
            # aiohttp would decompress a part at once, however large it becomes.
            auto_decompress=False,
            timeout=_NO_TIMEOUT,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            trace_request_ctx=progress,
        )
        try:
            data = await _read_body(response, self._max_response_bytes)
        except BaseException:
            _abort(response)
            raise
        if data is None:
            _abort(response)
            raise ResponseTooLargeError(
                limit=self._max_response_bytes, status=response.status, operation=request.operation
            )
        return HttpResponse(status=response.status, headers=ResponseHeaders(response.headers.items()), body=data)

    def _url_of(self, request: HttpRequest) -> URL:
        """Return the URL of a request as it was given: decoding and encoding it would break a signature."""
        scheme, netloc, target = split_url(request)
        address = self._addresses.get((scheme, netloc))
        if address is None:
            try:
                url = URL(f"{scheme}://{netloc}")
            except ValueError:
                raise not_sent_error(request, "InvalidURL: the URL has an invalid host or port") from None
            if not url.raw_host or url.raw_user or url.raw_password:
                raise not_sent_error(request, "InvalidURL: expected a URL with a host and without a user name")
            address = self._addresses.setdefault((scheme, netloc), f"{scheme}://{url.host_port_subcomponent}")
        return URL(address + target, encoded=True)


class _SentBeforeError(Exception):
    """The session was about to send a request for the second time."""


class _Progress:
    """How far a request got, from aiohttp's trace events.

    Args:
        request: The request.
        deadline: The scope of the exchange; its deadline is moved where there is a wait for a connection.

    Attributes:
        headers: The headers to send.
        began: Whether the events of the request arrive.
        connected: Whether it was given a connection.
        sent: Whether sending it had begun.
        waited: Whether it waited for a connection.
        uploading: Whether a part of its body was not yet asked for.
    """

    __slots__ = ("began", "connected", "deadline", "headers", "request", "sent", "uploading", "waited")

    def __init__(self, request: HttpRequest, deadline: asyncio.Timeout) -> None:
        self.deadline = deadline
        self.request = request
        self.headers = CIMultiDict(request.headers)
        for name, value in _HEADERS.items():
            self.headers.setdefault(name, value)
        if len(request.body) > _PIECE:
            self.headers.setdefault("Content-Length", str(len(request.body)))
        self.began = self.waited = self.connected = self.sent = self.uploading = False

    @property
    def maybe_delivered(self) -> bool:
        """Whether it is not proved that nothing was sent."""
        return self.connected or not self.began

    def move_deadline(self, seconds: float) -> None:
        """Let the rest of the exchange end in so many seconds."""
        self.deadline.reschedule(asyncio.get_running_loop().time() + seconds)


async def _on_request_start(
    session: aiohttp.ClientSession, progress: object, parameters: aiohttp.TraceRequestStartParams
) -> None:
    if isinstance(progress, _Progress):
        progress.began = True
        for name in session.headers:
            # The session's default headers may be meant for another server, and secret.
            if name not in progress.headers:
                parameters.headers.popall(name, None)
        session.cookie_jar.clear()


async def _on_request_end(session: aiohttp.ClientSession, progress: object, parameters: object) -> None:
    del parameters
    if isinstance(progress, _Progress):
        session.cookie_jar.clear()


async def _on_waiting(session: object, progress: object, parameters: object) -> None:
    del session, parameters
    if isinstance(progress, _Progress):
        if progress.connected:
            raise _SentBeforeError
        progress.waited = True
        progress.move_deadline(_connect_timeout(progress.request))


async def _on_connected(session: object, progress: object, parameters: object) -> None:
    del session, parameters
    # Raising because of a second connection would leak one of the pool, so that waits until its headers are due.
    if isinstance(progress, _Progress) and not progress.connected:
        progress.connected = True
        if progress.waited:
            progress.move_deadline(progress.request.timeout)


async def _on_request_headers_sent(session: object, progress: object, parameters: object) -> None:
    """Count the attempts; in spite of its name, aiohttp emits the event right before it writes the headers."""
    del session, parameters
    if isinstance(progress, _Progress):
        if progress.sent:
            raise _SentBeforeError
        progress.sent = True


def _make_trace() -> TraceConfig:
    """Make the hooks for all sessions; requests that are not ours have another context, and are left alone."""
    trace = TraceConfig(lambda trace_request_ctx=None: trace_request_ctx)  # type: ignore[arg-type]
    trace.on_request_start.append(_on_request_start)
    trace.on_request_end.append(_on_request_end)
    trace.on_connection_queued_start.append(_on_waiting)
    trace.on_connection_create_start.append(_on_waiting)
    trace.on_connection_create_end.append(_on_connected)
    trace.on_connection_reuseconn.append(_on_connected)
    trace.on_request_headers_sent.append(_on_request_headers_sent)
    # A session does this with those that it is made with.
    trace.freeze()
    return trace


_TRACE = _make_trace()


async def _in_pieces(body: bytes, progress: _Progress) -> AsyncIterator[bytes]:
    progress.uploading = True
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
    progress.uploading = False


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """Return a whole body; None if it is larger than `max_bytes`."""
    if response.method != "HEAD" and (response.content_length or 0) > max_bytes:
        return None
    parts: list[bytes] = []
    size = 0
    decompressor = make_decompressor(response.headers.get("Content-Encoding"))
    while part := await response.content.readany():
        for chunk in (part,) if decompressor is None else decompressor.feed(part):
            size += len(chunk)
            if size > max_bytes:
                return None
            parts.append(chunk)
            if len(chunk) == CHUNK_SIZE:
                # This part has more chunks; let other tasks run in between.
                await asyncio.sleep(0)
    if decompressor is not None:
        decompressor.finish()
    return b"".join(parts)


def _abort(response: aiohttp.ClientResponse) -> None:
    """Close the connection of a response at once, without waiting for the end of TLS."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _connect_timeout(request: HttpRequest) -> float:
    return min(request.timeout, _CONNECT_TIMEOUT)


def _to_transport_error(error: Exception, request: HttpRequest, progress: _Progress) -> TransportError:
    """Return the error of a failed request; it quotes nothing from the server, which may echo the request."""
    if isinstance(error, TimeoutError):
        return CallTimeoutError(
            _describe_timeout(request, progress), maybe_delivered=progress.maybe_delivered, operation=request.operation
        )
    cause = _cause_of(error)
    text = _describe_failure(error) if progress.connected else _describe_no_connection(error, request)
    failure = TransportError(text, maybe_delivered=progress.maybe_delivered, operation=request.operation)
    # Only what the system says: aiohttp's own errors hold its view of the request.
    if isinstance(cause, OSError) and not isinstance(cause, aiohttp.ClientError):
        failure.__cause__ = keep_cause(cause, request, written=True)
    return failure


def _cause_of(error: Exception) -> Exception:
    """Return the system's error where aiohttp wrapped one."""
    cause = error.__cause__ if isinstance(error, aiohttp.ClientOSError) else None
    return cause if isinstance(cause, Exception) else error


def _describe_timeout(request: HttpRequest, progress: _Progress) -> str:
    if progress.began and not progress.connected:
        seconds = _connect_timeout(request)
        return describe_connect_failure(request, f"ConnectTimeout: no connection within {seconds:g} s")
    kind = "WriteTimeout" if progress.uploading else "ReadTimeout"
    return f"{kind}: no complete response within {request.timeout:g} s"


def _describe_no_connection(error: Exception, request: HttpRequest) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        proxy = error.request_info.real_url
        known = proxy.host_port_subcomponent if proxy.host != URL(request.url).host else None
        return describe_proxy_refusal(request, error.status, known or "of the session")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        host = f"[{error.host}]" if ":" in error.host else error.host
        return describe_proxy_unreachable(request, str(_cause_of(error)), f"{host}:{error.port}")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = _cause_of(error)
        return describe_connect_failure(request, f"ConnectError: {str(cause) or type(cause).__name__}")
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientResponseError):
        # A failure after connecting to the proxy and before the server is one of CONNECT.
        return describe_proxy_refusal(request, None, "of the session")
    return describe_connect_failure(request, f"{type(error).__name__} while connecting")


def _describe_failure(error: Exception) -> str:
    if isinstance(error, _SentBeforeError | aiohttp.ServerDisconnectedError):
        return "RemoteProtocolError: the server closed the connection without a complete response"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "RemoteProtocolError: the response body is incomplete or malformed"
    if isinstance(error, aiohttp.ClientResponseError):
        return "RemoteProtocolError: the response is not HTTP"
    if isinstance(error, zlib.error):
        return "DecodingError: the response body is not encoded as its headers say"
    if isinstance(error, OSError):
        return f"ReadError: {type(error).__name__ if error.errno is None else os.strerror(error.errno)}"
    return f"{type(error).__name__} while sending"


def _pool_size(connector: aiohttp.BaseConnector | None) -> int | None:
    sizes = [] if connector is None else [connector.limit, connector.limit_per_host]
    return min((size for size in sizes if size), default=None)
