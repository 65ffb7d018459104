"""The state that all calls of a client share: connections, credentials, limits, the retry budget, background tasks.

Guarantee (R4): once `Core.aclose` returns, no call of the client is under way and none of its tasks is left. Each call
that was under way has ended with a `ClientClosedError`, whether it was waiting for a slot, for credentials or for a
response. A call that is cancelled or ends takes nothing away from the others.

How: each call registers itself in `open_calls`, and closing ends all of them, a few hundred between two yields to the
event loop: it cancels the task that a call waits in, and the call takes that cancellation back. Work that outlives a
call (fleet runs, prefetched pages, the look-up of the project) runs in `BackgroundTasks`, which ends first, so that a
run can still report what it knows. The transport may be shared with other clients: it is released exactly once, and
only by the client that opened it.

Retries are paid from one budget for all calls. In an outage every call fails, and retries that each call grants to
itself would multiply the traffic just when the cloud can bear it least. A success earns a tenth of a retry back.

Rejected: a task for each call, cancelled on closing. It costs a task a call, and the caller waits in its own task
anyway. And a cancel scope for each call, which costs a third of what the call costs above the transport.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVarTuple
from urllib.parse import urlsplit
from weakref import WeakSet

import anyio
import anyio.lowlevel
import msgspec

from bms_async._foreign import call_foreign, call_foreign_now, reporting_failure
from bms_async._single_flight import SingleFlight
from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.auth import Auth, ObservableAuth, ScopedAuth, SendingAuth
from bms_async.errors import ClientClosedError, ConfigurationError
from bms_async.limits import Limits, Slot
from bms_async.redaction import redact_safely
from bms_async.transport import OwningTransport, PendingRequest, SendQueue, TaskRunningTransport, Transport
from bms_async.wire import HttpRequest, HttpResponse, Operation, Service, read_error

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .hook_events import CallHookEvents

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("bms_async.session")

_CONNECTIONS = 64
_YIELD_EVERY = 200
_RETRY_BUDGET = 500.0
_RETRY_COST = 1.0
_RETRY_REFUND = 0.1


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of a session.

    Attributes:
        open_calls: Calls in progress, those that wait for their slot included.
        calls: Calls begun.
        attempts: Requests sent for them.
        failed: Calls that ended in an error.
        retries_left: The retries that are left of the budget that all calls share.
    """

    open_calls: int
    calls: int
    attempts: int
    failed: int
    retries_left: float


class OpenCall(Protocol):
    """A call in progress."""

    def end(self) -> None:
        """End it with a `ClientClosedError`, soon."""
        ...


class HasErrorToLog(Protocol):
    """Something that may hold an error that was never retrieved."""

    def log_error(self) -> None:
        """Log the error if there is one and no caller waits for it."""


