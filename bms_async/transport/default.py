"""The transport a client uses when none is given."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import anyio

from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, ConfigurationError
from bms_async.wire import HttpRequest, HttpResponse

from ._pending import PendingRequest
from ._queue import TransportStatistics
from .base import MAX_RESPONSE_BYTES, check_max_response_bytes

if TYPE_CHECKING:
    from .http1 import Http1Transport
    from .httpx import HttpxTransport

_log = logging.getLogger("bms_async.transport")


class DefaultTransport:
    """Sends requests over connections of its own if the extra ``speedups`` is installed, else over httpx.

    The extra brings the parser, httptools. One that is too old or broken is not used, and a warning in the log says so.

    The library is imported in a thread when the transport is opened: an import would block the event loop for too long,
    and a process needs only one of the two.

    Args:
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the default ones.
        max_response_bytes: The size limit of a response, in bytes after decompression.

    Raises:
        ConfigurationError: `max_response_bytes` is less than 1.
    """

    def __init__(
        self, *, ca_bundle: str | os.PathLike[str] | None = None, max_response_bytes: int | None = None
    ) -> None:
        limit = MAX_RESPONSE_BYTES if max_response_bytes is None else max_response_bytes
        self._max_response_bytes = check_max_response_bytes("BmsClient", limit)
        self._ca_bundle = ca_bundle
        self._lock = anyio.Lock()
        self._transport: Http1Transport | HttpxTransport | None = None

    def __repr__(self) -> str:
        return "<DefaultTransport, not opened>" if self._transport is None else repr(self._transport)

    @property
    def has_current_task(self) -> bool:
        """Whether the caller runs in one of its tasks, or in one that such a task has started."""
        return self._transport is not None and self._transport.has_current_task

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one.

        Raises:
            ClientClosedError: It was closed before; make a new one.
            ConfigurationError: `ca_bundle` cannot be read.
        """
        async with self._lock:
            if self._transport is None:
                self._transport = await self._make()
        await self._transport.open()

    async def _make(self) -> Http1Transport | HttpxTransport:
        http1_transport, problem = await run_in_thread(_import_http1_transport)
        if http1_transport is not None:
            return http1_transport(ca_bundle=self._ca_bundle, max_response_bytes=self._max_response_bytes)
        if problem is not None:
            _log.warning("using httpx, which is slower than httptools: %s", problem)
        httpx_transport = await run_in_thread(_import_httpx_transport)
        return httpx_transport(ca_bundle=self._ca_bundle, max_response_bytes=self._max_response_bytes)

    async def aclose(self) -> None:
        """Count one client less; after the last one, end all requests and close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Queue a request and return at once; it is sent as soon as a connection is free."""
        if self._transport is None:
            raise ClientClosedError(f"{request.operation}: the transport is not open; use it inside `async with`")
        return self._transport.submit(request)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole response.

        Raises:
            TransportError: No response arrived.
            ClientClosedError: The transport is not open, or was closed before a response arrived.
        """
        return await self.submit(request).wait()

    def statistics(self) -> TransportStatistics:
        """Return the current load."""
        if self._transport is None:
            return TransportStatistics(max_connections=0, in_flight=0, queued=0, sent=0)
        return self._transport.statistics()


def _import_http1_transport() -> tuple[type[Http1Transport] | None, str | None]:
    """Return our own transport, or why it cannot be used; neither if httptools is not installed."""
    try:
        from ._parser import try_parser  # noqa: PLC0415 - only where the parser is installed
        from .http1 import Http1Transport  # noqa: PLC0415 - likewise

        try_parser()
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == "httptools":
            return None, None
        return None, str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
    return Http1Transport, None


def _import_httpx_transport() -> type[HttpxTransport]:
    from .httpx import HttpxTransport  # noqa: PLC0415

    return HttpxTransport
