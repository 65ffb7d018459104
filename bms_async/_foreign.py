"""Calling foreign code: callbacks, credentials, sources of ids, transports, hooks, stores.

Foreign code may raise anything. Whatever it raises is an error of that one call, and never ends a watcher, a run or a
batch. Two kinds of exceptions would: a `CancelledError`, which a task group takes for the end of its task, and a
`SystemExit`, which ends the event loop. So each call of foreign code goes through one of the functions here. They let
through the cancellation of the current task, and Ctrl-C. Any other exception that is not an `Exception` becomes a
`ForeignCodeError`, with its cause.

Rejected: checking the exception's type wherever one is caught. That was done in six places and missing in four.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar, TypeVarTuple, overload

from bms_async.errors import ForeignCodeError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_END = object()


def is_own_cancellation(error: BaseException) -> bool:
    """Return whether an error is the cancellation of the current task, and not of something that it waited for."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def contain(what: str, error: BaseException) -> Exception:
    """Turn an exception that foreign code raised into an error that ends nothing but its own call.

    Args:
        what: The foreign code, such as ``on_job``, for the error's text.
        error: The exception, which is not this task's own cancellation.

    Returns:
        The error itself if it is an `Exception`, else a `ForeignCodeError` that has it as its cause.

    Raises:
        KeyboardInterrupt: The exception is one: it belongs to the program and not to the foreign code.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, Exception):
        return error
    contained = ForeignCodeError(f"{what} raised {type(error).__name__}, which is not an error: it ended nothing else")
    contained.__cause__ = error
    return contained


@overload
async def call_foreign(what: str, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T: ...


@overload
async def call_foreign(what: str, function: Callable[[*Ts], T], *args: *Ts) -> T: ...


async def call_foreign(what: str, function: Callable[[*Ts], object], *args: *Ts) -> object:
    """Call foreign code, and await its result if that is awaitable.

    Args:
        what: The foreign code, for an error's text.
        function: A function or a coroutine function.
        *args: Its arguments.

    Raises:
        CancelledError: The current task was cancelled.
        Exception: The code raised it.
        ForeignCodeError: The code raised something that is not an `Exception`.
    """
    try:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result
    except Exception:
        raise
    except BaseException as error:
        if is_own_cancellation(error):
            raise
        raise contain(what, error) from error


def call_foreign_now(what: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call foreign code that is not awaited.

    Args:
        what: The foreign code, for an error's text.
        function: The function.
        *args: Its arguments.

    Raises:
        Exception: The code raised it.
        ForeignCodeError: The code raised something that is not an `Exception`.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        # A CancelledError too: a function that never waits cannot have been cancelled.
        raise contain(what, error) from error


def iterate_foreign(what: str, iterator: Iterator[T]) -> Iterator[T]:
    """Iterate over foreign items, with `call_foreign_now` around each step.

    Args:
        what: The source of the items, for an error's text.
        iterator: An iterator, and not just an iterable: making one is foreign code too.
    """
    while (item := call_foreign_now(what, next, iterator, _END)) is not _END:
        yield item  # type: ignore[misc]  # it is not the sentinel


async def iterate_foreign_async(what: str, iterator: AsyncIterator[T]) -> AsyncIterator[T]:
    """Iterate over foreign items that have to be awaited, with `call_foreign` around each step.

    Args:
        what: The source of the items, for an error's text.
        iterator: An async iterator; closing it is left to the caller.
    """
    while True:
        try:
            item = await call_foreign(what, iterator.__anext__)
        except StopAsyncIteration:
            return
        yield item


async def reporting_failure(work: Awaitable[T], report: Callable[[BaseException], object]) -> T:
    """Await `work`; if it fails, report the failure outside of any `except` block, and raise it again.

    Inside an `except` block a hook would find the failure in `sys.exc_info()`. An error reporter that looks there would
    send a failure that a retry may yet repair, and whatever the hook raised would have it as context.

    Args:
        work: What is awaited.
        report: Called with the failure, a cancellation included.
    """
    failure: BaseException | None = None
    try:
        return await work
    except BaseException as error:  # noqa: BLE001 - it is raised again below
        failure = error
    try:
        report(failure)
        raise failure
    finally:
        # Its traceback refers to this frame: a cycle that only the garbage collector would end.
        del failure
