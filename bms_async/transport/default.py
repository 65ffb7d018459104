"""The transport of who names none."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import anyio

from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, ConfigurationError
from bms_async.wire import HttpRequest, HttpResponse

from ._aiohttp_version import check_version
from ._queue import PendingRequest, TransportStatistics
from .base import MAX_RESPONSE_BYTES, check_max_response_bytes

if TYPE_CHECKING:
    from .aiohttp import AiohttpTransport
    from .httpx import HttpxTransport

_log = logging.getLogger("bms_async.transport")


class DefaultTransport:
    """Carries requests over aiohttp where the extra ``speedups`` is installed, and else over httpx.

    An aiohttp that is there in a version that does not do is left alone, and a warning in the log says so.

    The library is imported when the transport is opened, in a thread: importing one takes longer than an event loop has
    time for, and a process needs but one.

    Args:
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the usual ones.
        max_response_bytes: How large an answer may be, once it is unpacked.

    Raises:
        ConfigurationError: There are to be less than 1 bytes.
    """

    def __init__(
        self, *, ca_bundle: str | os.PathLike[str] | None = None, max_response_bytes: int | None = None
    ) -> None:
        bound = MAX_RESPONSE_BYTES if max_response_bytes is None else max_response_bytes
        self._max_response_bytes = check_max_response_bytes("BmsClient", bound)
        self._ca_bundle = ca_bundle
        self._lock = anyio.Lock()
        self._transport: AiohttpTransport | HttpxTransport | None = None

    def __repr__(self) -> str:
        return "<DefaultTransport, not opened>" if self._transport is None else repr(self._transport)

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from one that such a task has started."""
        return self._transport is not None and self._transport.has_current_task

    async def open(self) -> None:
        """Open it, or count one more client of an open one.

        Raises:
            ClientClosedError: It was closed before; make a new one.
            ConfigurationError: `ca_bundle` cannot be read.
        """
        async with self._lock:
            if self._transport is None:
                self._transport = await self._make()
        await self._transport.open()

    async def _make(self) -> AiohttpTransport | HttpxTransport:
        fastest, trouble = await run_in_thread(_fastest_installed)
        if fastest is not None:
            try:
                made = fastest(ca_bundle=self._ca_bundle, max_response_bytes=self._max_response_bytes)
                await made.try_library()
            except ConfigurationError as error:
                trouble = str(error)
            else:
                return made
        if trouble is not None:
            _log.warning("requests are carried over httpx, which is slower: %s", trouble)
        kind = await run_in_thread(_find_other)
        return kind(ca_bundle=self._ca_bundle, max_response_bytes=self._max_response_bytes)

    async def aclose(self) -> None:
        """Count one client less; after the last one, end what is under way and close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Take a request and return at once; it is sent as soon as a connection is free."""
        if self._transport is None:
            raise ClientClosedError(f"{request.operation}: the transport is not open; use it inside `async with`")
        return self._transport.submit(request)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole answer.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The transport is not open, or was closed meanwhile.
        """
        return await self.submit(request).wait()

    def statistics(self) -> TransportStatistics:
        """Tell what is under way."""
        if self._transport is None:
            return TransportStatistics(max_connections=0, in_flight=0, queued=0, sent=0)
        return self._transport.statistics()


def _fastest_installed() -> tuple[type[AiohttpTransport] | None, str | None]:
    """Return the transport over aiohttp, and else why it cannot be used; neither where aiohttp is not installed."""
    from importlib import metadata  # noqa: PLC0415 - it takes long too

    try:
        # Asked before it is imported, which takes long.
        check_version(metadata.version("aiohttp"))
        from .aiohttp import AiohttpTransport  # noqa: PLC0415 - only when it is asked for, and there
    except metadata.PackageNotFoundError:
        return None, None
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == "aiohttp"
        told = str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
        return None, None if missing else told
    return AiohttpTransport, None


def _find_other() -> type[HttpxTransport]:
    from .httpx import HttpxTransport  # noqa: PLC0415

    return HttpxTransport
