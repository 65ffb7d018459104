"""Which errors of a library may be kept as a cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from bms_async.wire import HttpRequest

from ._log_filter import mask_message

E = TypeVar("E", bound=BaseException)


def keep_cause(error: E, request: HttpRequest, *, written: bool) -> E | None:
    """Return an error as one that may be the cause of ours; None where it, or what it came of, holds what was sent.

    Args:
        error: What a library raised.
        request: The request.
        written: Whether any of it was written. Then the libraries' frames hold it in plain bytes, and the error, which
            nobody else has, goes on without them.
    """
    chain = list(_chain(error))
    for each in chain:
        if getattr(each, "_request", None) is not None:
            # It has the headers in it, and whoever keeps or pickles the error keeps them.
            each._request = None  # type: ignore[attr-defined]  # noqa: SLF001 - both libraries have it, and no setter
        text = str(each)
        if isinstance(each, UnicodeError) or mask_message(text, request) != text:
            return None
    if written:
        for each in chain:
            each.__traceback__ = None
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    line, seen = [error], set[int]()
    while line:
        each = line.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            line += [other for other in (each.__cause__, each.__context__) if other is not None]
            line += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
