"""Hypothesis strategies made of the models' own fields: any model, and any JSON that could be meant as one."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

import bms_async.api
from bms_async.models import Model

M = TypeVar("M", bound=msgspec.Struct)

_ZONES = st.just(UTC) | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Far from the ends of time, where another zone is another year that there is not.
_MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=_ZONES)  # noqa: DTZ001 - the zone is added
_WHOLE = st.integers(-(2**63), 2**63 - 1)

JSON = st.recursive(
    st.none() | st.booleans() | _WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)

# What comes where something else is documented.
_AMISS = (
    st.none()
    | st.just("")
    | st.booleans()
    | st.integers(-1, 9)
    | st.integers(0, 10**6).map(str)
    | st.sampled_from(["true", "False", "twelve", "1.5", "2018-09-18T02:43:26", "2018-13-41T99:99:99Z", [], {}, [None]])
    | st.sampled_from([1e308, -1, 2**64, 10**400, "9" * 5000])
    | JSON
)


def models() -> list[type[Model]]:
    """Return every model there is: those of `bms_async.models`, and the envelopes of the calls."""
    # Importing the calls brings all envelopes about.
    assert bms_async.api.operations()
    found: list[type[Model]] = []
    left = list(Model.__subclasses__())
    while left:
        model = left.pop()
        left += model.__subclasses__()
        # What other tests make up is their own.
        if model.__module__.startswith("bms_async."):
            found.append(model)
    return sorted(set(found), key=lambda model: (model.__module__, model.__qualname__))


@functools.cache
def values_of(wanted: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of what a field of this type may hold."""
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return values_of(args[0])
    if origin in (Union, types.UnionType):
        return st.one_of([_later(arg) for arg in args])
    if origin is tuple:
        return st.lists(_later(args[0]), max_size=3).map(tuple)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(st.text(max_size=8), _later(args[1]), max_size=3)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return models_of(wanted)
    return _plain(wanted)


def _later(wanted: Any) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: values_of(wanted))


def _plain(wanted: Any) -> st.SearchStrategy[Any]:
    if isinstance(wanted, type) and issubclass(wanted, IntEnum):
        return (st.sampled_from([int(member) for member in wanted]) | st.integers(-(2**31), 2**31)).map(wanted)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        # msgspec reads the word "null" as nothing where there may be nothing.
        odd = st.text(max_size=12).filter(lambda word: word.lower() != "null")
        return (st.sampled_from([str(member) for member in wanted]) | odd).map(wanted)
    if get_origin(wanted) is Literal:
        return st.sampled_from(get_args(wanted))
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        msgspec.UnsetType: st.just(msgspec.UNSET),
        bool: st.booleans(),
        int: _WHOLE,
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=12),
        datetime: _MOMENTS,
        msgspec.Raw: JSON.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
        Any: JSON,
        object: JSON,
    }
    return kinds[wanted]


def models_of(model: type[M]) -> st.SearchStrategy[M]:
    """Return a strategy of any instance of a model."""
    fields = msgspec.structs.fields(model)
    return st.builds(
        model,
        **{field.name: _later(field.type) for field in fields},
    )


@functools.cache
def documents_of(wanted: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of JSON that could be meant as a value of this type, fields missing and amiss and unknown."""
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return documents_of(args[0])
    if origin in (Union, types.UnionType):
        return st.one_of([_deferred(arg) for arg in args])
    if origin is tuple:
        return st.lists(_deferred(args[0]), max_size=3) | _deferred(args[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        table = st.dictionaries(st.text(max_size=8), _deferred(args[1]), max_size=3)
        return table | table.map(lambda inner: [inner])
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return objects_of(wanted)
    return JSON if wanted is msgspec.Raw else _plain(wanted).map(msgspec.to_builtins)


def _deferred(wanted: Any) -> st.SearchStrategy[Any]:
    # What is right comes more often than what is amiss, so that much of a document is read.
    return st.deferred(lambda: st.one_of(documents_of(wanted), documents_of(wanted), documents_of(wanted), _AMISS))


def objects_of(model: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of JSON objects with some of a model's fields, and some that nobody knows."""
    known = {field.encode_name: _deferred(field.type) for field in msgspec.structs.fields(model)}
    extras = st.dictionaries(st.text(max_size=6).map("x-new:".__add__), JSON, max_size=2)
    return st.tuples(extras, st.fixed_dictionaries({}, optional=known)).map(lambda both: {**both[0], **both[1]})
