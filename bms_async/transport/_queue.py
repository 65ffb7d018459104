"""Sending that belongs to the client and not to the caller.

Two faults of HTTP pools are kept from users here. A request cancelled before its connection opens can leave a phantom
connection behind for ever, so a request runs in a task that a caller's cancellation does not reach. And a pool that
requests queue in scans its queue for each of them, so the queue is ours, and no more requests than connections go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context

import anyio.lowlevel
import msgspec

from bms_async._foreign import contain, is_own_cancellation
from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.errors import BmsError, ClientClosedError, TransportError
from bms_async.wire import HttpRequest, HttpResponse

from ._causes import keep_cause

_YIELD_EVERY = 500


class PendingRequest:
    """A request on its way.

    Attributes:
        response: Resolves with the answer, or with what came instead of it; cancelled when the caller has left.
        sent: Whether anything of it may have left; a flight abandoned before that never leaves.
    """

    __slots__ = ("_on_end", "ended", "request", "response", "sent")

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.response: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.sent = self.ended = False
        self._on_end: Callable[[PendingRequest], None] | None = None

    def add_done_callback(self, call: Callable[[PendingRequest], None]) -> None:
        """Have something called when the exchange is over, which may be long after the caller has left."""
        if self.ended:
            call(self)
        else:
            self._on_end = call

    def finish(self) -> None:
        """Tell that the exchange is over; once is enough, and more changes nothing."""
        if not self.ended:
            self.ended = True
            if self._on_end is not None:
                self._on_end(self)

    async def wait(self) -> HttpResponse:
        """Wait for the answer; when the caller is cancelled, what was sent flies on without him.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The transport was closed before one came.
        """
        try:
            return await self.response
        except Exception:
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # A transport of the application's resolves it as it likes, and the caller was not cancelled.
            raise _as_transport_error(self.request, error) from error
        finally:
            if not self.sent:
                self.finish()


class TransportStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport is doing.

    Attributes:
        max_connections: How many requests it sends at once at most.
        in_flight: How many it is sending now.
        queued: How many wait for one of those to end.
        sent: How many it has sent in all.
    """

    max_connections: int
    in_flight: int
    queued: int
    sent: int


class SendQueue:
    """Sends requests in tasks of its own, never more at once than there are connections."""

    def __init__(self, exchange: Callable[[HttpRequest], Awaitable[HttpResponse]], *, connections: int) -> None:
        self._exchange = exchange
        self._connections = connections
        self._waiting: deque[PendingRequest] = deque()
        self._in_flight = 0
        self._idle: list[asyncio.Future[None]] = []
        self._workers = 0
        self._sent = 0
        self._owner = BackgroundTasks("bms_async sending")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._closed = self._guarded = False

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._guarded and self._owner.is_open

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from one that such a task has started."""
        return self._owner.has_current_task

    @property
    def is_closed(self) -> bool:
        """Whether it was closed by its last user; it is never opened again."""
        return self._closed

    async def open(self) -> None:
        """Open the queue, or count one more user of it.

        Raises:
            ClientClosedError: Its last user has closed it, or is about to.
        """
        if self._closed:
            raise ClientClosedError("the transport was closed with its last client: make a new one")
        await self._owner.open()
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        if not self._guarded and self._owner.is_open:
            self._guarded = True
            self._owner.start(self._guard, name="bms_async queue")

    async def aclose(self) -> None:
        """Count one user less; after the last one, end what is under way."""
        # It is closed before anything is waited for, so that nobody moves in while the last one moves out.
        self._closed = self._closed or self._owner.open_count <= 1
        try:
            if self._closed:
                await self._drop_unwaited()
            await self._owner.aclose()
        finally:
            if self._closed:
                self._end_all()

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Take a request; it is sent as soon as a connection is free.

        Raises:
            ClientClosedError: The queue is not open, or was opened on another event loop.
        """
        if not self.is_open:
            state = "was closed" if self._closed else "is not open"
            if self._loop is not None and not self._closed:
                state = "is not open any more, for its tasks were ended with its event loop or by hand"
            raise ClientClosedError(f"{request.operation}: the transport {state}; use it inside `async with`")
        check_loop(self._loop, f"{request.operation}: the client")
        pending = PendingRequest(request)
        self._waiting.append(pending)
        while self._idle:
            turn = self._idle.pop()
            # One that was cancelled meanwhile is not going to take it.
            if not turn.done():
                turn.set_result(None)
                return pending
        if self._workers < self._connections:
            self._workers += 1
            # It sends for many callers, and what the first of them has set is nobody else's.
            self._context.copy().run(lambda: self._owner.start(self._work, name="bms_async send"))
        return pending

    def statistics(self) -> TransportStatistics:
        """Tell what is under way."""
        return TransportStatistics(
            max_connections=self._connections, in_flight=self._in_flight, queued=len(self._waiting), sent=self._sent
        )

    async def _guard(self) -> None:
        """Close the queue as soon as its tasks are being ended, by whomever, and fail what nobody will send then."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._guarded = False
            self._end_all()

    async def _drop_unwaited(self) -> None:
        """End the requests that nobody waits for any more, some at a time: when a client is closed, that is all."""
        ended = 0
        while self._waiting and self._waiting[0].response.done():
            self._waiting.popleft().finish()
            ended += 1
            if ended % _YIELD_EVERY == 0:
                await anyio.lowlevel.cancel_shielded_checkpoint()

    def _end_all(self) -> None:
        while self._waiting:
            pending = self._waiting.popleft()
            _fail_closed(pending)
            pending.finish()

    async def _work(self) -> None:
        """Send what waits, and then wait for more: a task for each request would cost as much as all the rest."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] | None = None
        try:
            while True:
                while self._waiting:
                    pending = self._waiting.popleft()
                    if pending.response.done():
                        pending.finish()
                    else:
                        await self._send(pending)
                    # Who waits for the next request does not hold the answer to the last one.
                    del pending
                if not self._owner.is_open:
                    # A transport has swallowed the cancellation of this task.
                    break
                turn = loop.create_future()
                self._idle.append(turn)
                await turn
        finally:
            self._workers -= 1
            if turn in self._idle:
                self._idle.remove(turn)
            if not self._workers:
                self._end_all()

    async def _send(self, pending: PendingRequest) -> None:
        pending.sent = True
        self._sent += 1
        self._in_flight += 1
        try:
            response = await self._exchange(pending.request)
        except BmsError as error:
            _fail(pending, error)
        except BaseException as error:
            # Whatever a transport raises is for the caller of this request. Let out of this task it would end all that
            # the client does; only what ends this very task, and Ctrl-C, do so.
            if is_own_cancellation(error):
                _fail_closed(pending)
                raise
            _fail(pending, _as_transport_error(pending.request, error))
            contain("the transport", error)
        else:
            if not pending.response.done():
                pending.response.set_result(response)
        finally:
            self._in_flight -= 1
            pending.finish()


def _as_transport_error(request: HttpRequest, error: BaseException) -> TransportError:
    failure = TransportError(f"{type(error).__name__} while sending", maybe_delivered=True, operation=request.operation)
    failure.__cause__ = keep_cause(error, request, written=False)
    return failure


def _fail_closed(pending: PendingRequest) -> None:
    _fail(pending, ClientClosedError(f"{pending.request.operation}: the transport was closed before the answer came"))


def _fail(pending: PendingRequest, error: BmsError) -> None:
    if not pending.response.done():
        pending.response.set_exception(error)
        # The caller may have left; a failure that nobody waits for any more is no news.
        pending.response.exception()
