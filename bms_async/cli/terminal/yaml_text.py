"""YAML as text, an item of a list at a time.

Guarantee: a reader of YAML 1.1 or 1.2 gets back the data that a reader of JSON gets, and no control character is in
the text as it is. How: numbers, ``true``, ``false`` and ``null`` are written as in JSON; a text has no quotes only if
it has nothing but letters and a few signs, and is no word that YAML takes for something else; each other text is in
double quotes, whose escapes are those of JSON.

Rejected: the emitter of PyYAML, which takes 1.7 ms a server beside 0.2 ms here, and would hold the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

__all__ = ["escape_unprintable", "yaml_document", "yaml_item"]

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.+/-]*")
_BASIC_PLANE: Final = 0xFFFF
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
"""What is no text without quotes, at least for some readers."""


def yaml_item(value: object) -> str:
    """Return a value as an item of a list.

    Args:
        value: What JSON can hold.
    """
    return _joined(_item_lines(value))


def yaml_document(value: object) -> str:
    """Return a value as a whole document.

    Args:
        value: What JSON can hold.
    """
    return _joined(_lines(value))


def escape_unprintable(text: str, *, is_yaml: bool = False) -> str:
    """Return JSON with each character escaped that a terminal would obey or that YAML takes for a line end.

    Args:
        text: JSON, in which these are in texts only; a line feed stays.
        is_yaml: Whether it is for a reader of YAML, which does not know pairs of surrogates.
    """
    if text.isprintable():
        return text

    def escaped(character: str) -> str:
        if character.isprintable() or character == "\n":
            return character
        number = ord(character)
        if number <= _BASIC_PLANE:
            return f"\\u{number:04x}"
        if is_yaml:
            return f"\\U{number:08x}"
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"

    return "".join(map(escaped, text))


def _joined(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _entry_lines(_text(str(name)), item)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            yield from _item_lines(item)
    else:
        yield _scalar(value)


def _entry_lines(name: str, item: object) -> Iterator[str]:
    if not _is_nested(item):
        yield f"{name}: {_scalar(item)}"
        return
    yield f"{name}:"
    for line in _lines(item):
        yield f"  {line}"


def _item_lines(item: object) -> Iterator[str]:
    mark = "- "
    for line in _lines(item):
        yield f"{mark}{line}"
        mark = "  "


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        # YAML 1.1 takes 1e+16 for a text.
        mantissa, exponent, power = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{exponent}{power}"
    return msgspec.json.encode(value).decode()


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return escape_unprintable(msgspec.json.encode(text).decode(), is_yaml=True)
