"""One connection of HTTP/1.1, and the exchanges on it, one after another (rules R3, R5).

The guarantee: an error says `maybe_delivered=False` only if nothing of the request was handed to the socket. After no
other transport error is a reboot sent again, and so it reaches a server at most once per request for it. Nothing that
was sent or received is quoted in an error, and no error that quotes it is kept as a cause.

How: a request is written once to a connection that is open. From then on it may have been delivered, whatever happens:
if a kept connection breaks before a byte of the response has arrived, nothing can prove that the server had not read
the request. The response is parsed where it arrives, and resolves the request there, without a task of its own. A
connection has one timer, which is set for the first request and moves itself on when it fires early: most requests are
answered long before.

A request of more than 64 KiB is written in pieces, as fast as they are taken. TLS would encrypt all of it at once,
which holds the loop for too long, and hand it to the layer below, whose buffer it does not count. So what is not yet
written is what was held back, and the write buffer. Under TLS the last 64 KiB or so, which the layer below holds, are
taken for sent.

A body without a length is complete if the server closed the connection and did not break it. Under TLS, asyncio reports
an end without a farewell in the same way as one with it.

What arrives is put into one buffer of all connections, and parsed out of it at once: to have asyncio make one of 256
KiB for each piece that it reads costs as much as sending and receiving.

Rejected: a timeout scope and a task for each exchange, which cost as much as all the rest of it; and the type of an
exception as the criterion, for it says where the code was and not what left.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Hashable
from contextvars import copy_context
from typing import Protocol, cast

from bms_async.errors import BmsError, CallTimeoutError, ResponseTooLargeError, TransportError
from bms_async.redaction import SecretBytes
from bms_async.wire import HttpResponse, ResponseHeaders

from ._causes import keep_cause
from ._parser import ResponseParser
from ._pending import PendingRequest, fail, fail_closed

_PIECE = 64 * 1024
_PIECES_AT_ONCE = 16
_NOTHING = memoryview(b"")
_UNDECODABLE = "DecodingError: the response body is not encoded as its headers say"


class OnEnd(Protocol):
    """What is called after each exchange."""

    def __call__(self, connection: Connection, *, reusable: bool) -> object:
        """Take the connection back.

        Args:
            connection: The connection.
            reusable: Whether it can be used for another exchange.
        """
        ...


class Connection(asyncio.BufferedProtocol):
    """A connection that sends one request after another.

    Args:
        route: The route that it is a part of.
        buffer: Where what arrives is put until it is parsed, which is at once, so that all connections share it.
        max_bytes: The size limit of a body, in bytes after decompression.
        keep_alive: Seconds that it may be idle, unless the server announces less.
        on_end: Called with it after each exchange, and whether it can be used for another.
        on_lost: Called with it when it is closed and its last exchange is over.

    Attributes:
        idle_limit: Seconds that it may be idle.
    """

    __slots__ = (
        "_buffer",
        "_context",
        "_deadline",
        "_is_full",
        "_is_paused",
        "_is_spoiled",
        "_is_unpacking",
        "_keep",
        "_keep_alive",
        "_loop",
        "_max_bytes",
        "_on_end",
        "_on_lost",
        "_parser",
        "_pending",
        "_timer",
        "_timer_at",
        "_transport",
        "_unwritten",
        "idle_limit",
        "route",
    )

    def __init__(
        self,
        route: Hashable,
        *,
        buffer: memoryview,
        max_bytes: int,
        keep_alive: float,
        on_end: OnEnd,
        on_lost: Callable[[Connection], object],
    ) -> None:
        self.route = route
        self._context = copy_context()
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._keep_alive = self.idle_limit = keep_alive
        self._on_end = on_end
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = ResponseParser(max_bytes)
        self._pending: PendingRequest | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = 0.0
        self._unwritten = _NOTHING
        self._is_full = self._is_paused = self._is_spoiled = self._is_unpacking = self._keep = False

    @property
    def usable(self) -> bool:
        """Whether it is open, and has received nothing unrequested."""
        return not self._is_spoiled and self._transport is not None and not self._transport.is_closing()

    @property
    def _is_sending(self) -> bool:
        if self._unwritten:
            return True
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def exchange(self, pending: PendingRequest, data: SecretBytes, now: float, *, keep: bool) -> None:
        """Write a request; its response resolves it.

        Args:
            pending: The request; the connection must be usable, and have no other.
            data: The whole request as bytes.
            now: The loop's time, in seconds.
            keep: Whether the connection may be kept afterwards.
        """
        self._pending = pending
        self._keep = keep
        request = pending.request
        self._parser.expect(bodiless=request.method == "HEAD")
        self._deadline = now + request.timeout
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        pending.sent = True
        if len(data) <= _PIECE:
            cast("asyncio.Transport", self._transport).write(data)
        else:
            self._unwritten = memoryview(data)
            self._write_more()

    def close(self) -> None:
        """Close the connection at once; a request on it fails as closed."""
        pending, self._pending = self._pending, None
        self._is_spoiled = True
        self._unwritten = _NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parser.close()
        if self._transport is None:
            self._on_lost(self)
        else:
            # On a loop that was closed, nothing can be closed in order any more.
            with contextlib.nullcontext() if not self._loop.is_closed() else contextlib.suppress(RuntimeError):
                # Drop the write buffer, and do not wait for the TLS shutdown.
                self._transport.abort()
        if pending is not None:
            fail_closed(pending)
            self._end(pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the open connection."""
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Hold back the rest of a large request."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on with a large request."""
        self._is_full = False
        self._write_more()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what arrives."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what was received, and resolve the request if that is its whole response."""
        if self._pending is None:
            # Nobody has asked for it, so it must not be read as the response to the next request.
            self.close()
            return
        parser = self._parser
        parser.feed(self._buffer[:nbytes])
        if parser.complete and parser.packed is None:
            self._finish(parser.content)
        else:
            self._advance()

    def eof_received(self) -> None:
        """Take the end of what the server sends; the connection is closed."""
        self._is_spoiled = True
        if self._pending is not None:
            self._parser.end(clean=True)
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that has no response yet."""
        self._is_spoiled = True
        self._transport = None
        if self._pending is not None and not self._parser.complete:
            if exc is None:
                self._parser.end(clean=False)
                self._advance()
            else:
                self._fail(lost_error(self._pending, exc, maybe_delivered=True))
        # Of a body that is complete, a part may still have to be decompressed.
        if self._pending is None:
            self.close()

    def _write_more(self) -> None:
        """Write what is taken of a large request; if that is much, the rest has to wait until others have run."""
        for _ in range(_PIECES_AT_ONCE):
            if not self._unwritten or self._is_full or not self.usable:
                return
            piece, self._unwritten = self._unwritten[:_PIECE], self._unwritten[_PIECE:]
            cast("asyncio.Transport", self._transport).write(piece)
        self._loop.call_soon(self._write_more, context=self._context)

    def _advance(self) -> None:
        """Go on with the response as far as it was parsed."""
        parser = self._parser
        if parser.problem is not None:
            self._refuse(parser.problem, too_large=parser.is_too_large)
        elif parser.packed is not None:
            if not self._is_unpacking:
                self._unpack()
        elif parser.complete:
            self._finish(parser.content)

    def _unpack(self) -> None:
        """Decompress a chunk of the body; the next one has to wait until others have run."""
        self._is_unpacking = False
        packed, complete = self._parser.packed, self._parser.complete
        if self._pending is None or packed is None:
            return
        try:
            more = packed.unpack()
            if complete and not more and not packed.is_too_large:
                packed.finish()
        except zlib.error:
            self._refuse(_UNDECODABLE)
            return
        if packed.is_too_large:
            self._refuse("", too_large=True)
        elif more:
            self._is_unpacking = True
            # What arrives meanwhile would fill the memory. Behind the end nothing is kept, and it is to be seen if the
            # server closes: a next request would be written to a connection that is no more.
            self._pause(wanted=not complete)
            self._loop.call_soon(self._unpack, context=self._context)
        else:
            self._pause(wanted=False)
            if complete:
                self._finish(packed.content)

    def _pause(self, *, wanted: bool) -> None:
        if self._is_paused is not wanted and self._transport is not None and not self._transport.is_closing():
            self._is_paused = wanted
            if wanted:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _finish(self, content: bytes | bytearray) -> None:
        """Resolve the request with its response."""
        pending, self._pending = cast("PendingRequest", self._pending), None
        parser = self._parser
        self.idle_limit = min(self._keep_alive, parser.idle_limit)
        reusable = (
            self._keep
            and parser.keep_alive
            and not parser.excess
            and self.idle_limit > 0
            and self.usable
            and not self._is_sending
        )
        if not reusable:
            self.close()
        if not pending.response.done():
            pending.response.set_result(
                HttpResponse(status=parser.status, headers=ResponseHeaders(parser.headers), body=SecretBytes(content))
            )
        # An idle connection must not keep the last response in memory.
        parser.release()
        self._end(pending, reusable=reusable)

    def _refuse(self, problem: str, *, too_large: bool = False) -> None:
        operation = cast("PendingRequest", self._pending).request.operation
        if too_large:
            self._fail(ResponseTooLargeError(limit=self._max_bytes, status=self._parser.status, operation=operation))
        else:
            self._fail(TransportError(problem, maybe_delivered=True, operation=operation))

    def _fail(self, error: BmsError) -> None:
        pending, self._pending = cast("PendingRequest", self._pending), None
        self.close()
        fail(pending, error)
        self._end(pending)

    def _end(self, pending: PendingRequest, *, reusable: bool = False) -> None:
        try:
            pending.finish()
        finally:
            self._on_end(self, reusable=reusable)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        pending = self._pending
        if pending is None:
            return
        if self._loop.time() < self._deadline:
            # It was set for an earlier request.
            self._set_timer()
            return
        kind = "WriteTimeout" if self._is_sending else "ReadTimeout"
        self._fail(
            CallTimeoutError(
                f"{kind}: no complete response within {pending.request.timeout:g} s",
                maybe_delivered=True,
                operation=pending.request.operation,
            )
        )


def lost_error(pending: PendingRequest, error: Exception, *, maybe_delivered: bool) -> TransportError:
    """Return the error of a request whose connection broke.

    Args:
        pending: The request.
        error: The error of the connection.
        maybe_delivered: Whether any of the request may have been sent.
    """
    request = pending.request
    text = (
        f"ReadError: {error.strerror or type(error).__name__}"
        if isinstance(error, OSError)
        else f"{type(error).__name__} while sending"
    )
    failure = TransportError(text, maybe_delivered=maybe_delivered, operation=request.operation)
    failure.__cause__ = keep_cause(error, request, written=maybe_delivered)
    return failure
