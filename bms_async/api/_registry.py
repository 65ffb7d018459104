"""The table of all calls; each resource's module adds its own when it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.wire import Operation, Safety, Service

T = TypeVar("T")

_DEFINED: dict[str, Operation[Any]] = {}


def define(
    name: str,
    method: str,
    path: str,
    result: type[T],
    *,
    title: str,
    chapter: str,
    safety: Safety,
    success: tuple[int, ...] = (200,),
    service: Service = Service.BMS,
    permission: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Operation[T]:
    """Define a documented call and add it to the table, with its documented limit.

    Args:
        name: The dotted name of the method that makes the call, or would if there were one.
        method: The HTTP method.
        path: The path, with its parameters in braces.
        result: The type that a 2xx response is decoded into.
        title: What the call does, in a few words.
        chapter: The chapter of the reference.
        safety: Whether the call may be repeated.
        success: The documented success statuses.
        service: The service whose endpoint the call goes to.
        permission: The IAM action that the call requires.
        headers: Headers that the call requires beyond the common ones.
    """
    if name in _DEFINED:
        raise ValueError(f"expected one definition of {name}, got a second")
    operation = Operation(
        name=name,
        method=method,
        path=path,
        result=result,
        title=title,
        safety=safety,
        chapter=chapter,
        limit=DOCUMENTED_LIMITS.get(name),
        service=service,
        permission=permission,
        success=success,
        headers=headers or {},
    )
    _DEFINED[name] = operation
    return operation


def operations() -> tuple[Operation[Any], ...]:
    """Return every call that this package makes, in the order of the reference's chapters.

    ::

        for operation in bms_async.api.operations():
            print(operation.chapter, operation.name, operation.limit)
    """
    from .nova import nova  # noqa: F401, PLC0415 - a client that makes no native call does without its modules

    return tuple(sorted(_DEFINED.values(), key=_chapter_key))


def _chapter_key(operation: Operation[Any]) -> tuple[tuple[int, ...], str]:
    numbers = [int(part) for part in operation.chapter.split(".") if part.isdigit()]
    # The appendix sorts last, whatever its letter.
    return (tuple(numbers) if operation.chapter[0].isdigit() else (99, *numbers)), operation.name
