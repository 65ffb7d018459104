"""What all models share."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeAlias

import msgspec

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | None
"""A moment with its zone, which msgspec reads by itself; one that comes without is read as UTC."""


Number: TypeAlias = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | None
"""A number that is one: msgspec reads a text with too many digits as infinity, which no JSON can hold."""


class Model(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of everything that travels: frozen, with a repr that leaves out what is absent or secret.

    A field whose name begins with ``_`` is what the cloud printed; the property without it is what it means.
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


_MOST_UNKNOWN = 256
_UNKNOWN: dict[tuple[type[Enum], str | int], Any] = {}
"""Members for values that nobody documented, so that one value is one object; for most of them, a cloud has few."""


class OpenEnum(StrEnum):
    """An enum of strings in which a value nobody documented survives as a member of its own."""

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
        # By value: some versions of Python look members up by name, and these are in no table.
        return type(self), (self._value_,)


class OpenIntEnum(IntEnum):
    """An enum of integers in which a value nobody documented survives as a member of its own."""

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
    if len(_UNKNOWN) < _MOST_UNKNOWN:
        _UNKNOWN[type(member), value] = member


def read_datetime(text: object) -> datetime | None:
    """Return a text of ISO 8601 as a datetime, UTC where it names no zone; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
