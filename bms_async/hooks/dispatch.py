"""Calling hooks: in order, synchronously, and such that no error of theirs reaches the call that emits the event."""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import TypeAlias

from bms_async._foreign import call_foreign_now
from bms_async.errors import ConfigurationError, ForeignCodeError

from .events import AttemptEnded, CallEnded, HookEvent, RunEnded

_log = logging.getLogger("bms_async.hooks")

Hook: TypeAlias = Callable[[HookEvent], object]
"""A function that is called with each event; its result is ignored."""

_RULE = "expected a function that takes one event, or an iterable of such functions"

_END_EVENTS = frozenset({AttemptEnded, CallEnded, RunEnded})

_calls = itertools.count(1)
_runs = itertools.count(1)

current_run: ContextVar[int | None] = ContextVar("bms_async run", default=None)
"""The number of the fleet run that calls in this context belong to."""


def next_call_number() -> int:
    """Return a call number that is unique in this process."""
    return next(_calls)


def next_run_number() -> int:
    """Return a fleet run number that is unique in this process."""
    return next(_runs)


def read_hooks(given: Hook | Iterable[Hook]) -> tuple[Hook, ...]:
    """Return the hooks that a client was given, as a tuple.

    Raises:
        ConfigurationError: One of them cannot be called, or would have to be awaited.
    """
    if not callable(given) and not isinstance(given, Iterable):
        raise ConfigurationError(f"hooks={type(given).__name__}: {_RULE}")
    hooks = (given,) if callable(given) else tuple(given)
    for index, hook in enumerate(hooks):
        name = "hooks" if callable(given) else f"hooks[{index}]"
        if not callable(hook):
            raise ConfigurationError(f"{name}={type(hook).__name__}: {_RULE}")
        if isinstance(hook, type):
            raise ConfigurationError(
                f"{name}={hook.__name__}: expected a function, got a class; give {hook.__name__}(...)"
            )
        called = hook if inspect.isroutine(hook) else type(hook).__call__
        if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(called):
            raise ConfigurationError(
                f"{name}={getattr(hook, '__name__', type(hook).__name__)}: expected a plain function, got a coroutine "
                "function; have a plain one put the event into a queue, and a task of yours read it"
            )
    return hooks


class Hooks:
    """The hooks of a client.

    Args:
        hooks: In the order in which they are called. For events that end something it is reversed, so that hooks nest
            around a call as context managers do.
    """

    __slots__ = ("_failed", "_hooks", "_order", "_reversed_order")

    def __init__(self, hooks: tuple[Hook, ...]) -> None:
        self._hooks = hooks
        self._order = range(len(hooks))
        self._reversed_order = self._order[::-1]
        self._failed: set[tuple[int, str]] = set()

    def __repr__(self) -> str:
        return f"<Hooks: {len(self._hooks)}>"

    def emit(self, event: HookEvent) -> None:
        """Call all hooks with an event; what one of them raises is logged, and the next one is called nevertheless."""
        for index in self._reversed_order if type(event) in _END_EVENTS else self._order:
            try:
                result = call_foreign_now("a hook", self._hooks[index], event)
                if result is not None and inspect.iscoroutine(result):
                    _reject_coroutine(result)
            except Exception as error:  # noqa: BLE001 - a hook observes, and must not fail the call
                self._log_error(index, event, error)

    def _log_error(self, index: int, event: HookEvent, error: Exception) -> None:
        name = type(event).__name__
        # At ERROR once for each kind of event: a broken hook may raise on a hundred thousand outcomes.
        level = logging.DEBUG if (index, name) in self._failed else logging.ERROR
        self._failed.add((index, name))
        raised = error.__cause__ if isinstance(error, ForeignCodeError) else error
        _log.log(level, "hook %d raised on %s; it still gets later events", index + 1, name, exc_info=raised)


def _reject_coroutine(coroutine: Coroutine[object, object, object]) -> None:
    coroutine.close()
    raise TypeError("the hook returned a coroutine, which is never awaited; put the event into a queue instead")
