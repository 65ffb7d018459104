"""One call: slot, credentials, request, response, and further attempts where those can help.

Guarantees, whatever fails and whenever the caller is cancelled:

- Every attempt, a retry too, takes a slot of its operation's limiter before it is sent. The slot follows the request
  and not the caller, and is released once the transport is done with it (R1).
- A request is repeated only where that is safe. An operation that must not run twice, such as a reboot, is repeated
  only if the attempt surely was not executed: it was rate-limited, or its credentials were refused, or nothing of it
  left (R3).
- `maybe_done` of the error that is raised is True if the cloud may have executed any of the attempts: those before the
  last are its `previous`.
- Cancelling the caller, or reaching the deadline, ends this call and no other one (R4).

How: the transport sends in tasks of its own and hands out a `PendingRequest`, which knows whether anything was sent.
The limiter, the log and the hooks learn of each failed attempt before the next one begins. A rate-limited call has no
delay of its own where the limiter is blocked: waiting for the next slot is the delay.

Rejected: retries in the transport, or by a library. Neither knows the limits, the safety of an operation, the budget
that all calls share, or whether a request has left. And releasing the slot in a `finally` of the caller: a cancelled
call would give its slot away before the server has counted the request.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign, contain, is_own_cancellation
from bms_async.auth import RenewableAuth
from bms_async.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    ClientClosedError,
    PermissionDeniedError,
    RateLimitedError,
    WaitTooLongError,
)
from bms_async.limits import Lane, Limiter, Slot
from bms_async.redaction import mask, wrap_secrets
from bms_async.transport import PendingRequest, no_slot_error
from bms_async.wire import (
    MAX_RETRY_AFTER,
    HttpRequest,
    HttpResponse,
    Operation,
    RetryPolicy,
    build_request,
    may_retry,
    read_request_id,
    read_response,
    retry_delay,
    with_body,
)

from .arguments import CallArguments
from .core import Core
from .large_bodies import LARGE, read_large
from .log import log_attempt, logger
from .options import CallOptions
from .probe import Probe

if TYPE_CHECKING:
    from .hook_events import CallHookEvents

T = TypeVar("T")


class Call(Generic[T]):
    """One call, until its result is there or nothing more can be done for it.

    Args:
        core: The state shared with the client's other calls.
        operation: The operation to call.
        arguments: The keyword arguments of the call.
        options: The options of the session that makes it.
        lane: The lane that it waits in.
        probe: Sees it wait and sees it sent; None where nobody wants to see.
        events: Emits its hook events; None without hooks.
    """

    __slots__ = (
        "_arguments",
        "_core",
        "_ends_at",
        "_errors",
        "_events",
        "_failures",
        "_is_cancelled",
        "_is_ended",
        "_is_renewed",
        "_lane",
        "_limiter",
        "_operation",
        "_options",
        "_pending",
        "_probe",
        "_rate_limited",
        "_redact",
        "_request",
        "_response",
        "_task",
        "_waited",
    )

    def __init__(
        self,
        core: Core,
        operation: Operation[T],
        arguments: CallArguments,
        options: CallOptions,
        *,
        lane: Lane,
        probe: Probe | None = None,
        events: CallHookEvents | None = None,
    ) -> None:
        self._core = core
        self._operation = operation
        self._arguments = arguments
        self._options = options
        self._lane = lane
        self._probe = probe
        self._events = events
        self._redact = _redactor(core.redact, arguments.secrets) if arguments.secrets else core.redact
        self._errors: list[CallError] = []
        self._ends_at = math.inf
        self._limiter: Limiter | None = None
        self._task: asyncio.Task[Any] | None = None
        self._request: HttpRequest | None = None
        self._pending: PendingRequest | None = None
        self._response: HttpResponse | None = None
        self._is_cancelled = self._is_ended = self._is_renewed = False
        self._failures = self._rate_limited = 0
        self._waited = 0.0

    async def run(self) -> T:
        """Make the call.

        Raises:
            CallError: The error of the last attempt; those of earlier attempts are its `previous`.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        core, loop = self._core, asyncio.get_running_loop()
        calls = core.begin_call(self, self._operation.name)
        self._task = task = asyncio.current_task(loop)
        cancelling = 0 if task is None else task.cancelling()
        try:
            if self._options.total_timeout is None:
                return await self._run_attempts()
            self._ends_at = loop.time() + self._options.total_timeout
            return await self._run_until_deadline()
        except CallError:
            core.failed += 1
            raise
        except asyncio.CancelledError:
            if self._is_cancelled and task is not None and task.cancelling() <= cancelling + 1:
                raise self._closed_error() from None
            raise
        finally:
            calls.discard(self)
            # Closing may be about to end this call too, when the task has gone on to something else.
            self._task = None
            if self._is_cancelled and task is not None:
                # The caller's task goes on, and must not count as being cancelled.
                task.uncancel()
            # Cycles that only the garbage collector would end: the traceback of an error refers to the frames of the
            # call, where the earlier attempts are, and the task that keeps the error.
            self._errors.clear()
            del task

    def end(self) -> None:
        """End the call with a `ClientClosedError`, because the client is being closed."""
        self._is_ended = True
        task = self._task
        # If foreign code closes the client from within the call, the call ends when that code returns.
        if task is not None and not task.get_loop().is_closed() and task is not asyncio.current_task():
            self._is_cancelled = True
            task.cancel()

    async def _run_until_deadline(self) -> T:
        with anyio.CancelScope(deadline=self._ends_at):
            return await self._run_attempts()
        raise self._deadline_error("the project was not found" if self._request is None else "no response")

    def _check_not_ended(self) -> None:
        """Check that the client was not closed while foreign code ran, which may have swallowed the cancellation."""
        if self._is_ended:
            raise self._closed_error()

    def _closed_error(self) -> ClientClosedError:
        return ClientClosedError(f"{self._operation.name}: the client was closed before the response arrived")

    def _build_request(self) -> HttpRequest:
        core, operation, arguments = self._core, self._operation, self._arguments
        return build_request(
            operation,
            endpoint=core.endpoints[operation.service],
            path={"project_id": core.project_id or "", **(arguments.path or {})},
            query=arguments.query,
            body=arguments.body,
            headers=arguments.headers,
            user_agent=core.user_agent,
            timeout=self._options.timeout,
        )

    async def _run_attempts(self) -> T:
        core = self._core
        if core.project_id is None and core.needs_project(self._operation):
            core.project_id = await core.find_project_id(self._operation.name)
        self._request = request = self._build_request()
        operation = self._operation
        failure: BaseException | None
        while True:
            try:
                pending = await self._send(request)
                self._response = response = self._note_arrival(await pending.wait())
                # `redact` is for the texts of errors: a result is what the cloud sent.
                if len(response.body) < LARGE or operation.result in (bytes, type(None)):
                    result = read_response(operation, response, redact=self._redact)
                else:
                    result = await read_large(operation, response, redact=self._redact)
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                failure = error
            else:
                self._report_success()
                core.earn_retry()
                return result
            # Outside of the `except` block; `reporting_failure` says why.
            try:
                if self._pending is not None:
                    self._report_failure(failure)
                if not isinstance(failure, CallError):
                    raise failure
                # Not only before the next attempt is sent: the delay before it would outlast the closing.
                self._check_not_ended()
                if isinstance(failure, AuthenticationError | PermissionDeniedError):
                    failure = await self._renew(failure)
                if failure is not None:
                    failure = await self._prepare_retry(failure)
                if failure is not None:
                    raise failure from failure.__cause__
            finally:
                # Its traceback refers to this frame: a cycle that only the garbage collector would end.
                failure = None

    def _note_arrival(self, response: HttpResponse) -> HttpResponse:
        if self._arguments.on_response is not None:
            self._arguments.on_response(response)
        return response

    async def _prepare_retry(self, error: CallError) -> CallError | None:
        """Return None once the call can be sent again, and its error if it cannot, or not any more."""
        policy = self._arguments.retry or self._options.retry
        is_rate_limited = isinstance(error, RateLimitedError)
        if is_rate_limited:
            self._rate_limited += 1
            exhausted = self._rate_limited > policy.rate_limit_attempts
        else:
            self._failures += 1
            exhausted = self._failures >= policy.attempts
        limiter_waits = is_rate_limited and self._is_blocked(error)
        attempt = self._rate_limited if is_rate_limited else self._failures
        delay = 0.0 if limiter_waits else self._delay(policy, error, attempt)
        if exhausted or not self._may_retry(error, delay):
            self._attach_previous(error)
            return error
        self._remember(error)
        self._emit_retry(error, delay)
        await (anyio.lowlevel.checkpoint_if_cancelled() if limiter_waits else asyncio.sleep(delay))
        return None

    async def _send(self, request: HttpRequest) -> PendingRequest:
        """Wait for a slot, sign the request, and hand it to the transport."""
        core, probe = self._core, self._probe
        self._pending = None
        self._waited = 0.0
        self._check_not_ended()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        self._limiter = limiter = core.limits[request.operation]
        slot = limiter.acquire_nowait(self._lane)
        if slot is None:
            slot = await self._wait_for_slot(limiter, self._max_wait_left(started_at))
            self._waited = loop.time() - started_at
        # As in `call_foreign`, without a coroutine for each of the two.
        foreign = "the credentials' headers()"
        try:
            if self._arguments.make_body is not None:
                # Before the request is signed, for the signature covers the body.
                request = with_body(request, self._arguments.make_body())
            signed = _add_headers(request, wrap_secrets(await _as_awaitable(core.auth.headers(request))))
            self._check_not_ended()
            if self._arguments.before_send is not None:
                foreign = "what comes before sending"
                await self._arguments.before_send()
                self._check_not_ended()
            if probe is not None:
                await probe.check_may_send()
                self._check_not_ended()
            if limiter.has_leases:
                _check_slot(slot, request)
            foreign = "the transport's submit()"
            pending = core.transport.submit(signed)
        except BaseException as error:
            slot.refund()
            if isinstance(error, Exception) or is_own_cancellation(error):
                raise
            raise contain(foreign, error) from error
        if limiter.has_leases:
            pending.require(slot.is_valid)
        # The slot follows the request: a cancelled caller leaves before the server has counted it.
        pending.add_done_callback(lambda pending: slot.release() if pending.sent else slot.refund())
        self._pending = pending
        core.attempts += 1
        if self._arguments.on_send is not None:
            self._arguments.on_send()
        if probe is not None:
            probe.on_send(self._operation)
        if self._events is not None:
            self._events.on_sent(request, self._waited, limiter)
        return pending

    async def _wait_for_slot(self, limiter: Limiter, max_wait: float | None) -> Slot:
        probe = self._probe
        if probe is None:
            return await limiter.acquire(self._lane, max_wait=max_wait)
        await probe.on_wait()
        try:
            return await limiter.acquire(self._lane, max_wait=max_wait)
        finally:
            probe.on_wait_end()

    def _report_success(self) -> None:
        """Log an attempt that succeeded, and emit its hook events."""
        response = self._response
        if response is None:
            return
        if self._events is not None:
            self._events.on_response(response)
        if logger.isEnabledFor(logging.DEBUG):
            log_attempt(
                logging.DEBUG,
                self._operation.name,
                len(self._errors) + 1,
                self._waited,
                status=response.status,
                request_id=read_request_id(response, redact=self._redact),
            )

    def _report_failure(self, error: BaseException) -> None:
        """Report a failed attempt to the limiter, the log and the hooks."""
        limiter = self._limiter
        if isinstance(error, CallError):
            if self._probe is not None and not error.maybe_done:
                self._probe.on_refused(self._operation)
            level = logging.INFO
            if isinstance(error, RateLimitedError) and limiter is not None:
                level = logging.WARNING
                retry_after = None if error.retry_after is None else min(error.retry_after, MAX_RETRY_AFTER)
                limiter.on_rate_limited(retry_after, quota=error.quota)
            log_attempt(level, self._operation.name, len(self._errors) + 1, self._waited, error)
        if self._events is not None:
            self._events.on_failure(error, limiter)

    async def _renew(self, error: CallError) -> CallError | None:
        """Have rejected credentials renewed, once a call; a second rejection is an error.

        Returns:
            None if the call is worth another attempt with new credentials. Otherwise the error that decides how it goes
            on: the given one, or the one that kept the credentials from being renewed.
        """
        auth, pending, response = self._core.auth, self._pending, self._response
        if self._is_renewed or pending is None or response is None or not isinstance(auth, RenewableAuth):
            return error
        self._is_renewed = True
        # A rejected request was not executed: the deadline may come while the credentials are renewed.
        self._pending = None
        try:
            renewed = await call_foreign("the credentials' renew()", auth.renew, pending.request, response)
        except CallError as failure:
            self._check_not_ended()
            self._remember(error)
            return failure
        self._check_not_ended()
        if not renewed:
            return error
        self._remember(error)
        self._emit_retry(error, 0.0)
        # A hook may have cancelled the call, which must not be sent again then.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return None

    def _emit_retry(self, error: CallError, delay: float) -> None:
        if self._events is not None:
            self._events.on_retry(error, delay)

    def _remember(self, error: CallError) -> None:
        """Keep the error of an attempt that is not the last one."""
        self._errors.append(error)
        on_refused = self._arguments.on_refused
        if on_refused is not None and not any(earlier.maybe_done for earlier in self._errors):
            on_refused()

    def _delay(self, policy: RetryPolicy, error: CallError, attempt: int) -> float:
        jitter = self._core.random.random()
        return retry_delay(policy, attempt=attempt, retry_after=_retry_after(error), jitter=jitter)

    def _is_blocked(self, error: CallError) -> bool:
        """Return whether the limiter is blocked after a 429: one without a limit is only if the cloud said how long."""
        return _retry_after(error) is not None or self._core.limits[self._operation.name].limit is not None

    def _may_retry(self, error: CallError, delay: float) -> bool:
        if not may_retry(self._operation.safety, error):
            return False
        max_wait = self._options.max_wait
        if max_wait is not None and delay > max_wait and _retry_after(error) is not None:
            # A caller that cannot wait that long for a slot cannot wait that long for a cloud that is out of order.
            return False
        if asyncio.get_running_loop().time() + delay >= self._ends_at:
            # The deadline would come during the delay, and its error says less than this one.
            return False
        return self._core.spend_retry()

    def _max_wait_left(self, now: float) -> float | None:
        max_wait = self._options.max_wait
        if self._ends_at == math.inf:
            return max_wait
        left = max(0.0, self._ends_at - now)
        return left if max_wait is None else min(left, max_wait)

    def _deadline_error(self, missing: str) -> CallTimeoutError:
        """Return the error for a call that reached its deadline."""
        error = CallTimeoutError(
            f"{missing} within {self._options.total_timeout} s, all waiting included",
            maybe_delivered=self._pending is not None and self._pending.sent,
            operation=self._operation.name,
        )
        self._attach_previous(error)
        return error

    def _attach_previous(self, error: CallError) -> None:
        """Attach the errors of earlier attempts to the one that is raised."""
        error.previous = tuple(self._errors)
        for attempt, earlier in enumerate(self._errors, 1):
            error.add_note(f"attempt {attempt}: {earlier}")
        if isinstance(error, WaitTooLongError) and self._errors:
            error.add_note("the next attempt would have waited for its slot longer than max_wait allows")


def _check_slot(slot: Slot, request: HttpRequest) -> None:
    """Check that a slot may still be used: what came after it may have taken longer than its lease.

    Raises:
        TransportError: It may not.
    """
    if not slot.is_valid():
        raise no_slot_error(request)


def _as_awaitable(given: Awaitable[T] | T) -> Awaitable[T]:
    """Return what foreign code gave, to be awaited: a plain function will do where nothing is waited for."""
    return given if isawaitable(given) else _return(given)


async def _return(value: T) -> T:
    return value


def _add_headers(request: HttpRequest, headers: Mapping[str, str]) -> HttpRequest:
    return HttpRequest(
        operation=request.operation,
        method=request.method,
        url=request.url,
        headers={**request.headers, **headers},
        body=request.body,
        timeout=request.timeout,
    )


def _retry_after(error: CallError) -> float | None:
    """Return the seconds that the cloud asked to wait before the next attempt; None if it named none."""
    seconds: float | None = getattr(error, "retry_after", None)
    return seconds


def _redactor(redact: Callable[[str], str], secrets: Sequence[str | None]) -> Callable[[str], str]:
    known = [secret for secret in secrets if isinstance(secret, str)]
    return (lambda text: mask(redact(text), *known)) if known else redact
