"""The session: makes the calls of the SDK's resources."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from bms_async.limits import Lane, Limits
from bms_async.models import Job, Server
from bms_async.models.free_text import map_free_text
from bms_async.redaction import mask_when_shown
from bms_async.wire import Operation

from .arguments import CallArguments, CallKeywords
from .call import Call
from .core import Core, HasErrorToLog
from .options import CallOptions
from .probe import Probe, current_probe

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .hook_events import CallHookEvents

T = TypeVar("T")
Described = TypeVar("Described", Job, Server)
Ts = TypeVarTuple("Ts")


class Session:
    """Makes calls with one set of options; the sessions of a client share one core.

    Args:
        core: The state that all calls of the client share.
        options: How this session makes its calls.
        polls: Whether the client makes these calls of its own accord, to learn the state of a job or a server.
    """

    __slots__ = ("_core", "_polls", "options")

    def __init__(self, core: Core, options: CallOptions, *, polls: bool = False) -> None:
        self._core = core
        self._polls = polls
        self.options = options

    def with_options(self, options: CallOptions) -> Session:
        """Return a session of the same client with other options."""
        return Session(self._core, options, polls=self._polls)

    def for_polling(self) -> Session:
        """Return a session whose calls the hooks see as polls, made by the client of its own accord."""
        return Session(self._core, self.options, polls=True)

    def unbounded(self) -> Session:
        """Return a session whose calls wait for as long as the limits require."""
        return self.with_options(self.options.unbounded())

    @property
    def limits(self) -> Limits:
        """The limits that calls are kept within."""
        return self._core.limits

    @property
    def random(self) -> Random:
        """The client's source of jitter."""
        return self._core.random

    @property
    def hooks(self) -> Hooks | None:
        """The client's hooks; None without any."""
        return self._core.hooks

    @property
    def project_id(self) -> str | None:
        """The project's id; None until it is known."""
        return self._core.project_id

    async def find_project_id(self, operation: str) -> str:
        """Return the project's id, which is looked up if it is not known yet.

        Args:
            operation: What needs it, for errors.

        Raises:
            ConfigurationError: Neither the client nor its credentials know the project.
            CallError: It could not be looked up.
        """
        if self._core.project_id is None:
            self._core.project_id = await self._core.find_project_id(operation)
        return self._core.project_id

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, None]], *args: *Ts, name: str | None = None) -> None:
        """Start work that outlives the call that asked for it; closing the client cancels it.

        Raises:
            ClientClosedError: The client is not open.
        """
        self._core.start(function, *args, name=name)

    def log_error_on_close(self, item: HasErrorToLog) -> None:
        """Have an error that was never retrieved logged when the client is closed; only a weak reference is kept."""
        self._core.log_error_on_close(item)

    def check_open(self) -> None:
        """Check that the client is open, and that the caller is on the event loop that it was opened on.

        Raises:
            ClientClosedError: One of them is not so.
        """
        self._core.check_open()

    def call(
        self, operation: Operation[T], *, lane: Lane = Lane.INTERACTIVE, **arguments: Unpack[CallKeywords]
    ) -> Coroutine[Any, Any, T]:
        """Make one call and return its result, once it is awaited.

        Args:
            operation: The operation to call.
            lane: The lane that the call waits in, unless the options set one.
            **arguments: See `CallKeywords`.

        Raises:
            ApiError: The cloud refused.
            TransportError: No response came.
            DecodeError: The response cannot be read.
            WaitTooLongError: The limit would have had it wait for longer than the options allow.
            ClientClosedError: The client is not open, or was closed before the response arrived.
        """
        options = self.options
        made = CallArguments(**arguments)
        probe = current_probe.get()
        if options.lane is not None:
            lane = options.lane
        elif probe is not None and lane is Lane.INTERACTIVE:
            lane = probe.lane
        if self._core.hooks is not None:
            return self._call_with_events(operation, made, lane, probe)
        # Without a coroutine of its own, for this is the way of every call.
        return Call(self._core, operation, made, options, lane=lane, probe=probe).run()

    async def _call_with_events(
        self, operation: Operation[T], arguments: CallArguments, lane: Lane, probe: Probe | None
    ) -> T:
        core = self._core
        # A call that was never begun has no events.
        events = self._start_events(operation, arguments.path or {}, lane) if core.is_open else None
        work = Call(core, operation, arguments, self.options, lane=lane, probe=probe, events=events).run()
        return await (work if events is None else events.wrap(work))

    def _start_events(self, operation: Operation[Any], path: Mapping[str, str], lane: Lane) -> CallHookEvents | None:
        events = self._core.make_hook_events(operation.name, is_poll=self._polls)
        if events is not None:
            events.on_start(
                method=operation.method,
                # `ClientView.request` has no title, and its path is the caller's own, which may hold anything.
                template=operation.path if operation.title else None,
                parameters=dict(path),
                address=self._core.endpoints[operation.service],
                project_id=self._core.project_id,
                lane=lane,
            )
        return events

    def redact(self, text: str) -> str:
        """Return a text without the secrets of the client's credentials."""
        return self._core.redact(text)

    def with_masked_text(self, described: Described) -> Described:
        """Return a job or a server whose free texts show no credentials when they are printed.

        The texts themselves stay what the cloud sent.
        """
        return map_free_text(described, lambda text: mask_when_shown(text, self._core.redact))
