"""The session: what the rest of the SDK makes its calls with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio

from bms_async.errors import CallError, CallTimeoutError, ClientClosedError
from bms_async.limits import Lane, Limits
from bms_async.models import Job, Server
from bms_async.models.free_text import map_free_text
from bms_async.redaction import mask, mask_when_shown
from bms_async.wire import Operation, Query, RetryPolicy, build_request

from .call import Call
from .core import Core, Unheard
from .options import CallOptions

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .hook_events import CallHookEvents

T = TypeVar("T")
Told = TypeVar("Told", Job, Server)
Ts = TypeVarTuple("Ts")


class Session:
    """Makes calls, each in the way that its options say; many of them share one core.

    Args:
        core: What the calls of a client share.
        options: How these are made.
        polls: Whether they are made of the client's own accord, to learn how far something is.
    """

    __slots__ = ("_core", "_polls", "options")

    def __init__(self, core: Core, options: CallOptions, *, polls: bool = False) -> None:
        self._core = core
        self._polls = polls
        self.options = options

    def with_options(self, options: CallOptions) -> Session:
        """Return a session of the same client that makes its calls in another way."""
        return Session(self._core, options, polls=self._polls)

    def for_polling(self) -> Session:
        """Return a session for calls that nobody asked for; the hooks are told that they are such."""
        return Session(self._core, self.options, polls=True)

    def unbounded(self) -> Session:
        """Return a session whose calls wait as long as the limits ask, for work that is meant to."""
        return self.with_options(self.options.unbounded())

    @property
    def limits(self) -> Limits:
        """The limits that calls are kept within."""
        return self._core.limits

    @property
    def hooks(self) -> Hooks | None:
        """Who is told of all that happens; None where nobody is."""
        return self._core.hooks

    @property
    def project_id(self) -> str | None:
        """The project; None as long as nobody has told it."""
        return self._core.project_id

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts, name: str | None = None) -> None:
        """Start work that outlives the call that asked for it; it is cancelled when the client is closed.

        Raises:
            ClientClosedError: The client is not open.
        """
        self._core.start(function, *args, name=name)

    def listen(self, unheard: Unheard) -> None:
        """Have something say at the latest when the client is closed what nobody has heard; it is not kept for that."""
        self._core.listen(unheard)

    def check_open(self) -> None:
        """Refuse what needs an open client, and the event loop that it was opened on.

        Raises:
            ClientClosedError: The client is not open, or the caller is not on its event loop.
        """
        self._core.check_open()

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
        secrets: Sequence[str | None] = (),
    ) -> T:
        """Make one call and return what it answered.

        Args:
            operation: What is called.
            path: A value for each part of its path but the project.
            query: Its query.
            body: Its body.
            headers: Headers that this call needs beside the operation's own.
            lane: Who goes first when calls must wait, unless the options say.
            retry: How it is tried again, where that must differ from what the options say.
            on_send: Called when the request is handed to the transport: from then on the cloud may act on it.
            on_refused: Called when it surely did not act on any try so far, and the call is to be tried again.
            secrets: What is sent and must not be told when the cloud or a proxy echoes it; None is nothing.

        Raises:
            ApiError: The cloud refused.
            TransportError: No answer came.
            DecodeError: The answer cannot be read.
            WaitTooLongError: The limit would have had it wait for longer than the options allow.
            ClientClosedError: The client is not open, or was closed before the answer came.
        """
        core = self._core
        if core.scopes is None:
            raise ClientClosedError(f"{operation.name}: the client is not open; use it inside `async with`")
        core.calls += 1
        lane = lane if self.options.lane is None else self.options.lane
        news = None if core.hooks is None else self._hook_events(operation, path or {}, lane)
        work = self._make(
            operation,
            core.scopes,
            news,
            path=path,
            query=query,
            body=body,
            headers=headers,
            lane=lane,
            retry=retry,
            on_send=on_send,
            on_refused=on_refused,
            secrets=secrets,
        )
        return await (work if news is None else news.wrap(work))

    async def _make(
        self,
        operation: Operation[T],
        scopes: set[anyio.CancelScope],
        news: CallHookEvents | None,
        *,
        path: Mapping[str, str] | None,
        query: Query | None,
        body: object,
        headers: Mapping[str, str] | None,
        lane: Lane,
        retry: RetryPolicy | None,
        on_send: Callable[[], None] | None,
        on_refused: Callable[[], None] | None,
        secrets: Sequence[str | None],
    ) -> T:
        core, options = self._core, self.options
        seconds = options.total_timeout
        ends_at = math.inf if seconds is None else asyncio.get_running_loop().time() + seconds
        call: Call[T] | None = None
        with anyio.CancelScope(deadline=ends_at) as scope:
            scopes.add(scope)
            try:
                if core.project_id is None and "{project_id}" in operation.path:
                    core.project_id = await core.find_project_id(operation.name)
                request = build_request(
                    operation,
                    endpoint=core.endpoints[operation.service],
                    path={"project_id": core.project_id or "", **(path or {})},
                    query=query,
                    body=body,
                    headers=headers,
                    user_agent=core.user_agent,
                    timeout=options.timeout,
                )
                call = Call(
                    core,
                    operation,
                    request,
                    lane=lane,
                    policy=retry or options.retry,
                    max_wait=options.max_wait,
                    ends_at=ends_at,
                    on_send=on_send,
                    on_refused=on_refused,
                    redact=self._redactor(secrets),
                    news=news,
                )
                return await call.run()
            except CallError:
                core.failed += 1
                raise
            finally:
                scopes.discard(scope)
        if core.scopes is None:
            raise ClientClosedError(f"{operation.name}: the client was closed before the answer came")
        core.failed += 1
        if call is not None:
            raise call.deadline_error(seconds)
        raise CallTimeoutError(
            f"the project was not found within {seconds} s",
            maybe_delivered=False,
            operation=operation.name,
        )

    def with_masked_text(self, told: Told) -> Told:
        """Return what the cloud told of a job or a server, such that its words show no credentials when they are told.

        The words stay what the cloud sent.

        Args:
            told: A job or a server.
        """
        return map_free_text(told, lambda text: mask_when_shown(text, self._core.redact))

    def _hook_events(self, operation: Operation[Any], path: Mapping[str, str], lane: Lane) -> CallHookEvents:
        from .hook_events import CallHookEvents  # noqa: PLC0415 - most clients have no hooks

        return CallHookEvents(
            self._core,
            operation.name,
            method=operation.method,
            # What is asked for by its path has no title, and that path may hold anything.
            template=operation.path if operation.title else None,
            parameters=dict(path),
            address=self._core.endpoints[operation.service],
            lane=lane,
            is_poll=self._polls,
        )

    def _redactor(self, secrets: Sequence[str | None]) -> Callable[[str], str]:
        redact = self._core.redact
        known = [secret for secret in secrets if isinstance(secret, str)]
        return (lambda text: mask(redact(text), *known)) if known else redact
