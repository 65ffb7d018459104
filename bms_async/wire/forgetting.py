"""Errors that carry no variables of ours.

A traceback keeps the frames that an error went through, and with them every argument and every header in them. What
reports errors shows them, as Sentry does. So once an error leaves, its frames of this package are emptied: file and
line stay, the variables go.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from opcode import opname
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SUSPENDABLE = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR
_WAITING = frozenset({"YIELD_VALUE", "SEND"})
_PACKAGE = str(Path(__file__).parent.parent)


def forgetful(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Have a coroutine function's errors forget its arguments and all variables below it.

    Args:
        function: The function.
    """

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        work = function(*args, **kwargs)
        del args, kwargs
        try:
            return await work
        except BaseException as error:
            forget(error)
            raise

    return call


def forgetful_call(function: Callable[P, T]) -> Callable[P, T]:
    """Do the same for a function that is no coroutine function.

    Args:
        function: The function.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            forget(error)
            del args, kwargs
            raise

    return call


def forget(error: BaseException) -> None:
    """Empty the frames of this package in the tracebacks of an error and of all that it came from.

    Args:
        error: The error.
    """
    line, seen = [error], set[int]()
    while line:
        each = line.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        trace = each.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.startswith(_PACKAGE) and not _goes_on(trace):
                # One that still runs cannot be emptied, and is the caller's to empty.
                with suppress(RuntimeError):
                    trace.tb_frame.clear()
            trace = trace.tb_next
        line += [other for other in (each.__cause__, each.__context__) if other is not None]
        line += getattr(each, "previous", ())


def _goes_on(trace: TracebackType) -> bool:
    """Tell whether a coroutine has dealt with the error and now waits for something else: emptying it would end it.

    From Python 3.13 on a frame refuses to be emptied then.
    """
    frame = trace.tb_frame
    code = frame.f_code
    if not code.co_flags & _SUSPENDABLE or frame.f_lasti == trace.tb_lasti or frame.f_lasti < 0:
        return False
    return opname[code.co_code[frame.f_lasti]] in _WAITING
