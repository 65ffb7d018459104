"""Which errors of a library may be kept as the cause of ours (rule R5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from bms_async.wire import HttpRequest

from ._log_filter import mask_message

E = TypeVar("E", bound=BaseException)


def keep_cause(error: E, request: HttpRequest, *, written: bool) -> E | None:
    """Return an error, stripped so that it may be a cause; None if it or one of its causes holds what was sent.

    Args:
        error: The error of a library.
        request: The request.
        written: Whether any of the request was written. The libraries' frames then hold it as plain bytes, so the
            tracebacks are removed.
    """
    chain = list(_chain(error))
    for link in chain:
        if getattr(link, "_request", None) is not None:
            # It has the headers, which an error that is kept or pickled would keep.
            link._request = None  # type: ignore[attr-defined]  # noqa: SLF001 - both libraries have it, and no setter
        text = str(link)
        if isinstance(link, UnicodeError) or mask_message(text, request) != text:
            return None
    if written:
        for link in chain:
            link.__traceback__ = None
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    pending, seen = [error], set[int]()
    while pending:
        link = pending.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += [other for other in (link.__cause__, link.__context__) if other is not None]
            pending += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
