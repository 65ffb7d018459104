"""The cloud's free text: the texts of a response that errors, reports and logs repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from bms_async.errorcodes import explain

from .jobs import Job, JobEntities, SubJob, SubJobEntities
from .servers import Fault, Server

T = TypeVar("T", Job, Server)

_TEXTS: Final[Mapping[type, tuple[str, ...]]] = {
    Job: ("error_code", "fail_reason", "message", "code"),
    SubJob: ("error_code", "fail_reason", "message", "code"),
    JobEntities: ("errorcode_message",),
    SubJobEntities: ("errorcode_message",),
    Fault: ("message", "details"),
}
# A documented code is not a secret, and failures are handled by it: it stays as it is.
_CODES: Final = frozenset({"error_code", "code"})
_PARTS: Final[Mapping[type, tuple[str, ...]]] = {
    Job: ("entities",),
    JobEntities: ("sub_jobs",),
    SubJob: ("about",),
    Server: ("fault",),
}


def map_free_text(model: T, function: Callable[[str], str]) -> T:
    """Return a model with its free text mapped by a function; the same object if nothing changes.

    Args:
        model: A job or a server.
        function: Returns the new text, or its argument itself if that is to stay.
    """
    if type(model) is Job and _job_has_no_text(model):
        return model
    mapped: T = _mapped(model, function)
    return mapped


def _mapped(value: Any, function: Callable[[str], str]) -> Any:
    if isinstance(value, tuple):
        items = tuple([_mapped(item, function) for item in value])
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    kind = type(value)
    changes: dict[str, Any] = {}
    for name in _TEXTS.get(kind, ()):
        text = getattr(value, name)
        if text and not (name in _CODES and explain(text)) and (new_text := function(text)) is not text:
            changes[name] = new_text
    for name in _PARTS.get(kind, ()):
        if (part := getattr(value, name)) is not None and (new_part := _mapped(part, function)) is not part:
            changes[name] = new_part
    return msgspec.structs.replace(value, **changes) if changes else value


def _job_has_no_text(job: Job) -> bool:
    """Return whether a job has no free text: most have none, and each poll of a large job asks for a thousand parts."""
    if job.error_code or job.fail_reason or job.message or job.code:
        return False
    entities = job.entities
    if entities is None:
        return True
    if entities.errorcode_message:
        return False
    for sub in entities.sub_jobs or ():
        if sub.error_code or sub.fail_reason or sub.message or sub.code:
            return False
        about = sub.about
        if about is not None and (type(about) is not SubJobEntities or about.errorcode_message):
            return False
    return True
