"""The way of one call: slot, credentials, send, read, and again if that can help."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any, TypeVar, TypeVarTuple

import anyio
import msgspec

from bms_async._once import Once
from bms_async._owner import TaskOwner
from bms_async.auth import Auth, RenewableAuth, ScopedAuth, SendingAuth
from bms_async.errors import (
    AuthenticationError,
    CallError,
    ClientClosedError,
    ConfigurationError,
    PermissionDeniedError,
    RateLimitedError,
)
from bms_async.limits import Lane, Limits
from bms_async.transport import OwningTransport, SendQueue, Transport
from bms_async.wire import (
    HttpRequest,
    HttpResponse,
    Operation,
    Query,
    RetryPolicy,
    Service,
    build_request,
    may_repeat,
    read_request_id,
    read_response,
    retry_delay,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("bms_async.session")

_CONNECTIONS = 64
_RETRY_COST = 1.0
_RETRY_REFUND = 0.1


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has done.

    Attributes:
        open_calls: Calls under way, waiting for their slot included.
        calls: Calls begun.
        tries: Requests sent for them.
        failed: Calls that ended in an error.
        retries_left: What is left of the budget that all retries are paid from.
    """

    open_calls: int
    calls: int
    tries: int
    failed: int
    retries_left: float


class Session:
    """Makes calls: within the limits, with credentials, and with retries from one shared budget.

    Args:
        endpoints: The address of each service.
        project_id: The project; None has the credentials tell it.
        find_project: Looks the project up where they cannot; it is asked once, when a call needs it.
        timeout: Seconds that one try may take once it is connected.
        retry: How calls are tried again.
        retry_budget: How many retries may be made in a row without a success; a success earns a tenth of one back. In
            an outage that is what keeps retries from multiplying the traffic.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        auth: Auth,
        limits: Limits,
        endpoints: Mapping[Service, str],
        project_id: str | None,
        timeout: float,
        retry: RetryPolicy,
        user_agent: str,
        retry_budget: float = 500.0,
        find_project: Callable[[], Awaitable[str]] | None = None,
        random: Random | None = None,
    ) -> None:
        self.limits = limits
        self.project_id = project_id
        self._project = None if find_project is None else Once(find_project, self.start)
        self._transport: OwningTransport | SendQueue = (
            transport if isinstance(transport, OwningTransport) else SendQueue(transport.send, connections=_CONNECTIONS)
        )
        self._auth = auth
        self._endpoints = endpoints
        self._timeout = timeout
        self._retry = retry
        self._user_agent = user_agent
        self._budget = self._full_budget = retry_budget
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._owner = TaskOwner("bms_async client")
        self._scopes: set[anyio.CancelScope] | None = None
        self._holds_transport = False
        self._calls = self._tries = self._failed = 0

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._scopes is not None

    async def open(self) -> None:
        """Open the transport."""
        await self._transport.open()
        self._holds_transport = True
        await self._owner.open()
        self._scopes = set()
        if isinstance(self._auth, SendingAuth):
            self._auth.bind(self.send, self.start)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts, name: str | None = None) -> None:
        """Start work that outlives the call that asked for it; it is cancelled when the client is closed.

        Raises:
            ClientClosedError: The client is not open.
        """
        if self._scopes is None or not self._owner.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        self._owner.start(function, *args, name=name)

    async def stop_work(self) -> None:
        """End what outlives its call: fleet runs tell what they know, pages ahead are dropped."""
        await self._owner.aclose()

    async def aclose(self) -> None:
        """End every call that is under way with `ClientClosedError`, and let the transport go."""
        await self.stop_work()
        if self._scopes is not None and isinstance(self._auth, SendingAuth):
            self._auth.unbind(self.send)
        scopes, self._scopes = self._scopes, None
        for scope in scopes or ():
            scope.cancel()
        # Others may share the transport: it is let go once, and only by who has opened it.
        if self._holds_transport:
            self._holds_transport = False
            await self._transport.aclose()

    def statistics(self) -> SessionStatistics:
        """Tell what was done."""
        return SessionStatistics(
            open_calls=len(self._scopes or ()),
            calls=self._calls,
            tries=self._tries,
            failed=self._failed,
            retries_left=self._budget,
        )

    async def call(
        self,
        operation: Operation[T],
        *,
        path: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        lane: Lane = Lane.INTERACTIVE,
        retry: RetryPolicy | None = None,
        on_send: Callable[[], None] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> T:
        """Make one call and return what it answered.

        Args:
            operation: What is called.
            path: A value for each part of its path but the project.
            query: Its query.
            body: Its body.
            headers: Headers that this call needs beside the operation's own.
            lane: Who goes first when calls must wait.
            retry: How it is tried again, where that differs from the session's way.
            on_send: Called when the request is handed to the transport: from then on the cloud may act on it.
            on_refused: Called when it surely did not act on any try so far, and the call is to be tried again.

        Raises:
            ApiError: The cloud refused.
            TransportError: No answer came.
            DecodeError: The answer cannot be read.
            ClientClosedError: The client is not open, or was closed before the answer came.
        """
        if self._scopes is None:
            raise ClientClosedError(f"{operation.name}: the client is not open; use it inside `async with`")
        self._calls += 1
        with anyio.CancelScope() as scope:
            scopes = self._scopes
            scopes.add(scope)
            try:
                if self.project_id is None and "{project_id}" in operation.path:
                    self.project_id = await self._find_project_id(operation)
                request = build_request(
                    operation,
                    endpoint=self._endpoints[operation.service],
                    path={"project_id": self.project_id or "", **(path or {})},
                    query=query,
                    body=body,
                    headers=headers,
                    user_agent=self._user_agent,
                    timeout=self._timeout,
                )
                return await self._try_until_done(
                    operation, request, lane, retry or self._retry, on_send, on_refused=on_refused
                )
            except CallError:
                self._failed += 1
                raise
            finally:
                scopes.discard(scope)
        raise ClientClosedError(f"{operation.name}: the client was closed before the answer came")

    async def _try_until_done(
        self,
        operation: Operation[T],
        request: HttpRequest,
        lane: Lane,
        policy: RetryPolicy,
        on_send: Callable[[], None] | None,
        *,
        on_refused: Callable[[], None] | None,
    ) -> T:
        errors: list[CallError] = []
        failures = refusals = 0
        trial = _Trial()
        while True:
            try:
                result = await self._try_once(operation, request, lane, on_send, trial, attempt=len(errors) + 1)
            except CallError as error:
                if isinstance(error, AuthenticationError | PermissionDeniedError) and await self._renew(trial):
                    errors.append(error)
                    continue
                refused = isinstance(error, RateLimitedError)
                refusals += refused
                failures += not refused
                spent = refusals > policy.refusals if refused else failures >= policy.attempts
                if spent or not may_repeat(operation.safety, error) or not self._spend_retry():
                    error.previous = tuple(errors)
                    raise
                errors.append(error)
                if on_refused is not None and not any(each.maybe_done for each in errors):
                    on_refused()
                if not refused:
                    # A refused call needs no delay of its own: its operation stands still until it may go on.
                    asked = getattr(error, "retry_after", None)
                    draw = self._random.random()
                    await anyio.sleep(retry_delay(policy, attempt=failures, asked=asked, draw=draw))
            else:
                self._budget = min(self._full_budget, self._budget + _RETRY_REFUND)
                return result

    async def _try_once(
        self,
        operation: Operation[T],
        request: HttpRequest,
        lane: Lane,
        on_send: Callable[[], None] | None,
        trial: _Trial,
        *,
        attempt: int,
    ) -> T:
        limiter = self.limits[operation.name]
        asked_at = anyio.current_time()
        slot = await limiter.acquire(lane)
        waited = anyio.current_time() - asked_at
        try:
            credentials = await self._auth.headers(request)
            flight = self._transport.submit(
                msgspec.structs.replace(request, headers={**request.headers, **credentials})
            )
        except BaseException:
            slot.give_back()
            raise
        # The slot follows the request and not the caller, who may leave before the server has counted it.
        flight.on_end(lambda flight: slot.release() if flight.sent else slot.give_back())
        self._tries += 1
        if on_send is not None:
            on_send()
        try:
            trial.request = flight.request
            trial.response = response = await flight.wait()
            result = self._read(operation, response)
        except RateLimitedError as error:
            asked = None if error.retry_after is None else min(error.retry_after, self._retry.cap)
            limiter.refuse(asked, quota=error.quota)
            _tell(logging.WARNING, operation.name, attempt, waited, error)
            raise
        except CallError as error:
            _tell(logging.INFO, operation.name, attempt, waited, error)
            raise
        if _log.isEnabledFor(logging.DEBUG):
            request_id = read_request_id(response, redact=self._auth.redact)
            _tell(logging.DEBUG, operation.name, attempt, waited, status=response.status, request_id=request_id)
        return result

    def _read(self, operation: Operation[T], response: HttpResponse) -> T:
        if response.body:
            # A cloud or a proxy may echo what it was sent, in a job's reason for failing too, and what it says ends up
            # in errors, logs and reprs.
            told = response.body.decode(errors="replace")
            redacted = self._auth.redact(told)
            if redacted != told:
                response = msgspec.structs.replace(response, body=redacted.encode())
        return read_response(operation, response, redact=self._auth.redact)

    async def _renew(self, trial: _Trial) -> bool:
        """Have refused credentials mended, once a call; a second refusal is an error."""
        if trial.renewed or trial.request is None or trial.response is None:
            return False
        if not isinstance(self._auth, RenewableAuth):
            return False
        trial.renewed = True
        return await self._auth.renew(trial.request, trial.response)

    async def _find_project_id(self, operation: Operation[Any]) -> str:
        project_id = await self._auth.find_project_id() if isinstance(self._auth, ScopedAuth) else None
        if project_id is not None:
            return project_id
        if self._project is None:
            raise ConfigurationError(
                f"{operation.name}: the client has no project_id, and its credentials cannot tell one; "
                "give project_id or project_name"
            )
        return await self._project.get()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request as it is, for credentials that have to ask a service for a token.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The client is not open.
        """
        if self._scopes is None:
            raise ClientClosedError(f"{request.operation}: the client is not open")
        self._tries += 1
        return await self._transport.submit(request).wait()

    def _spend_retry(self) -> bool:
        if self._budget < _RETRY_COST:
            return False
        self._budget -= _RETRY_COST
        return True


class _Trial:
    """What the last try of a call sent and heard, and whether its credentials were mended before."""

    __slots__ = ("renewed", "request", "response")

    def __init__(self) -> None:
        self.renewed = False
        self.request: HttpRequest | None = None
        self.response: HttpResponse | None = None


def _tell(
    level: int,
    operation: str,
    attempt: int,
    waited: float,
    error: CallError | None = None,
    *,
    status: int | None = None,
    request_id: str | None = None,
) -> None:
    """Log how one try ended, without the cloud's words, which are the application's to show and not the log's.

    Each figure is an attribute of the record too, for who logs as JSON.
    """
    code: str | None = None
    if error is not None:
        status, code = getattr(error, "status", None), getattr(error, "code", None)
        request_id = getattr(error, "request_id", None)
    ended = [f"failed with {type(error).__name__}"] if error else []
    ended += [str(part) for part in (status, code) if part is not None]
    _log.log(
        level,
        "%s attempt %d: %s; waited %.3f s for its slot; request id %s",
        operation,
        attempt,
        " ".join(ended),
        waited,
        request_id or "not told",
        extra={
            "operation": operation,
            "attempt": attempt,
            "status": status,
            "code": code,
            "request_id": request_id,
            "wait": waited,
        },
    )
