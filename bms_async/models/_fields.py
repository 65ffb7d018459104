"""How one field is read: leniently, into one right type.

The reference prints the same field as a number here and as a string there, and a field that has no value may be
``null``, missing or ``""``. A model names what it wants with the types of this module; to a type checker each of them
is the plain Python type, to msgspec it is a class whose ``read`` turns whatever came into that type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeAlias, TypeVar

import msgspec

_T = TypeVar("_T")


class Table(dict[str, Any]):
    """A dict that nobody writes to; unlike a `MappingProxyType` it can be pickled, copied and encoded as JSON."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("what the cloud told cannot be written to; make a dict of it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Table], tuple[dict[str, Any]]]:
        return Table, (dict(self),)


EMPTY: Mapping[str, Any] = Table()


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The base of everything that travels: frozen, with a repr that leaves out what is absent or secret."""

    _secret: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        present = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None or value in ((), EMPTY):
                continue
            present.append((name, "***" if name in self._secret else value))
        return present


class OpenEnum(StrEnum):
    """An enum of strings in which a value nobody documented survives as a member of its own."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member


class OpenIntEnum(IntEnum):
    """An enum of integers in which a value nobody documented survives as a member of its own."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = str(value)
        member._value_ = value
        return member


class _ReadsItself(type):
    """msgspec checks what a hook returned with isinstance; a reader answers for whatever its ``read`` made."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class _Reader(metaclass=_ReadsItself):
    @classmethod
    def read(cls, raw: Any) -> Any:
        raise NotImplementedError


def read_field(field: type, raw: Any) -> Any:
    """Read one field; msgspec's ``dec_hook`` wherever the SDK decodes."""
    return field.read(raw)  # type: ignore[attr-defined]  # a cast would cost as much as the reading


def convert(raw: Any, into: type[_T]) -> _T:
    """Convert decoded JSON into a model by the same rules as decoding does."""
    return msgspec.convert(raw, into, strict=False, dec_hook=read_field)


class _Text(_Reader):
    @classmethod
    def read(cls, raw: Any) -> str | None:
        if raw is None or raw == "":
            return None
        return raw if isinstance(raw, str) else str(raw)


class _Whole(_Reader):
    @classmethod
    def read(cls, raw: Any) -> int | None:
        if isinstance(raw, bool):
            return None
        try:
            return int(raw)
        except (TypeError, ValueError, OverflowError):
            return None


class _Flag(_Reader):
    _spelled: ClassVar[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}

    @classmethod
    def read(cls, raw: Any) -> bool | None:
        return raw if isinstance(raw, bool) else cls._spelled.get(str(raw).lower())


class _Moment(_Reader):
    @classmethod
    def read(cls, raw: Any) -> datetime | None:
        if not isinstance(raw, str):
            return None
        try:
            moment = datetime.fromisoformat(raw)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _one(of: type) -> type:
    """Return a reader of one ``of`` or None."""

    class One(_Reader):
        @classmethod
        def read(cls, raw: Any) -> Any:
            return None if raw is None or raw == "" else convert(raw, of)

    return One


def _reading(of: Any) -> Callable[[Any], Any]:
    """Return what reads one ``of``: its own way of reading, or msgspec's."""
    if isinstance(of, _ReadsItself):
        return of.read  # type: ignore[attr-defined, no-any-return]  # every reader has one
    return lambda raw: convert(raw, of)


def _many(of: type) -> type:
    """Return a reader of a tuple of ``of``; one that came without its list is a tuple of one."""
    read_one = _reading(of)

    class Many(_Reader):
        @classmethod
        def read(cls, raw: Any) -> Any:
            if raw is None or raw == "":
                return ()
            items = raw if isinstance(raw, list) else [raw]
            return tuple(read_one(item) for item in items if item is not None and item != "")

    return Many


def _table(of: Any) -> type:
    """Return a reader of a read-only mapping from names to ``of``; a list around it is taken off."""
    read_one = _reading(of)

    class TableOf(_Reader):
        @classmethod
        def read(cls, raw: Any) -> Any:
            if not raw:
                return EMPTY
            parts = [part for part in (raw if isinstance(raw, list) else [raw]) if isinstance(part, dict)]
            return Table({name: read_one(value) for part in parts for name, value in part.items()})

    return TableOf


class _TextTable(_Reader):
    @classmethod
    def read(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not raw:
            return EMPTY
        # A name without a value is no entry; one with an empty value is what somebody wrote.
        return Table({name: str(value) for name, value in raw.items() if value is not None})


if TYPE_CHECKING:
    Text: TypeAlias = str | None
    Whole: TypeAlias = int | None
    Flag: TypeAlias = bool | None
    Moment: TypeAlias = datetime | None
    TextTable: TypeAlias = Mapping[str, str]
    Texts: TypeAlias = tuple[str, ...]
else:
    Text, Whole, Flag, Moment = _Text, _Whole, _Flag, _Moment
    TextTable = _TextTable
    Texts = _many(_Text)
