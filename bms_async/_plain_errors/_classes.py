"""The classes of errors that this version has, and what each of them cannot be without."""

from __future__ import annotations

from types import UnionType
from typing import Any, Final

from bms_async import errors
from bms_async.errorcodes import explain
from bms_async.errors import (
    ApiError,
    BmsError,
    CallError,
    DecodeError,
    FleetError,
    GroupBlockedError,
    InvalidRequestError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    LeadershipLostError,
    NotReadyError,
    NotSyncedError,
    ResponseTooLargeError,
    ServerFaultError,
    ServerStateError,
    ServerWaitError,
    SubJobFailedError,
    TransportError,
    WaitTooLongError,
)
from bms_async.models import Job, Server

_TEXT: Final = str | None
_NUMBER: Final = int | float

CLASSES: Final[dict[str, type[BmsError]]] = {name: getattr(errors, name) for name in errors.__all__}

_FIELDS: Final[dict[type, dict[str, type | UnionType]]] = {
    InvalidRequestError: {"argument": str, "value": str | int | float | None, "rule": str},
    CallError: {"operation": _TEXT, "previous": tuple},
    TransportError: {"maybe_delivered": bool},
    WaitTooLongError: {"wait": _NUMBER, "max_wait": _NUMBER, "reason": _TEXT},
    DecodeError: {"status": int, "request_id": _TEXT},
    ResponseTooLargeError: {"limit": int},
    ApiError: {
        "status": int,
        "code": _TEXT,
        "message": str,
        "request_id": _TEXT,
        "retry_after": _NUMBER | None,
        "quota": tuple | None,
        "_said": str,
    },
    JobError: {"job_id": str, "job": Job | None},
    JobFailedError: {"job": Job},
    SubJobFailedError: {
        "server_id": str,
        "code": _TEXT,
        "reason": _TEXT,
        "job_reason": _TEXT,
        "meaning": _TEXT,
        "measure": _TEXT,
    },
    JobLostError: {"code": _TEXT, "reason": _TEXT},
    JobTimeoutError: {"resume": str},
    ServerWaitError: {"server_id": str, "wanted": _TEXT, "server": Server | None},
    ServerFaultError: {"server": Server, "code": int | str | None, "message": _TEXT},
    LeadershipLostError: {"name": str, "fence": int},
    FleetError: {"code": _TEXT, "server_ids": tuple, "measure": _TEXT},
    ServerStateError: {"server_id": str, "status": _TEXT, "task_state": _TEXT},
    NotReadyError: {"server_id": str, "asked": str, "answered": _TEXT, "seconds": _NUMBER, "attempts": int},
    NotSyncedError: {"reasons": dict},
    GroupBlockedError: {"group": str, "unavailable": tuple, "allowed": int},
}
"""The attributes that each class adds to those of its bases, and their types."""

_ALL_FIELDS: Final = {
    kind: {name: types for base in reversed(kind.__mro__) for name, types in _FIELDS.get(base, {}).items()}
    for kind in CLASSES.values()
}


def fields_of(kind: type[BmsError]) -> dict[str, type | UnionType]:
    """Return all attributes of one of our classes, with their types.

    Args:
        kind: One of `CLASSES`.
    """
    return _ALL_FIELDS[kind]


def is_ours(kind: type) -> bool:
    """Return whether a class is one of this package's, and not one of the same name."""
    return CLASSES.get(kind.__name__) is kind


def nearest(kind: type[BmsError]) -> type[BmsError]:
    """Return a class itself if it is one of ours, else the nearest of its bases that is."""
    return next((each for each in kind.__mro__ if is_ours(each)), BmsError)


def may_be_set(kind: type[BmsError], name: object) -> bool:
    """Return whether data may set an attribute: never one that hides a method, or that Python gives a meaning.

    Args:
        kind: One of `CLASSES`.
        name: The attribute's name, as it was read.
    """
    if not isinstance(name, str):
        return False
    return name in fields_of(kind) or not (name.startswith("_") or hasattr(kind, name))


def derive(kind: type[BmsError], attributes: dict[str, Any]) -> dict[str, object]:
    """Return the attributes that follow from others, and so need not be written.

    Args:
        kind: One of `CLASSES`.
        attributes: The others.
    """
    if issubclass(kind, ApiError):
        return {"_said": attributes.get("message")}
    if not issubclass(kind, FleetError | SubJobFailedError):
        return {}
    code = attributes.get("code")
    documented = explain(code) if isinstance(code, str) else None
    if documented is None:
        return {}
    derived: dict[str, object] = {"measure": documented.measure}
    if issubclass(kind, SubJobFailedError):
        derived["meaning"] = documented.meaning
    return derived


def args_of_sub_job(attributes: dict[str, Any]) -> list[object]:
    """Return the arguments of a `SubJobFailedError` with these attributes: its text.

    Args:
        attributes: Those that are not None, and of the right types.
    """
    made = SubJobFailedError(
        server_id=attributes["server_id"],
        job_id=attributes["job_id"],
        code=attributes.get("code"),
        reason=attributes.get("reason"),
        job_reason=attributes.get("job_reason"),
    )
    return list(made.args)
