"""A request that was submitted, and how its waiter gets a response or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bms_async._foreign import is_own_cancellation
from bms_async.errors import BmsError, ClientClosedError, TransportError
from bms_async.wire import HttpRequest, HttpResponse

from ._causes import keep_cause


class PendingRequest:
    """A request that was submitted.

    Attributes:
        response: Resolves with the response or an error; cancelled when the caller is.
        sent: Whether any of it may have been sent. One that is abandoned before is never sent.
        ended: Whether the exchange is over.
    """

    __slots__ = ("_may_be_sent", "_on_done", "ended", "request", "response", "sent")

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.response: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.sent = self.ended = False
        self._on_done: Callable[[PendingRequest], None] | None = None
        self._may_be_sent: Callable[[], bool] | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether it must not be sent any more: its caller has gone, or what allowed it does not any more."""
        if self._may_be_sent is not None and not self.response.done() and not self._may_be_sent():
            fail(self, no_slot_error(self.request))
        return self.response.done()

    def require(self, may_be_sent: Callable[[], bool]) -> None:
        """Have the request fail if it waits for a connection until this does not hold any more.

        Args:
            may_be_sent: Called right before the request is sent, if it was not sent at once; it must not raise.
        """
        self._may_be_sent = may_be_sent

    def add_done_callback(self, callback: Callable[[PendingRequest], None]) -> None:
        """Set the function to call when the exchange is over, which may be long after the caller was cancelled."""
        if self.ended:
            callback(self)
        else:
            self._on_done = callback

    def finish(self) -> None:
        """Mark the exchange as over; further calls do nothing."""
        if not self.ended:
            self.ended = True
            if self._on_done is not None:
                self._on_done(self)

    async def wait(self) -> HttpResponse:
        """Wait for the response. Cancelling the caller does not cancel a request that has been sent.

        Raises:
            TransportError: No response arrived.
            ClientClosedError: The transport was closed before one arrived.
        """
        try:
            return await self.response
        except Exception:
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # An application's transport may set any exception; the caller was not cancelled.
            raise as_transport_error(self.request, error, maybe_delivered=True) from error
        finally:
            if not self.sent:
                self.finish()


def no_slot_error(request: HttpRequest) -> TransportError:
    """Return the error of a request whose slot ran out before it could be sent."""
    return TransportError(
        "the lease of its slot was over before it could be sent, because this process or its store stood still",
        maybe_delivered=False,
        operation=request.operation,
    )


def as_transport_error(request: HttpRequest, error: BaseException, *, maybe_delivered: bool) -> TransportError:
    """Return the error of a request whose sending raised something else.

    Args:
        request: The request.
        error: What was raised.
        maybe_delivered: Whether any of the request may have been sent.
    """
    failure = TransportError(
        f"{type(error).__name__} while sending", maybe_delivered=maybe_delivered, operation=request.operation
    )
    failure.__cause__ = keep_cause(error, request, written=False)
    return failure


def fail_closed(pending: PendingRequest) -> None:
    """Fail a request because the transport is closed."""
    fail(
        pending, ClientClosedError(f"{pending.request.operation}: the transport was closed before the response arrived")
    )


def fail(pending: PendingRequest, error: BmsError) -> None:
    """Fail a request, unless its waiter is gone."""
    if not pending.response.done():
        pending.response.set_exception(error)
        # Mark it as retrieved: the caller may have been cancelled.
        pending.response.exception()
