"""Reading an error that was written as plain data."""

from __future__ import annotations

from typing import Any, Final

from bms_async.errors import BmsError, CallError, SubJobFailedError, TransportError
from bms_async.errors.base import show_value
from bms_async.models import Job, Server

from ._classes import CLASSES, args_of_sub_job, derive, fields_of, may_be_set
from ._values import MAX_DEPTH, read_model

_MODELS: Final[dict[object, type[Job | Server]]] = {"job": Job, "server": Server}
_MISSING: Final = object()


def from_plain(data: object) -> BmsError:
    """Return the error that `to_plain` wrote.

    Args:
        data: What was read; it may be anything.

    Returns:
        An error of the class that was written, or of the nearest base that this version has. If the data make no
        sense, a `BmsError` that says so.
    """
    return _read_safely(data, 1)


class _UnreadableError(ValueError):
    """The data are not those of an error."""


def _read_safely(data: object, depth: int) -> BmsError:
    try:
        return _read(data, depth)
    except Exception as error:  # noqa: BLE001 - a row may hold anything, and a report must be readable with it
        reason = str(error) if type(error) is _UnreadableError else f"reading it raised {type(error).__name__}"
    args = data.get("args") if isinstance(data, dict) else None
    text = f"; its text is: {args[0]}" if isinstance(args, list) and args and isinstance(args[0], str) else ""
    return BmsError(f"an error that was written down cannot be read: {reason}; look at what wrote it{text}")


def _read(data: object, depth: int) -> BmsError:
    if not isinstance(data, dict):
        raise _UnreadableError(f"expected a dict, got {show_value(data)}")
    name = data.get("class")
    if not isinstance(name, str):
        raise _UnreadableError(f"expected the name of its class, got {show_value(name)}")
    known = [each for each in (name, *_part(data, "bases", list)) if isinstance(each, str) and each in CLASSES]
    kind = CLASSES[known[0]] if known else BmsError
    attributes = _read_attributes(data, kind, depth)
    _check(kind, attributes)
    error = kind.__new__(kind)
    error.args = _read_args(data, kind, attributes)
    error.__dict__.update(attributes)
    _read_surroundings(error, data, depth)
    if name not in CLASSES:
        error.add_note(f"its class is {name[:200]}, which this version of bms_async does not have")
    return error


def _read_attributes(data: dict[Any, Any], kind: type[BmsError], depth: int) -> dict[str, Any]:
    found: dict[Any, Any] = {} if data.get("code") is None else {"code": data["code"]}
    found |= _part(data, "attributes", dict)
    found |= {
        name: read_model(written, _MODELS[name])
        for name, written in _part(data, "models", dict).items()
        if name in _MODELS
    }
    if depth < MAX_DEPTH:
        found |= {name: _read_errors(written, depth + 1) for name, written in _part(data, "errors", dict).items()}
    attributes = {name: _as_tuple(value) for name, value in found.items() if may_be_set(kind, name)}
    if issubclass(kind, CallError) and isinstance(before := attributes.get("previous"), tuple):
        attributes["previous"] = tuple(each for each in before if isinstance(each, CallError))
    for name, value in derive(kind, attributes).items():
        attributes.setdefault(name, value)
    for name, expected in fields_of(kind).items():
        if isinstance(None, expected) and not hasattr(kind, name):
            attributes.setdefault(name, None)
    return attributes


def _read_errors(written: object, depth: int) -> object:
    if isinstance(written, list):
        return tuple(_read_safely(each, depth) for each in written)
    return None if written is None else _read_safely(written, depth)


def _check(kind: type[BmsError], attributes: dict[str, Any]) -> None:
    for name, expected in fields_of(kind).items():
        value = attributes.get(name, _MISSING)
        if isinstance(value, expected) or (value is _MISSING and hasattr(kind, name)):
            continue
        found = "none" if value is _MISSING else type(value).__name__
        shown = getattr(expected, "__name__", expected)
        raise _UnreadableError(f"expected {name} of a {kind.__name__} as {shown}, got {found}")


def _read_args(data: dict[Any, Any], kind: type[BmsError], attributes: dict[str, Any]) -> tuple[object, ...]:
    if "args" in data:
        return tuple(map(_as_tuple, _part(data, "args", list)))
    if kind is SubJobFailedError:
        return tuple(args_of_sub_job(attributes))
    # A later version may write a class without its text too.
    return (", ".join(f"{name}={show_value(value)}" for name, value in attributes.items() if value is not None),)


def _read_surroundings(error: BmsError, data: dict[Any, Any], depth: int) -> None:
    """Give an error its notes and its cause, and let it deny nothing that the one that was written did not deny."""
    notes = [note for note in _part(data, "notes", list) if isinstance(note, str)]
    if notes:
        error.__notes__ = notes
    if data.get("cause") is not None and depth < MAX_DEPTH:
        error.__cause__ = _read_safely(data["cause"], depth + 1)
    if data.get("maybe_done") and isinstance(error, CallError) and not error.maybe_done:
        # A class that this version lacks may have said so, or an attempt that was one too many.
        doubt = TransportError("what is kept of the call says no more", maybe_delivered=True, operation=error.operation)
        error.previous = (*error.previous, doubt)


def _part(data: dict[Any, Any], name: str, kind: type[Any]) -> Any:
    """Return a part of the data, an empty one if it is missing."""
    value = data.get(name, _MISSING)
    if value is _MISSING:
        return kind()
    if not isinstance(value, kind):
        raise _UnreadableError(f"expected {name} as a {kind.__name__}, got {type(value).__name__}")
    return value


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
