"""From JSON to models: straight where the cloud keeps to the types, with repairs where it does not.

The reference prints the same field as a number here and as a string there, and a field without a value may be
``null``, missing or ``""``. What msgspec reads by itself costs next to nothing, and most answers are like that. Only
an answer that it refuses is taken apart, each field is brought into the shape that the model wants, and a field that
cannot be is left out, as if it were missing.
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

EMPTY_MOMENT = re.compile(
    rb'("(?:begin_time|created|created_at|deleted_at|end_time|updated|updated_at)"\s*:\s*)""(?=\s*[,}])'
)
"""A moment that has not come, as clouds print it in every answer about something that is under way.

A text of JSON has no quote without a backslash before it, and so nothing in a text looks like this.
"""

_ABSENT: Any = object()
_FLAGS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}
_REPAIRS: dict[Any, Callable[[Any], Any]] = {}


def decode(body: bytes | msgspec.Raw, into: type[T]) -> T:
    """Read JSON into a model.

    Raises:
        msgspec.DecodeError: It is no JSON, or lacks what a model cannot be without; the text names where.
    """
    decoder = _DECODERS.get(into)
    if decoder is None:
        decoder = _DECODERS[into] = msgspec.json.Decoder(into, strict=False)
    try:
        return decoder.decode(body)  # type: ignore[no-any-return]
    except (msgspec.ValidationError, ValueError, OverflowError):
        mended = EMPTY_MOMENT.sub(rb"\1null", bytes(body))
    try:
        return decoder.decode(mended)  # type: ignore[no-any-return]
    except (msgspec.ValidationError, ValueError, OverflowError):
        return convert(msgspec.json.decode(body), into)


def convert(raw: Any, into: type[T]) -> T:
    """Read decoded JSON into a model, with all repairs.

    Raises:
        msgspec.ValidationError: It lacks what a model cannot be without; the text names where.
    """
    repaired = _repair_of(into)(raw)
    return msgspec.convert(raw if repaired is _ABSENT else repaired, into, strict=False)


def _repair_of(wanted: Any) -> Callable[[Any], Any]:
    """Return the function that brings a value into the shape of a type, or tells that it cannot be."""
    repair = _REPAIRS.get(wanted)
    if repair is None:
        # The entry comes first, for a model that holds models of its own kind.
        _REPAIRS[wanted] = lambda raw: _REPAIRS[wanted](raw)  # noqa: PLW0108 - it is another one by then
        repair = _REPAIRS[wanted] = _make_repair(wanted)
    return repair


def _make_repair(wanted: Any) -> Callable[[Any], Any]:  # noqa: PLR0911 - one a kind of type
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _repair_of(args[0])
    if origin in (Union, types.UnionType):
        return _one_of([_repair_of(arg) for arg in args if arg is not type(None)])
    if origin is tuple:
        return _many(_repair_of(args[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _table(_repair_of(args[1]), [] if get_origin(args[1]) is tuple else _ABSENT)
    if not isinstance(wanted, type):
        return lambda raw: raw
    if issubclass(wanted, msgspec.Struct):
        return _struct(wanted)
    return next((repair for kind, repair in _PLAIN if issubclass(wanted, kind)), lambda raw: raw)


def _struct(wanted: type[msgspec.Struct]) -> Callable[[Any], Any]:
    fields = {field.encode_name: (_repair_of(field.type), field.required) for field in msgspec.structs.fields(wanted)}

    def repair(raw: Any) -> Any:
        if isinstance(raw, list):
            # A list around what is one thing: its parts together.
            raw = {name: value for part in raw if isinstance(part, dict) for name, value in part.items()} or None
        if not isinstance(raw, dict):
            return _ABSENT
        whole = {}
        for name, value in raw.items():
            if name in fields:
                mend, required = fields[name]
                mended = mend(value)
                if mended is not _ABSENT:
                    whole[name] = mended
                elif required:
                    # Left as it came, so that the error names what it is.
                    whole[name] = value
        return whole

    return repair


def _one_of(repairs: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def repair(raw: Any) -> Any:
        return next((mended for each in repairs if (mended := each(raw)) is not _ABSENT), _ABSENT)

    return repair


def _many(mend: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Repair a list; what came without its list is a list of one."""

    def repair(raw: Any) -> Any:
        if raw is None or raw == "":
            return _ABSENT
        items = raw if isinstance(raw, list) else [raw]
        return [mended for item in items if (mended := mend(item)) is not _ABSENT]

    return repair


def _table(mend: Callable[[Any], Any], empty: Any) -> Callable[[Any], Any]:
    """Repair a mapping; a list around its parts is taken off, and a name without a value has an empty one."""

    def repair(raw: Any) -> Any:
        parts = raw if isinstance(raw, list) else [raw]
        pairs = [pair for part in parts if isinstance(part, dict) for pair in part.items()]
        if not pairs:
            # An empty list is how some write an empty mapping.
            return {} if isinstance(raw, list) and not any(raw) else _ABSENT
        mended = {name: mend(value) for name, value in pairs}
        whole = {name: empty if value is _ABSENT else value for name, value in mended.items()}
        return {name: value for name, value in whole.items() if value is not _ABSENT}

    return repair


def _raw(raw: Any) -> Any:
    return msgspec.Raw(msgspec.json.encode(raw))


def _text(raw: Any) -> Any:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(raw) if isinstance(raw, int | float) else _ABSENT


def _whole(raw: Any) -> Any:
    if isinstance(raw, bool):
        return _ABSENT
    try:
        return int(raw)
    except (TypeError, ValueError, OverflowError):
        return _ABSENT


def _number(raw: Any) -> Any:
    if isinstance(raw, bool):
        return _ABSENT
    try:
        number = float(raw)
    except (TypeError, ValueError, OverflowError):
        return _ABSENT
    return number if math.isfinite(number) else _ABSENT


def _flag(raw: Any) -> Any:
    return raw if isinstance(raw, bool) else _FLAGS.get(str(raw).lower(), _ABSENT)


def _moment(raw: Any) -> Any:
    return read_datetime(raw) or _ABSENT


def _word(raw: Any) -> Any:
    return raw if isinstance(raw, str) and raw else _ABSENT


# In this order: a bool is an int, and an enum of strings is a string.
_PLAIN: list[tuple[type, Callable[[Any], Any]]] = [
    (bool, _flag),
    (IntEnum, _whole),
    (int, _whole),
    (float, _number),
    (Enum, _word),
    (str, _text),
    (datetime, _moment),
    (msgspec.Raw, _raw),
]
