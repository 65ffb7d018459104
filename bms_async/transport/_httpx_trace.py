"""How far a request got, as httpcore's public trace tells it.

What an exception is called says what a library thinks. What matters is whether the request had begun to leave: before
that nothing can have arrived, and after it everything may have.
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
    """Something that ends when a moment has come, by the loop's clock."""

    deadline: float


class Progress:
    """Follows one request through httpcore or httpcore2; it is the ``trace`` among a request's extensions.

    Through a proxy the request for a tunnel is traced too. It is told apart by its method, and does not count.

    Args:
        request: The request.
        deadline: What ends the exchange; it is set when the connection is there.
        timeouts: What the libraries wait for at each step, which is another thing for a tunnel.

    Attributes:
        began: Whether anything was traced at all; without a pool below nothing is.
        sent: Whether the request had begun to leave.
        written: Whether it had left to its last byte.
        asked: Whether a proxy was asked to lead to the server.
        answered: Whether it has answered.
        place: Host and port that a connection was made to; None where one was there already.
    """

    __slots__ = ("_deadline", "_request", "_timeouts", "answered", "asked", "began", "place", "sent", "written")

    def __init__(self, request: HttpRequest, deadline: Deadline, timeouts: dict[str, float | None]) -> None:
        self._request = request
        self._deadline = deadline
        self._timeouts = timeouts
        self.began = self.sent = self.written = self.asked = self.answered = False
        self.place: tuple[str, int] | None = None

    async def __call__(self, name: str, info: dict[str, Any]) -> None:
        self.began = True
        part, _, event = name.partition(".")
        if event == "send_request_headers.started":
            self._begin(info)
        elif event == "send_request_body.complete":
            self.written = self.sent
        elif event == "receive_response_headers.complete":
            self.answered = True
            self._mask(part, info)
        elif event == "connect_tcp.started":
            self.place = (info["host"], info["port"])
        elif "exception" in info:
            self._mask(part, info)

    def _mask(self, part: str, info: dict[str, Any]) -> None:
        """Take secrets out of what httpcore logs when this has returned, out of the same dictionary."""
        if any(each.isEnabledFor(logging.DEBUG) for each in _LOGGERS.get(part, ())):
            if "return_value" in info:
                info["return_value"] = mask_headers(info["return_value"], self._request)
            if "exception" in info:
                info["exception"] = mask_exception(info["exception"], self._request)

    def masked(self, text: bytes) -> bytes:
        """Return a text of the answer's head without the secrets of the request."""
        return cast("bytes", mask_headers(text, self._request))

    def _begin(self, info: dict[str, Any]) -> None:
        if info["request"].method == b"CONNECT" != self._request.method.encode():
            self.asked = True
            # A tunnel is a part of connecting.
            self._timeouts["read"] = self._timeouts["write"] = self._timeouts["connect"]
            return
        self.sent = True
        self._timeouts["read"] = self._timeouts["write"] = self._request.timeout
        self._deadline.deadline = asyncio.get_running_loop().time() + self._request.timeout


def quiet(client: C) -> C:
    """Have a given client's answers show no secret of a request in their status text, which httpx logs at INFO.

    Nothing public lies between the answer and that log, so this wraps a client's transports in place. Requests of
    others than us, and clients without such parts, stay as they are; a test tells if the parts move.
    """
    own, mounts = getattr(client, "_transport", None), getattr(client, "_mounts", None)
    if hasattr(own, "handle_async_request"):
        client._transport = _Quiet(own)  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(mounts, dict):
        mounts.update({where: _Quiet(each) for where, each in mounts.items() if each is not None})
    return client


class _Quiet:
    """A transport of httpx or httpx2, as it was but for the status text of answers to us."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def handle_async_request(self, request: Any) -> Any:
        response = await self._inner.handle_async_request(request)
        progress = request.extensions.get("trace")
        if isinstance(progress, Progress) and _is_odd(reason := response.extensions.get("reason_phrase", b"")):
            response.extensions["reason_phrase"] = progress.masked(reason)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)


def _is_odd(reason: bytes) -> bool:
    return len(reason) >= MIN_SECRET_LENGTH and reason not in _PHRASES
