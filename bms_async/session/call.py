"""The way of one call: slot, credentials, send, read, and again if that can help."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio.lowlevel

from bms_async._foreign import call_foreign, call_foreign_now
from bms_async.auth import RenewableAuth
from bms_async.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    PermissionDeniedError,
    RateLimitedError,
    WaitTooLongError,
)
from bms_async.limits import Lane, Slot, WindowLimiter
from bms_async.redaction import wrap_secrets
from bms_async.transport import PendingRequest
from bms_async.wire import (
    MAX_RETRY_AFTER,
    HttpRequest,
    HttpResponse,
    Operation,
    RetryPolicy,
    may_retry,
    read_request_id,
    read_response,
    retry_delay,
)

from .core import Core
from .large_bodies import LARGE, read_large
from .log import log_attempt, logger

if TYPE_CHECKING:
    from .hook_events import CallHookEvents

T = TypeVar("T")


class Call(Generic[T]):
    """One call, until its result is there or nothing more can be done for it.

    Args:
        core: What it shares with the client's other calls.
        operation: What is called.
        request: Its request, without credentials.
        lane: Who goes first when calls must wait.
        policy: How it is tried again.
        max_wait: Seconds that it may wait for a slot.
        ends_at: When it must be over, by the loop's clock.
        on_send: Called when a request is handed to the transport: from then on the cloud may act on it.
        on_refused: Called when it surely did not act on any try so far, and the call is to be tried again.
        redact: Takes the credentials, and what the call sends as secrets, out of a text.
        news: Tells the hooks of it; None where there are none.
    """

    __slots__ = (
        "_core", "_ends_at", "_errors", "_flight", "_lane", "_max_wait", "_news", "_on_refused", "_on_send",
        "_operation", "_policy", "_redact", "_renewed", "_request", "_response",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        operation: Operation[T],
        request: HttpRequest,
        *,
        lane: Lane,
        policy: RetryPolicy,
        max_wait: float | None,
        ends_at: float,
        on_send: Callable[[], None] | None,
        on_refused: Callable[[], None] | None,
        redact: Callable[[str], str],
        news: CallHookEvents | None = None,
    ) -> None:
        self._core = core
        self._operation = operation
        self._request = request
        self._lane = lane
        self._policy = policy
        self._max_wait = max_wait
        self._ends_at = ends_at
        self._on_send = on_send
        self._on_refused = on_refused
        self._redact = redact
        self._news = news
        self._errors: list[CallError] = []
        self._flight: PendingRequest | None = None
        self._response: HttpResponse | None = None
        self._renewed = False

    async def run(self) -> T:
        """Make it.

        Raises:
            CallError: What the last try ended with; those before are its `previous`.
        """
        failures = refusals = 0
        while True:
            try:
                result = await self._attempt()
            except CallError as caught:
                error = caught
            else:
                self._core.earn_retry()
                return result
            if isinstance(error, AuthenticationError | PermissionDeniedError):
                renewed, failure = await self._renew()
                if renewed or failure is not None:
                    self._remember(error)
                if renewed:
                    self._emit_retry(error, 0.0)
                    # Who was told may have ended the call, which must not be sent any more then.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    continue
                # No new credentials came, and this try may be made again like one that never had any.
                error = failure or error
            refused = isinstance(error, RateLimitedError)
            refusals += refused
            failures += not refused
            spent = refusals > self._policy.rate_limit_attempts if refused else failures >= self._policy.attempts
            # A refused call needs no delay of its own where its operation stands still for a while.
            stands = refused and self._is_blocked(error)
            delay = 0.0 if stands else self._delay(error, refusals if refused else failures)
            if spent or not self._may_retry(error, delay):
                self._attach_previous(error)
                raise error from error.__cause__
            self._remember(error)
            self._emit_retry(error, delay)
            await (anyio.lowlevel.checkpoint_if_cancelled() if stands else asyncio.sleep(delay))

    def deadline_error(self, seconds: float | None) -> CallTimeoutError:
        """Return the error for a call whose deadline has come."""
        sent = self._flight is not None and self._flight.sent
        error = CallTimeoutError(
            f"no answer within {seconds} s, all waiting included",
            maybe_delivered=sent,
            operation=self._operation.name,
        )
        self._attach_previous(error)
        return error

    async def _attempt(self) -> T:
        core, operation = self._core, self._operation
        limiter = core.limits[operation.name]
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        self._flight = None
        slot = await limiter.acquire(self._lane, max_wait=self._max_wait_left(asked_at))
        waited = loop.time() - asked_at
        attempt = len(self._errors) + 1
        pending = await self._send(slot)
        if self._news is not None:
            self._news.on_sent(self._request, waited, limiter)
        failure: BaseException | None = None
        try:
            self._response = response = await pending.wait()
            result = self._read(response) if len(response.body) < LARGE else await self._read_large(response)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failure = error
        if failure is not None:
            try:
                self._report_failure(failure, limiter, attempt, waited)
                raise failure
            finally:
                # It has a traceback, which has this frame: a cycle that only the collector would end.
                del failure
        if self._news is not None:
            self._news.on_response(response)
        if logger.isEnabledFor(logging.DEBUG):
            request_id = read_request_id(response, redact=self._redact)
            log_attempt(logging.DEBUG, operation.name, attempt, waited, status=response.status, request_id=request_id)
        return result

    def _report_failure(self, error: BaseException, limiter: WindowLimiter, attempt: int, waited: float) -> None:
        """Tell the limiter, the log and the hooks how a try failed, each what is its business."""
        if isinstance(error, RateLimitedError):
            asked = None if error.retry_after is None else min(error.retry_after, MAX_RETRY_AFTER)
            limiter.on_rate_limited(asked, quota=error.quota)
            log_attempt(logging.WARNING, self._operation.name, attempt, waited, error)
        elif isinstance(error, CallError):
            log_attempt(logging.INFO, self._operation.name, attempt, waited, error)
        if self._news is not None:
            self._news.on_failure(error, limiter)

    async def _send(self, slot: Slot) -> PendingRequest:
        """Sign the request now that its turn has come, and hand it on."""
        core, request = self._core, self._request
        try:
            credentials = wrap_secrets(await call_foreign("the credentials' headers()", core.auth.headers, request))
            signed = HttpRequest(
                operation=request.operation,
                method=request.method,
                url=request.url,
                headers={**request.headers, **credentials},
                body=request.body,
                timeout=request.timeout,
            )
            pending = call_foreign_now("the transport's submit()", core.transport.submit, signed)
        except BaseException:
            slot.refund()
            raise
        # The slot follows the request and not the caller, who may leave before the server has counted it.
        pending.add_done_callback(lambda pending: slot.release() if pending.sent else slot.refund())
        self._flight = pending
        core.attempts += 1
        if self._on_send is not None:
            self._on_send()
        return pending

    def _read(self, response: HttpResponse) -> T:
        # What a good answer holds is what the cloud sent; only an error tells of an answer, and only that is masked.
        return read_response(self._operation, response, redact=self._redact)

    async def _read_large(self, response: HttpResponse) -> T:
        if self._operation.result in (bytes, type(None)):
            return self._read(response)
        return await read_large(self._operation, response, redact=self._redact)

    async def _renew(self) -> tuple[bool, CallError | None]:
        """Have refused credentials mended, once a call; a second refusal is an error.

        Returns:
            Whether the call is worth another try, and why no new credentials came where they were asked for in vain.
        """
        auth = self._core.auth
        if self._renewed or self._flight is None or self._response is None or not isinstance(auth, RenewableAuth):
            return False, None
        self._renewed = True
        # It was refused and so not done, should the deadline come meanwhile.
        pending, self._flight = self._flight, None
        try:
            return await call_foreign("the credentials' renew()", auth.renew, pending.request, self._response), None
        except CallError as failure:
            return False, failure

    def _emit_retry(self, error: CallError, delay: float) -> None:
        if self._news is not None:
            self._news.on_retry(error, delay)

    def _remember(self, error: CallError) -> None:
        """Remember what a try ended with that is not the last one."""
        self._errors.append(error)
        if self._on_refused is not None and not any(each.maybe_done for each in self._errors):
            self._on_refused()

    def _delay(self, error: CallError, failures: int) -> float:
        asked = getattr(error, "retry_after", None)
        return retry_delay(self._policy, attempt=failures, retry_after=asked, jitter=self._core.random.random())

    def _is_blocked(self, error: CallError) -> bool:
        """Tell whether the operation waits as a whole after this refusal: without a limit only if the cloud said so."""
        asked: float | None = getattr(error, "retry_after", None)
        return asked is not None or self._core.limits[self._operation.name].limit is not None

    def _may_retry(self, error: CallError, delay: float) -> bool:
        if not may_retry(self._operation.safety, error):
            return False
        if self._max_wait is not None and delay > self._max_wait and getattr(error, "retry_after", None) is not None:
            # Who cannot wait that long for a slot cannot wait that long for a cloud that is out of order.
            return False
        if asyncio.get_running_loop().time() + delay >= self._ends_at:
            # The deadline would come in the middle of the delay, and tell less than the error does.
            return False
        return self._core.spend_retry()

    def _max_wait_left(self, now: float) -> float | None:
        if self._ends_at == math.inf:
            return self._max_wait
        left = max(0.0, self._ends_at - now)
        return left if self._max_wait is None else min(left, self._max_wait)

    def _attach_previous(self, error: CallError) -> None:
        """Have the error that the caller gets tell of those before it."""
        error.previous = tuple(self._errors)
        for attempt, each in enumerate(self._errors, 1):
            error.add_note(f"attempt {attempt}: {each}")
        if isinstance(error, WaitTooLongError) and self._errors:
            error.add_note("then the limit would have had it wait for too long")
