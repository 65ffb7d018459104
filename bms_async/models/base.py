"""The base of all models, and the types that their fields share."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeAlias

import msgspec

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | None
"""A datetime with its zone. msgspec reads it by itself; text without a zone is read as UTC."""


Number: TypeAlias = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | None
"""A finite number: msgspec reads text with too many digits as infinity, which JSON cannot hold."""


class Model(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all models: frozen, with a repr that leaves out absent values and masks secret ones.

    A field whose name begins with ``_`` holds the cloud's own spelling; the property without it returns the meaning.
    """

    _secret: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        present = []
        for field in self.__struct_fields__:
            name = field.removeprefix("_")
            value = getattr(self, name)
            if value is None or value in ((), {}, ""):
                continue
            present.append((name, "***" if name in self._secret else value))
        return present


_MAX_UNKNOWN = 256
_UNKNOWN: dict[tuple[type[Enum], str | int], Any] = {}
"""Members for undocumented values, so that equal values are one object; bounded, as a cloud has few of them."""


class OpenEnum(StrEnum):
    """An enum of strings in which an undocumented value becomes a member of its own."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member: Self | None = _UNKNOWN.get((cls, value))
        if member is None:
            member = str.__new__(cls, value)
            member._name_ = value
            member._value_ = value
            _remember(member, value)
        return member

    def __reduce_ex__(self, protocol: object) -> tuple[type[Self], tuple[str]]:
        # By value: some versions of Python pickle by name, and these members cannot be looked up by it.
        return type(self), (self._value_,)


class OpenIntEnum(IntEnum):
    """An enum of integers in which an undocumented value becomes a member of its own."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member: Self | None = _UNKNOWN.get((cls, value))
        if member is None:
            member = int.__new__(cls, value)
            member._name_ = str(value)
            member._value_ = value
            _remember(member, value)
        return member

    def __reduce_ex__(self, protocol: object) -> tuple[type[Self], tuple[int]]:
        return type(self), (self._value_,)


def _remember(member: Enum, value: str | int) -> None:
    if len(_UNKNOWN) < _MAX_UNKNOWN:
        _UNKNOWN[type(member), value] = member


def read_datetime(text: object) -> datetime | None:
    """Return the datetime that a text gives: in ISO 8601, UTC if it has no zone, or in seconds since 1970.

    Returns:
        None if it gives none, such as the empty text.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        # RFC 3339 allows a small "t" and "z".
        parsed = datetime.fromisoformat(text.upper())
    except ValueError:
        return _read_timestamp(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _read_timestamp(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None
