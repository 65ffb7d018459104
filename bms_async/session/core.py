"""What all calls of a client share: its connections, its credentials, its limits, its budget of retries."""

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

from bms_async._foreign import call_foreign, call_foreign_now
from bms_async._single_flight import SingleFlight
from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.auth import Auth, ObservableAuth, ScopedAuth, SendingAuth
from bms_async.errors import ClientClosedError, ConfigurationError
from bms_async.limits import Limits, Slot
from bms_async.redaction import redact_safely
from bms_async.transport import OwningTransport, PendingRequest, SendQueue, TaskRunningTransport, Transport
from bms_async.wire import HttpRequest, HttpResponse, Service, read_error

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("bms_async.session")

_CONNECTIONS = 64
_YIELD_EVERY = 200
_RETRY_COST = 1.0
_RETRY_REFUND = 0.1


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has done.

    Attributes:
        open_calls: Calls under way, waiting for their slot included.
        calls: Calls begun.
        attempts: Requests sent for them.
        failed: Calls that ended in an error.
        retries_left: What is left of the budget that all retries are paid from.
    """

    open_calls: int
    calls: int
    attempts: int
    failed: int
    retries_left: float


class Unheard(Protocol):
    """What may have an error that nobody came for."""

    def log_error(self) -> None:
        """Log it if there is one, and nobody waits for it."""


class Core:
    """What a client's calls share, opened and closed with the client.

    Args:
        endpoints: The address of each service.
        project_id: The project; None has the credentials tell it.
        find_project: Looks the project up where they cannot; it is asked once, when a call needs it.
        on_project: Called with the project's id when it was not known before; it returns the limits of that project.
        retry_budget: How many retries may be made in a row without a success; a success earns a tenth of one back. In
            an outage that is what keeps retries from multiplying the traffic.
        random: What draws the delays between tries.

    Attributes:
        scopes: Of the calls under way; None while the client is not open.
        hooks: Who is told of all that happens; None where nobody is, which is settled before the client is open.
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
        retry_budget: float = 500.0,
        find_project: Callable[[], Awaitable[str]] | None = None,
        on_project: Callable[[str], Limits] | None = None,
        random: Random | None = None,
    ) -> None:
        self.auth = auth
        self.limits = limits
        self.endpoints = endpoints
        self.project_id = project_id
        self.user_agent = user_agent
        self.random = random or Random()  # noqa: S311 - jitter, not a secret
        self.transport: OwningTransport | SendQueue = (
            transport if isinstance(transport, OwningTransport) else SendQueue(transport.send, connections=_CONNECTIONS)
        )
        self.scopes: set[anyio.CancelScope] | None = None
        self._ending: list[anyio.CancelScope] = []
        self.hooks: Hooks | None = None
        self.calls = self.attempts = self.failed = 0
        self._on_project = on_project
        self._project = None if find_project is None else SingleFlight(find_project, self.start)
        self._budget = self._full_budget = retry_budget
        self._owner = BackgroundTasks("bms_async client")
        self._holds_transport = False
        self._unheard: WeakSet[Unheard] = WeakSet()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self.scopes is not None

    async def open(self) -> None:
        """Open the transport."""
        await call_foreign("the transport's open()", self.transport.open)
        self._holds_transport = True
        await self._owner.open()
        self.scopes = set()
        if isinstance(self.auth, SendingAuth):
            call_foreign_now("the credentials' bind()", self.auth.bind, self.send, self.start)
        if self.hooks is not None and isinstance(self.auth, ObservableAuth):
            call_foreign_now("the credentials' observe()", self.auth.observe, self.hooks.emit)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts, name: str | None = None) -> None:
        """Start work that outlives the call that asked for it; it is cancelled when the client is closed.

        Raises:
            ClientClosedError: The client is not open.
        """
        self.check_open()
        self._owner.start(function, *args, name=name)

    def check_open(self) -> None:
        """Refuse what needs an open client, and the event loop that it was opened on.

        Raises:
            ClientClosedError: The client is not open, or the caller is not on its event loop.
        """
        if self.scopes is None or not self._owner.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self._owner.loop, "the client")

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from work that outlives its call, or from what sends requests."""
        sends = isinstance(self.transport, TaskRunningTransport) and self.transport.has_current_task
        return self._owner.has_current_task or sends

    def check_closing(self) -> None:
        """Refuse to be closed from another event loop than the one that it was opened on, as long as that is there.

        Raises:
            ClientClosedError: The caller is on another event loop.
        """
        loop = self._owner.loop
        if loop is not None and not loop.is_closed():
            check_loop(loop, "the client")

    async def stop_work(self) -> None:
        """End what outlives its call: fleet runs tell what they know, pages ahead are dropped."""
        await self._owner.aclose()

    async def aclose(self) -> None:
        """End every call that is under way with `ClientClosedError`, and let the transport go."""
        await self.stop_work()
        if self.scopes is not None and isinstance(self.auth, SendingAuth):
            _call_quietly("the credentials' unbind()", self.auth.unbind, self.send)
        if self.scopes is not None and self.hooks is not None and isinstance(self.auth, ObservableAuth):
            _call_quietly("the credentials' unobserve()", self.auth.unobserve, self.hooks.emit)
        # Kept where one that is called again, after it was cancelled, finds what is left.
        self._ending += self.scopes or ()
        self.scopes = None
        while self._ending:
            for scope in self._ending[-_YIELD_EVERY:]:
                scope.cancel()
            del self._ending[-_YIELD_EVERY:]
            await anyio.lowlevel.cancel_shielded_checkpoint()
        for each in tuple(self._unheard):
            each.log_error()
        # Others may share the transport: it is let go once, and only by who has opened it.
        if self._holds_transport:
            self._holds_transport = False
            await call_foreign("the transport's aclose()", self.transport.aclose)

    def listen(self, unheard: Unheard) -> None:
        """Have something say at the latest when the client is closed what nobody has heard."""
        self._unheard.add(unheard)

    def statistics(self) -> SessionStatistics:
        """Tell what was done."""
        return SessionStatistics(
            open_calls=len(self.scopes or ()),
            calls=self.calls,
            attempts=self.attempts,
            failed=self.failed,
            retries_left=self._budget,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request as it is, for credentials that have to ask a service for a token.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The client is not open.
        """
        if self.scopes is None:
            raise ClientClosedError(f"{request.operation}: the client is not open")
        self.attempts += 1
        slot = await self.limits[request.operation].acquire()
        if self.hooks is None:
            return await self._submit(request, slot).wait()
        return await self._send_with_events(request, slot)

    def _submit(self, request: HttpRequest, slot: Slot) -> PendingRequest:
        try:
            pending = call_foreign_now("the transport's submit()", self.transport.submit, request)
        except BaseException:
            slot.refund()
            raise
        pending.add_done_callback(lambda pending: slot.release() if pending.sent else slot.refund())
        return pending

    async def _send_with_events(self, request: HttpRequest, slot: Slot) -> HttpResponse:
        from .hook_events import CallHookEvents  # noqa: PLC0415 - most clients have no hooks

        news = CallHookEvents(
            self,
            request.operation,
            method=request.method,
            template=urlsplit(request.url).path,
            parameters={},
            address=request.url.partition("?")[0],
        )
        failure: BaseException | None = None
        pending: PendingRequest | None = None
        try:
            pending = self._submit(request, slot)
            news.on_sent(request, 0.0, None)
            response = await pending.wait()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failure = error
        if failure is None and response.status >= 300:  # noqa: PLR2004 - not a 2xx
            refusal = read_error(request.operation, response, redact=self.redact)
            news.on_failure(refusal, None)
            news.on_end(error=refusal)
        elif failure is None:
            news.on_response(response)
            news.on_end()
        else:
            if pending is not None:
                news.on_failure(failure, None)
            news.on_end(error=failure)
            try:
                raise failure
            finally:
                # It has a traceback, which has this frame: a cycle that only the collector would end.
                del failure
        return response

    def redact(self, text: str) -> str:
        """Return a text without any secret of the credentials; all masked where they fail to do that."""
        return redact_safely(self.auth.redact, text)

    def spend_retry(self) -> bool:
        """Pay for a retry; False when nothing is left."""
        if self._budget < _RETRY_COST:
            return False
        self._budget -= _RETRY_COST
        return True

    def earn_retry(self) -> None:
        """Have a success pay a part of a retry back."""
        if self._budget < self._full_budget:
            self._budget = min(self._full_budget, self._budget + _RETRY_REFUND)

    async def find_project_id(self, operation: str) -> str:
        """Return the project's id, for a call that needs it.

        Raises:
            ConfigurationError: Nobody can tell it.
        """
        project_id: str | None = None
        if isinstance(self.auth, ScopedAuth):
            project_id = await call_foreign("the credentials' find_project_id()", self.auth.find_project_id)
        if project_id is None:
            if self._project is None:
                raise ConfigurationError(
                    f"{operation}: the client has no project_id, and its credentials cannot tell one; "
                    "give project_id or project_name"
                )
            project_id = await self._project.get()
        if self._on_project is not None and self.is_open:
            self.limits = self._on_project(project_id)
        return project_id


def _call_quietly(what: str, function: Callable[[*Ts], object], *args: *Ts) -> None:
    """Call what credentials do at the client's end; what it raises must not keep the connections open."""
    try:
        call_foreign_now(what, function, *args)
    except Exception:  # noqa: BLE001 - credentials may be the application's, and raise anything
        _log.exception("%s raised while the client was closed", what)
