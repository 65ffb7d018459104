"""How much room a text has on a terminal: Chinese takes two cells a character, an accent of its own takes none."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

__all__ = ["cell_len", "padded", "wrap"]


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text with as many spaces as it takes to fill a column.

    Args:
        text: The text.
        width: How many cells the column has.
        right: Whether the spaces go before it.
    """
    room = " " * max(0, width - cell_len(text))
    return room + text if right else text + room


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Return a text in lines that fit; only a word that is longer than a line is cut, and never a character.

    Args:
        text: The text; what is between its words becomes a space.
        width: How many cells a line has.
        first: What the first line begins with.
        rest: What the others begin with.
    """
    lines: list[str] = []
    line, is_empty = first, True
    for word in text.split():
        for piece in _pieces(word, width - max(cell_len(first), cell_len(rest))):
            if not is_empty and cell_len(line) + 1 + cell_len(piece) > width:
                lines.append(line)
                line, is_empty = rest, True
            line += piece if is_empty else f" {piece}"
            is_empty = False
    return lines if is_empty else [*lines, line]


def _pieces(word: str, room: int) -> Iterator[str]:
    # A line that has no room for a wide character has one all the same.
    yield from [word] if cell_len(word) <= max(2, room) else chop_cells(word, max(2, room))
