"""Errors that carry no variables of ours.

A traceback keeps the frames that an error went through, and with them every argument and every header in them. What
reports errors shows them, as Sentry does. So once an error leaves, its frames of this package are emptied: file and
line stay, the variables go.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

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
            if trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
                # One that still runs cannot be emptied, and is the caller's to empty.
                with suppress(RuntimeError):
                    trace.tb_frame.clear()
            trace = trace.tb_next
        line += [other for other in (each.__cause__, each.__context__) if other is not None]
        line += getattr(each, "previous", ())
