"""The lines of text that people have in files and pipes, whatever wrote them. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, NamedTuple

from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["DELIMITERS", "Line", "content_lines", "decode"]

DELIMITERS: Final = ("\t", ";", ",")
"""What may stand between two cells: the first of these that a line has."""

_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Line(NamedTuple):
    """A line, and its number in the file."""

    number: int
    text: str


def decode(data: bytes, source: str) -> str:
    """Return the text of a file or a pipe: UTF-8, or UTF-16 if a mark at its beginning says so.

    Args:
        data: Its bytes.
        source: What it is called in messages.

    Raises:
        UsageError: It is no such text; the error says which line is to blame.
    """
    encoding, named = "utf-8", strip_control_chars(source)
    for bom, name in _BOMS:
        if data.startswith(bom):
            data, encoding = data[len(bom) :], name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{named}, line {line}: expected text in UTF-8, got other bytes; save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(
            f"{named}, line {line}: expected text, got bytes that are none; save the file as text in UTF-8"
        )
    return text


def content_lines(text: str) -> Iterator[Line]:
    """Yield the lines of a text, without empty lines and comments.

    Args:
        text: The text, with line ends of any system.
    """
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Line(number, line)
