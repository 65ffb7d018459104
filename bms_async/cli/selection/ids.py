"""Reads which servers a command was given: by arguments, a file or a pipe, unless filters choose them."""

from __future__ import annotations

import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from typing import Final

from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.files import read_bounded, read_file
from bms_async.models.ids import canonical_id

from .filters import Filters
from .id_files import parse_servers
from .words import Word

__all__ = ["Given", "is_uuid", "read_bytes", "read_excluded", "read_given", "reads_input"]

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_INPUT: Final = "standard input"


class Given:
    """Servers as they were given, each once and in order.

    Args:
        words: Their ids and names.
        source: What they were read from, for people.
    """

    __slots__ = ("source", "unsure", "words")

    def __init__(self, words: Iterable[Word], source: str = "") -> None:
        found: dict[str, Word] = {}
        for word in words:
            # One id may be spelled in two ways.
            found.setdefault(canonical_id(word.text), word)
        self.words = list(found.values())
        # Before the event loop runs: this takes a while for many.
        self.unsure = [word for word in self.words if not is_uuid(word.text)]
        self.source = source

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of_ids(cls, ids: Iterable[str]) -> Given:
        """Return servers whose ids are known to be such; they are not looked up as names."""
        given = cls(map(Word, ids))
        given.unsure = []
        return given


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID, as most clouds have for ids."""
    return _UUID.fullmatch(text) is not None


def read_given(arguments: Sequence[str], file: str | None, *, filters: Filters | None = None) -> Given | None:
    """Return the servers that were given; None where filters choose them.

    Args:
        arguments: Ids and names as typed; a ``-`` stands for standard input.
        file: A file of servers; ``-`` for standard input.
        filters: The filters that were given.

    Raises:
        UsageError: No servers and no filters were given, or more than one of them, or a file cannot be read.
    """
    if file is not None and not file.strip():
        # An unset variable of a script must not lead to another source of ids.
        raise UsageError("--file is empty: expected a file; name one, or leave the option out")
    sources = [source for source, given in (("ids", arguments), ("--file", file), ("filters", filters)) if given]
    if len(sources) > 1:
        raise UsageError(f"expected one source of servers, got {' and '.join(sources)}; leave out all but one")
    if filters:
        return None
    if file and file != "-":
        return Given(parse_servers(read_bytes("--file", file), file), file)
    if arguments and "-" not in arguments:
        return Given(map(_word, arguments))
    if not file and not arguments and sys.stdin.isatty():
        raise UsageError("expected servers: give ids or names, pipe them in, or use another option of --help")
    named = [_word(argument) for argument in arguments if argument != "-"]
    return Given([*named, *parse_servers(read_bytes("--file", "-"), _INPUT)], _INPUT)


def reads_input(arguments: Sequence[str], file: str | None, filters: Filters | None) -> bool:
    """Return whether standard input has the servers of a command; the arguments are those of `read_given`."""
    return not filters and (file == "-" or "-" in arguments or not (file or arguments))


def read_excluded(files: Sequence[str], *, reads_input: bool) -> Given | None:
    """Return the servers that are to be left out; None without a file of such.

    Args:
        files: Files of servers; ``-`` for standard input.
        reads_input: Whether standard input has the servers of the command.

    Raises:
        UsageError: A file is empty or cannot be read, or standard input has both.
    """
    if not files:
        return None
    words: list[Word] = []
    for file in files:
        if not file.strip():
            raise UsageError("--except is empty: expected a file; name one, or leave the option out")
        if file == "-" and (reads_input or files.count("-") > 1):
            raise UsageError("--except -: standard input is read for the servers already; name a file")
        data = read_bytes("--except", file)
        if not data.removeprefix(BOM_UTF8).strip():
            # What was to write it may have failed.
            raise UsageError(
                f"--except {file}: it is empty, so that nothing would be left out; where that is meant, leave the"
                " option out, or write a line that begins with # into the file"
            )
        words += parse_servers(data, _INPUT if file == "-" else file)
    return Given(words, " and ".join(files))


def _word(argument: str) -> Word:
    """Return a word that can be encoded; arguments may have bytes that are not text."""
    text = argument.encode(errors="backslashreplace").decode().strip()
    if not text:
        # An unset variable of a script.
        raise UsageError("a server's id is empty: expected an id or a name; leave it out")
    return Word(text)


def read_bytes(option: str, file: str) -> bytes:
    """Return what is in a file, or in standard input.

    Args:
        option: The option that names it.
        file: The file; ``-`` for standard input.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return read_bounded(sys.stdin.buffer) if file == "-" else read_file(file)
    except (OSError, ValueError) as error:
        label = _INPUT if file == "-" else f"{option} {file}"
        raise UsageError(f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
