"""The cloud's own words: the texts of an answer that are told on, in errors, reports and logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from bms_async.errorcodes import explain

from .jobs import Job, JobEntities, SubJob, SubJobEntities
from .servers import Fault, Server

T = TypeVar("T", Job, Server)

_WORDS: Final[Mapping[type, tuple[str, ...]]] = {
    Job: ("error_code", "fail_reason", "message", "code"),
    SubJob: ("error_code", "fail_reason", "message", "code"),
    JobEntities: ("errorcode_message",),
    SubJobEntities: ("errorcode_message",),
    Fault: ("message", "details"),
}
# A code that the reference prints is no secret, and what is done about a failure goes by it.
_CODES: Final = frozenset({"error_code", "code"})
_PARTS: Final[Mapping[type, tuple[str, ...]]] = {
    Job: ("entities",),
    JobEntities: ("sub_jobs",),
    SubJob: ("about",),
    Server: ("fault",),
}


def with_free_text(told: T, hold: Callable[[str], str]) -> T:
    """Return what the cloud told, with its own words held by something else; the same object where nothing changes.

    Args:
        told: A job or a server.
        hold: Returns a text that equals the given one, or the very same where it needs no other.
    """
    held: T = _conceal(told, hold)
    return held


def _conceal(told: Any, hold: Callable[[str], str]) -> Any:
    if isinstance(told, tuple):
        each = tuple([_conceal(part, hold) for part in told])
        return each if any(new is not old for new, old in zip(each, told, strict=True)) else told
    kind = type(told)
    changed: dict[str, Any] = {}
    # Most say nothing at all.
    for name in _WORDS.get(kind, ()):
        text = getattr(told, name, None)
        if text and not (name in _CODES and explain(text)) and (held := hold(text)) is not text:
            changed[name] = held
    for name in _PARTS.get(kind, ()):
        if (part := getattr(told, name)) is not None and (held := _conceal(part, hold)) is not part:
            changed[name] = held
    return msgspec.structs.replace(told, **changed) if changed else told
