"""Telling hooks: in order, at once, and so that no fault of theirs reaches the call that they are told of."""

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
"""What is called with each event; what it returns is not looked at."""

_WANTED = "a function that takes one event, or several of them in an iterable"

_END_EVENTS = frozenset({AttemptEnded, CallEnded, RunEnded})

_calls = itertools.count(1)
_runs = itertools.count(1)

current_run: ContextVar[int | None] = ContextVar("bms_async run", default=None)
"""The fleet run that calls of this context are made for."""


def next_call_number() -> int:
    """Return a number that no other call of this process has."""
    return next(_calls)


def next_run_number() -> int:
    """Return a number that no other fleet run of this process has."""
    return next(_runs)


def read_hooks(given: Hook | Iterable[Hook]) -> tuple[Hook, ...]:
    """Return the hooks that a client was given.

    Raises:
        ConfigurationError: One of them cannot be called, or would have to be awaited.
    """
    if not callable(given) and not isinstance(given, Iterable):
        raise ConfigurationError(f"hooks={type(given).__name__}: {_WANTED}")
    hooks = (given,) if callable(given) else tuple(given)
    for place, hook in enumerate(hooks):
        name = "hooks" if callable(given) else f"hooks[{place}]"
        if not callable(hook):
            raise ConfigurationError(f"{name}={type(hook).__name__}: {_WANTED}")
        if isinstance(hook, type):
            raise ConfigurationError(f"{name}={hook.__name__}: a class; give {hook.__name__}(...), an object of it")
        called = hook if inspect.isroutine(hook) else type(hook).__call__
        if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(called):
            raise ConfigurationError(
                f"{name}={getattr(hook, '__name__', type(hook).__name__)}: a hook is called and not awaited; "
                "have a plain function put the event into a queue, and a task of yours read it"
            )
    return hooks


class Hooks:
    """The hooks of a client.

    Args:
        hooks: In the order in which they are told; of an end they are told in the reverse. So they nest, each with what
            it makes current round a call, as context managers do.
    """

    __slots__ = ("_backward", "_blamed", "_forward", "_hooks")

    def __init__(self, hooks: tuple[Hook, ...]) -> None:
        self._hooks = hooks
        self._forward = range(len(hooks))
        self._backward = self._forward[::-1]
        self._blamed: set[tuple[int, str]] = set()

    def __repr__(self) -> str:
        return f"<Hooks: {len(self._hooks)}>"

    def emit(self, event: HookEvent) -> None:
        """Tell all hooks of an event; what one of them raises is logged, and the next one is told all the same."""
        for place in self._backward if type(event) in _END_EVENTS else self._forward:
            try:
                answer = call_foreign_now("a hook", self._hooks[place], event)
                if answer is not None and inspect.iscoroutine(answer):
                    _refuse(answer)
            except Exception as error:  # noqa: BLE001 - a hook is an onlooker, and no fault of the call
                self._log_error(place, event, error)

    def _log_error(self, place: int, event: HookEvent, error: Exception) -> None:
        name = type(event).__name__
        # Once for each kind of event: a hook that is broken is told of a hundred thousand outcomes all the same.
        level = logging.DEBUG if (place, name) in self._blamed else logging.ERROR
        self._blamed.add((place, name))
        raised = error.__cause__ if isinstance(error, ForeignCodeError) else error
        _log.log(
            level, "hook %d raised on %s, and is told of later events all the same", place + 1, name, exc_info=raised
        )


def _refuse(answer: Coroutine[object, object, object]) -> None:
    answer.close()
    raise TypeError("the hook returned a coroutine, which nobody awaits; put the event into a queue instead")