class Core:
    """The state that a client's calls share, opened and closed with the client.

    Args:
        endpoints: The address of each service.
        project_id: The project's id; None if the credentials know it.
        find_project: Looks the project up where the credentials do not know it; called once, when a call needs it.
        on_project: Called with the project's id once it is known; returns the limits of that project.

    Attributes:
        open_calls: The calls in progress; None while the client is not open.
        hooks: The client's hooks; None without any. Set before the client is opened.
        random: The source of the jitter between attempts.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        auth: Auth,
        limits: Limits,
        endpoints: Mapping[Service, str],
        project_id: str | None,
        user_agent: str,
        find_project: Callable[[], Awaitable[str]] | None = None,
        on_project: Callable[[str], Limits] | None = None,
    ) -> None:
        self.auth = auth
        self.limits = limits
        self.endpoints = endpoints
        self.project_id = project_id
        self.user_agent = user_agent
        self.random = Random()  # noqa: S311 - jitter, not a secret
        self.transport: OwningTransport | SendQueue = (
            transport if isinstance(transport, OwningTransport) else SendQueue(transport.send, connections=_CONNECTIONS)
        )
        self.open_calls: set[OpenCall] | None = None
        self._ending: list[OpenCall] = []
        self.hooks: Hooks | None = None
        self.calls = self.attempts = self.failed = 0
        self._on_project = on_project
        self._project = None if find_project is None else SingleFlight(find_project, self.start)
        self._retry_budget = _RETRY_BUDGET
        self._tasks = BackgroundTasks("bms_async client")
        self._holds_transport = False
        self._with_errors_to_log: WeakSet[HasErrorToLog] = WeakSet()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self.open_calls is not None

    async def open(self) -> None:
        """Open the transport."""
        await call_foreign("the transport's open()", self.transport.open)
        self._holds_transport = True
        await self._tasks.open()
        self.open_calls = set()
        if isinstance(self.auth, SendingAuth):
            call_foreign_now("the credentials' bind()", self.auth.bind, self.send, self.start)
        if self.hooks is not None and isinstance(self.auth, ObservableAuth):
            call_foreign_now("the credentials' observe()", self.auth.observe, self.hooks.emit)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts, name: str | None = None) -> None:
        """Start work that outlives the call that asked for it; closing the client cancels it.

        Raises:
            ClientClosedError: The client is not open.
        """
        self.check_open()
        self._tasks.start(function, *args, name=name)

    def check_open(self) -> None:
        """Check that the client is open, and that the caller is on the event loop that it was opened on.

        Raises:
            ClientClosedError: One of them is not so.
        """
        if self.open_calls is None or not self._tasks.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self._tasks.loop, "the client")

    def begin_call(self, call: OpenCall, operation: str) -> set[OpenCall]:
        """Count a call, and return the set that it is in until it ends.

        Raises:
            ClientClosedError: The client is not open.
        """
        if self.open_calls is None:
            raise ClientClosedError(f"{operation}: the client is not open; use it inside `async with`")
        self.calls += 1
        self.open_calls.add(call)
        return self.open_calls

    def make_hook_events(self, operation: str, *, is_poll: bool = False) -> CallHookEvents | None:
        """Return the emitter of a call's hook events; None without hooks."""
        if self.hooks is None:
            return None
        from .hook_events import CallHookEvents  # noqa: PLC0415 - most clients have no hooks

        return CallHookEvents(self.hooks.emit, self.redact, operation, is_poll=is_poll)

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from a background task of the client, or from one that sends its requests."""
        sends = isinstance(self.transport, TaskRunningTransport) and self.transport.has_current_task
        return self._tasks.has_current_task or sends

    def check_closing(self) -> None:
        """Check that the caller is on the event loop that the client was opened on, unless that loop is closed.

        Raises:
            ClientClosedError: The caller is on another event loop.
        """
        loop = self._tasks.loop
        if loop is not None and not loop.is_closed():
            check_loop(loop, "the client")

    async def stop_work(self) -> None:
        """End the background tasks: fleet runs report what they know, prefetched pages are dropped."""
        await self._tasks.aclose()

    async def aclose(self) -> None:
        """End every call in progress with a `ClientClosedError`, and release the transport."""
        await self.stop_work()
        if self.open_calls is not None and isinstance(self.auth, SendingAuth):
            _call_quietly("the credentials' unbind()", self.auth.unbind, self.send)
        if self.open_calls is not None and self.hooks is not None and isinstance(self.auth, ObservableAuth):
            _call_quietly("the credentials' unobserve()", self.auth.unobserve, self.hooks.emit)
        # An attribute, so that a second aclose() after a cancelled one finds the rest.
        self._ending += self.open_calls or ()
        self.open_calls = None
        while self._ending:
            for call in self._ending[-_YIELD_EVERY:]:
                call.end()
            del self._ending[-_YIELD_EVERY:]
            await anyio.lowlevel.cancel_shielded_checkpoint()
        for item in tuple(self._with_errors_to_log):
            item.log_error()
        if self._holds_transport:
            self._holds_transport = False
            await call_foreign("the transport's aclose()", self.transport.aclose)

    def log_error_on_close(self, item: HasErrorToLog) -> None:
        """Have an error that was never retrieved logged when the client is closed; only a weak reference is kept."""
        self._with_errors_to_log.add(item)

    def statistics(self) -> SessionStatistics:
        """Return the counters."""
        return SessionStatistics(
            open_calls=len(self.open_calls or ()),
            calls=self.calls,
            attempts=self.attempts,
            failed=self.failed,
            retries_left=self._retry_budget,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request as it is, for credentials that request a token from a service.

        Raises:
            TransportError: No response came.
            ClientClosedError: The client is not open.
        """
        if self.open_calls is None:
            raise ClientClosedError(f"{request.operation}: the client is not open")
        self.attempts += 1
        slot = await self.limits[request.operation].acquire()
        events = self.make_hook_events(request.operation)
        if events is None:
            return await self._submit(request, slot).wait()
        return await self._send_with_events(request, slot, events)

    def _submit(self, request: HttpRequest, slot: Slot) -> PendingRequest:
        try:
            pending = call_foreign_now("the transport's submit()", self.transport.submit, request)
        except BaseException:
            slot.refund()
            raise
        pending.add_done_callback(lambda pending: slot.release() if pending.sent else slot.refund())
        return pending

    async def _send_with_events(self, request: HttpRequest, slot: Slot, events: CallHookEvents) -> HttpResponse:
        events.on_start(
            method=request.method,
            template=urlsplit(request.url).path,
            parameters={},
            address=request.url.partition("?")[0],
            project_id=self.project_id,
        )
        response = await reporting_failure(self._exchange(request, slot, events), events.on_end)
        if response.status >= 300:  # noqa: PLR2004 - not a 2xx
            refusal = read_error(request.operation, response, redact=self.redact)
            events.on_failure(refusal)
            events.on_end(refusal)
        else:
            events.on_response(response)
            events.on_end()
        return response

    async def _exchange(self, request: HttpRequest, slot: Slot, events: CallHookEvents) -> HttpResponse:
        pending = self._submit(request, slot)
        events.on_sent(request, 0.0, None)
        return await reporting_failure(pending.wait(), events.on_failure)

    def redact(self, text: str) -> str:
        """Mask the secrets of the credentials in a text; all of the text if the credentials fail to do so."""
        return redact_safely(self.auth.redact, text)

    def spend_retry(self) -> bool:
        """Pay for a retry; return False if the budget is used up."""
        if self._retry_budget < _RETRY_COST:
            return False
        self._retry_budget -= _RETRY_COST
        return True

    def earn_retry(self) -> None:
        """Pay a part of a retry back into the budget, for a call that succeeded."""
        if self._retry_budget < _RETRY_BUDGET:
            self._retry_budget = min(_RETRY_BUDGET, self._retry_budget + _RETRY_REFUND)

    def needs_project(self, operation: Operation[Any]) -> bool:
        """Return whether a call needs the project's id: for its path, or to be counted with others of the project."""
        return "{project_id}" in operation.path or self.limits._counts_for(operation.name)  # noqa: SLF001

    async def find_project_id(self, operation: str) -> str:
        """Return the project's id, for a call that needs it.

        Raises:
            ConfigurationError: Neither the client nor its credentials know the project.
        """
        project_id: str | None = None
        if isinstance(self.auth, ScopedAuth):
            project_id = await call_foreign("the credentials' find_project_id()", self.auth.find_project_id)
        if project_id is None:
            if self._project is None:
                raise ConfigurationError(
                    f"{operation}: the client has no project_id, and its credentials do not know one; "
                    "give project_id or project_name"
                )
            project_id = await self._project.get()
        if self._on_project is not None and self.is_open:
            self.limits = self._on_project(project_id)
        return project_id


def _call_quietly(what: str, function: Callable[[*Ts], object], *args: *Ts) -> None:
    """Call code of the credentials while closing; its errors are logged and do not stop the closing."""
    try:
        call_foreign_now(what, function, *args)
    except Exception:  # noqa: BLE001 - credentials may be the application's, and raise anything
        _log.exception("%s raised while the client was closed", what)
