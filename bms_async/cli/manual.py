"""Writes a manual page in roff for each command, from what its help has: `python -m bms_async.cli.manual FOLDER`.

A text never becomes a request of roff, whatever it begins with: each is escaped, and no text is an argument of a macro.
The pages have no date, so that the same version makes the same bytes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from bms_async import __version__

from .app import app
from .app_help import all_commands
from .ending import EXIT_CODES
from .guides import TOPICS, Rows
from .help import Group, sections_of

__all__ = ["main", "pages", "roff"]

_ESCAPED: Final = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "~": r"\(ti", "^": r"\(ha"}
)  # fmt: skip
_CODE: Final = re.compile(r"`([^`]+)`")
_PLACE: Final = (
    "In a checkout, `make man` writes these pages into build/man; where bms is installed, `python -m"
    " bms_async.cli.manual FOLDER` does. man finds them in ~/.local/share/man/man1, or for all users in"
    " /usr/local/share/man/man1."
)


def roff(text: str) -> str:
    """Return a text as roff shows it: nothing in it is a request or an escape, and `code` is bold.

    Args:
        text: The text, of one paragraph.
    """
    parts = _CODE.split(" ".join(text.split()))
    shown = "".join(rf"\fB{_escaped(part)}\fR" if number % 2 else _escaped(part) for number, part in enumerate(parts))
    # A line that begins with a full stop or an apostrophe would be a request.
    return rf"\&{shown}" if shown.startswith((".", "'")) else shown


def _escaped(text: str) -> str:
    return "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in text.translate(_ESCAPED))


def pages() -> Iterator[tuple[str, str]]:
    """Iterate over the names of the files of all pages, and their texts."""
    root = app.make_context("bms", [], resilient_parsing=True)
    contexts = list(all_commands(root))
    for context in contexts:
        yield f"{_name(context)}.1", _page(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all pages into a folder, which is made if need be; return the exit status.

    Args:
        arguments: The folder; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1 or given[0].startswith("-"):
        sys.stderr.write("usage: python -m bms_async.cli.manual FOLDER\n")
        return 2
    folder = Path(given[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (folder / name).write_text(text, encoding="ascii")
    return 0


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> str:
    command = context.command
    first, *others = [part for part in (command.help or "").split("\n\n") if part.strip()]
    usage = command.collect_usage_pieces(context)
    lines = [
        f'.TH "{roff(_name(context)).upper()}" "1" "" "bms {__version__}" "bms"',
        ".SH NAME",
        rf"{roff(_name(context))} \- {roff(first.strip().rstrip('.'))}",
        ".SH SYNOPSIS",
        rf"\fB{roff(context.command_path)}\fR {roff(' '.join(usage))}".rstrip(),
        ".SH DESCRIPTION",
        roff(first),
    ]
    for part in others:
        lines += [".PP", roff(part)]
    if isinstance(command, Group):
        lines += _rows(command.listed(), heading="COMMANDS")
    lines += _rows(sections_of(command, context), heading="OPTIONS")
    lines += [".SH EXIT STATUS"]
    if context.parent is None:
        lines += _items(row for rows in TOPICS["exit-codes"].rows.values() for row in rows)
        lines += _rows(TOPICS["settings"].rows, heading="ENVIRONMENT AND FILES")
        lines += [".SH MANUAL PAGES", roff(_PLACE)]
    else:
        lines += [roff(EXIT_CODES)]
    lines += [".SH SEE ALSO", ", ".join(rf"\fB{roff(name)}\fR(1)" for name in _related(context))]
    return "\n".join(lines) + "\n"


def _related(context: click.Context) -> list[str]:
    """Return the names of the pages of the command above, and of those below."""
    above = [] if context.parent is None else [_name(context.parent)]
    below = [
        f"{_name(context)}-{name.replace(' ', '-')}"
        for name in (context.command.commands if isinstance(context.command, click.Group) else ())
    ]
    return above + below


def _rows(sections: Rows, *, heading: str) -> list[str]:
    lines = [f".SH {heading}"] if sections else []
    for name, rows in sections.items():
        lines += [f".SS {roff(name)}", *_items(rows)]
    return lines


def _items(rows: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for name, text in rows:
        lines += [".TP", rf"\fB{roff(name)}\fR", roff(text)]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
