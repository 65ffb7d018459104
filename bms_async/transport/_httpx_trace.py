"""How far a request got, from httpcore's public trace events (rule R3).

The name of an exception says where a library failed. For `maybe_delivered` it matters whether sending had begun: before
that nothing of the request can have arrived, and after it all of it may have.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Protocol, TypeVar, cast

from bms_async.wire import HttpRequest

from ._log_filter import MIN_SECRET_LENGTH, mask_exception, mask_headers

C = TypeVar("C")

_LOGGERS = {
    part: (logging.getLogger(f"httpcore.{part}"), logging.getLogger(f"httpcore2.{part}"))
    for part in ("connection", "http11", "http2", "proxy", "socks")
}

_PHRASES = frozenset(status.phrase.encode() for status in HTTPStatus)


class Deadline(Protocol):
    """A scope that ends at a deadline, by the loop's clock."""

    deadline: float


class Progress:
    """Follows one request through httpcore or httpcore2, as the ``trace`` in the request's extensions.

    Through a proxy the CONNECT request is traced too. It is recognised by its method, and does not count as sent.

    Args:
        request: The request.
        deadline: The scope of the exchange; its deadline is set when the connection is open.
        timeouts: The libraries' timeouts of each step, which differ for CONNECT.

    Attributes:
        began: Whether anything was traced; without a connection pool nothing is.
        sent: Whether sending of the request had begun.
        written: Whether it was sent to its last byte.
        connect_sent: Whether a CONNECT request was sent to a proxy.
        responded: Whether the head of a response was received.
        peer: Host and port that were connected to; None if a connection was open already.
        in_handshake: The stream of a connection whose TLS handshake has not ended; None otherwise.
    """

    __slots__ = (
        "_deadline",
        "_request",
        "_timeouts",
        "began",
        "connect_sent",
        "in_handshake",
        "peer",
        "responded",
        "sent",
        "written",
    )

    def __init__(self, request: HttpRequest, deadline: Deadline, timeouts: dict[str, float | None]) -> None:
        self._request = request
        self._deadline = deadline
        self._timeouts = timeouts
        self.began = self.sent = self.written = self.connect_sent = self.responded = False
        self.peer: tuple[str, int] | None = None
        self.in_handshake: Any = None

    async def __call__(self, name: str, info: dict[str, Any]) -> None:
        self.began = True
        part, _, event = name.partition(".")
        if event == "send_request_headers.started":
            self._on_send_started(info)
        elif event == "send_request_body.complete":
            self.written = self.sent
        elif event == "receive_response_headers.complete":
            self.responded = True
            self._mask(part, info)
        elif event == "connect_tcp.started":
            self.peer = (info["host"], info["port"])
        elif event == "connect_tcp.complete":
            self.in_handshake = info["return_value"]
        elif event == "start_tls.complete":
            self.in_handshake = None
        elif "exception" in info:
            self._mask(part, info)

    def _mask(self, part: str, info: dict[str, Any]) -> None:
        """Mask secrets in the dictionary that httpcore logs after this call."""
        if any(logger.isEnabledFor(logging.DEBUG) for logger in _LOGGERS.get(part, ())):
            if "return_value" in info:
                info["return_value"] = mask_headers(info["return_value"], self._request)
            if "exception" in info:
                info["exception"] = mask_exception(info["exception"], self._request)

    def masked(self, text: bytes) -> bytes:
        """Return a text of the response's head with the secrets of the request masked."""
        return cast("bytes", mask_headers(text, self._request))

    def _on_send_started(self, info: dict[str, Any]) -> None:
        if info["request"].method == b"CONNECT" != self._request.method.encode():
            self.connect_sent = True
            # CONNECT is part of connecting.
            self._timeouts["read"] = self._timeouts["write"] = self._timeouts["connect"]
            return
        self.sent = True
        self._timeouts["read"] = self._timeouts["write"] = self._request.timeout
        self._deadline.deadline = asyncio.get_running_loop().time() + self._request.timeout


def mask_reason_phrases(client: C) -> C:
    """Mask a request's secrets in the reason phrases of a client's responses, which httpx logs at INFO.

    There is no public hook between the response and that log, so this wraps the client's transports in place. Requests
    that are not ours, and clients without these attributes, are left alone; a test fails if the attributes move.
    """
    own, mounts = getattr(client, "_transport", None), getattr(client, "_mounts", None)
    if hasattr(own, "handle_async_request"):
        client._transport = _ReasonMaskingTransport(own)  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(mounts, dict):
        mounts.update(
            {pattern: _ReasonMaskingTransport(inner) for pattern, inner in mounts.items() if inner is not None}
        )
    return client


class _ReasonMaskingTransport:
    """A transport of httpx or httpx2 that masks the reason phrases of responses to our requests."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def handle_async_request(self, request: Any) -> Any:
        response = await self._inner.handle_async_request(request)
        progress = request.extensions.get("trace")
        if isinstance(progress, Progress) and _is_nonstandard(reason := response.extensions.get("reason_phrase", b"")):
            response.extensions["reason_phrase"] = progress.masked(reason)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)


def _is_nonstandard(reason: bytes) -> bool:
    return len(reason) >= MIN_SECRET_LENGTH and reason not in _PHRASES
