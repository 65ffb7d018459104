"""The transport over connections of its own, with the parser of httptools."""

from __future__ import annotations

import os

from bms_async.errors import ConfigurationError

from ._connector import Connector
from ._http1_queue import Http1Queue
from ._parser import try_parser
from .base import MAX_RESPONSE_BYTES, OwnedTransport, check_max_response_bytes

_CONNECTIONS = 100
_KEEP_ALIVE = 15.0


class Http1Transport(OwnedTransport):
    """Sends requests in HTTP/1.1 over connections of its own; it needs the extra ``speedups``.

    It is opened and closed with the client that it is given to; shared by several, it closes with the last of them.
    Requests do not run in their callers' tasks, so cancelling a caller breaks no connection. TLS is verified;
    ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` and the like are read from the environment.

    A request is written once, to one connection, and never again. If a kept connection breaks before a byte of the
    response has arrived, nothing proves that the server had not read the request. So the error says `maybe_delivered`,
    and the caller decides whether to repeat the call. Two bounds make this rare: an idle connection is closed after
    `keep_alive` seconds, or sooner if the server announces less; and a request other than GET or HEAD uses a connection
    that was in use within the last second, or a new one.

    Args:
        connections: The maximum number of requests in flight.
        ca_bundle: A file of certificates in PEM form, or a folder of them, that TLS trusts instead of the default ones.
        max_response_bytes: The size limit of a response, in bytes after decompression.
        keep_alive: Seconds after which an idle connection is closed.

    Raises:
        ConfigurationError: `connections` or `max_response_bytes` is less than 1, or `keep_alive` is not above 0; or the
            installed httptools is too old or broken.
    """

    _queue: Http1Queue

    def __init__(
        self,
        *,
        connections: int = _CONNECTIONS,
        ca_bundle: str | os.PathLike[str] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        keep_alive: float = _KEEP_ALIVE,
    ) -> None:
        try_parser()
        if connections < 1:
            raise ConfigurationError(f"Http1Transport(connections={connections!r}): expected at least 1")
        if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or not keep_alive > 0:
            raise ConfigurationError(f"Http1Transport(keep_alive={keep_alive!r}): expected a number of seconds above 0")
        self._connector = Connector(ca_bundle)
        super().__init__(
            Http1Queue(
                self._connector,
                connections=connections,
                keep_alive=keep_alive,
                max_response_bytes=check_max_response_bytes("Http1Transport", max_response_bytes),
            )
        )

    async def _load_files(self) -> None:
        await self._connector.load_certificates()

    async def _close_connections(self) -> None:
        await self._queue.close_connections()
        self._connector.forget()
