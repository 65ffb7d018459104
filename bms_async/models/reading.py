"""From JSON to models: directly where the cloud keeps to the documented types, with repairs where it does not.

Guarantee (R7): unknown fields, statuses and codes, and values of another type than documented, never break a read. Only
a response that lacks what a model cannot be without is an error.

How: the reference prints the same field as a number here and as a string there, and a field without a value may be
``null``, missing or ``""``. Most responses are read by msgspec alone, which costs next to nothing. Where it refuses
one, empty datetimes are replaced first, since these are what clouds print most. If that is not enough the response is
decoded without types, each field is brought into the shape that the model declares, and a field for which this is not
possible is left out, as if it were missing. Enums keep values that are not documented (`OpenEnum`).

Rejected: lenient types for all fields, such as ``int | str``. Every caller would have to deal with both. And repairing
every response, which costs many times what msgspec does.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from .base import read_datetime

T = TypeVar("T")

EMPTY_DATETIME = re.compile(rb'("(?:created|created_at|deleted_at|updated|updated_at)"\s*:\s*)""(?=\s*[,}])')
"""A datetime that is not known yet, as clouds print it in every response about something in progress.

Inside a JSON string a quote has a backslash before it, so that no text can match this.
"""

_ABSENT: Any = object()
_FLAGS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_REPAIRS: dict[Any, Callable[[Any], Any]] = {}


def decode(body: bytes | msgspec.Raw, into: type[T]) -> T:
    """Read JSON into a model.

    Raises:
        msgspec.DecodeError: It is not JSON, or lacks what a model cannot be without; the text names where.
    """
    decoder: msgspec.json.Decoder[T] | None = _DECODERS.get(into)
    if decoder is None:
        decoder = _DECODERS[into] = msgspec.json.Decoder(into, strict=False)
    try:
        return decoder.decode(body)
    except (msgspec.ValidationError, ValueError, OverflowError):
        repaired = EMPTY_DATETIME.sub(rb"\1null", bytes(body))
    try:
        return decoder.decode(repaired)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return convert(msgspec.json.decode(body), into)


def convert(raw: Any, into: type[T]) -> T:
    """Read decoded JSON into a model, with all repairs.

    Raises:
        msgspec.ValidationError: It lacks what a model cannot be without; the text names where.
    """
    repaired = _repair_of(into)(raw)
    return msgspec.convert(raw if repaired is _ABSENT else repaired, into, strict=False)


def _repair_of(kind: Any) -> Callable[[Any], Any]:
    """Return the function that brings a value into the shape of a type, or returns `_ABSENT` if it cannot."""
    repair = _REPAIRS.get(kind)
    if repair is None:

        def look_up(raw: Any) -> Any:
            return _REPAIRS[kind](raw)

        # The entry comes first, for a model that holds models of its own kind.
        _REPAIRS[kind] = look_up
        repair = _REPAIRS[kind] = _make_repair(kind)
    return repair


def _make_repair(kind: Any) -> Callable[[Any], Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _repair_of(args[0])
    if origin in (Union, types.UnionType):
        kinds = [arg for arg in args if arg is not type(None)]
        # A list that may be one stays one, whatever is repaired in it, and is not merged into an object.
        first = [kind for kind in kinds if get_origin(kind) is tuple]
        return _one_of(*([_repair_of(kind) for kind in order] for order in (kinds, first + kinds)))
    if origin is tuple:
        return _many(_repair_of(args[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_repair_of(args[1]), [] if get_origin(args[1]) is tuple else _ABSENT)
    known = kind if isinstance(kind, type) else object
    if issubclass(known, msgspec.Struct):
        return _struct(known)
    return next((repair for base, repair in _PLAIN if issubclass(known, base)), _unchanged)


def _unchanged(raw: Any) -> Any:
    return raw


def _struct(kind: type[msgspec.Struct]) -> Callable[[Any], Any]:
    fields = {field.encode_name: (_repair_of(field.type), field.required) for field in msgspec.structs.fields(kind)}

    def repair(raw: Any) -> Any:
        if isinstance(raw, list):
            # A list in the place of one object: the members of its objects together.
            raw = {name: value for part in raw if isinstance(part, dict) for name, value in part.items()} or None
        if not isinstance(raw, dict):
            return _ABSENT
        result = {}
        for name, value in raw.items():
            if name in fields:
                repair_field, required = fields[name]
                repaired = repair_field(value)
                if repaired is not _ABSENT:
                    result[name] = repaired
                elif required:
                    # Unchanged, so that the error names the value that the cloud sent.
                    result[name] = value
        return result

    return repair


def _one_of(repairs: list[Callable[[Any], Any]], of_lists: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def repair_any(raw: Any) -> Any:
        tried = of_lists if isinstance(raw, list) else repairs
        return next((value for repair in tried if (value := repair(raw)) is not _ABSENT), _ABSENT)

    return repair_any


def _many(repair_item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the repair of a list; a value that is not in a list becomes a list of one."""

    def repair(raw: Any) -> Any:
        if raw is None or raw == "":
            return _ABSENT
        items = raw if isinstance(raw, list) else [raw]
        return [repaired for item in items if (repaired := repair_item(item)) is not _ABSENT]

    return repair


def _mapping(repair_value: Callable[[Any], Any], empty: Any) -> Callable[[Any], Any]:
    """Return the repair of a mapping; a list of mappings becomes one, and a name without a value gets `empty`."""

    def repair(raw: Any) -> Any:
        parts = raw if isinstance(raw, list) else [raw]
        pairs = [pair for part in parts if isinstance(part, dict) for pair in part.items()]
        if not pairs:
            # Some clouds write an empty mapping as an empty list.
            return {} if isinstance(raw, list) and not any(raw) else _ABSENT
        repaired = {name: repair_value(value) for name, value in pairs}
        filled = {name: empty if value is _ABSENT else value for name, value in repaired.items()}
        return {name: value for name, value in filled.items() if value is not _ABSENT}

    return repair


def _raw(raw: Any) -> Any:
    return msgspec.Raw(msgspec.json.encode(raw))


def _text(raw: Any) -> Any:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(raw) if isinstance(raw, int | float) else _ABSENT


def _int(raw: Any) -> Any:
    if isinstance(raw, bool):
        return _ABSENT
    try:
        return int(raw)
    except (TypeError, ValueError, OverflowError):
        return _ABSENT


def _float(raw: Any) -> Any:
    if isinstance(raw, bool):
        return _ABSENT
    try:
        value = float(raw)
    except (TypeError, ValueError, OverflowError):
        return _ABSENT
    return value if math.isfinite(value) else _ABSENT


def _bool(raw: Any) -> Any:
    return raw if isinstance(raw, bool) else _FLAGS.get(str(raw).lower(), _ABSENT)


def _datetime(raw: Any) -> Any:
    return read_datetime(raw) or _ABSENT


def _enum_text(raw: Any) -> Any:
    return raw if isinstance(raw, str) and raw else _ABSENT


# The order matters: bool is a subclass of int, and an enum of strings of str.
_PLAIN: list[tuple[type, Callable[[Any], Any]]] = [
    (bool, _bool),
    (IntEnum, _int),
    (int, _int),
    (float, _float),
    (Enum, _enum_text),
    (str, _text),
    (datetime, _datetime),
    (msgspec.Raw, _raw),
]
