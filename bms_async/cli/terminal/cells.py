"""Text width on a terminal: a Chinese character takes two cells, a combining accent none."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["cell_len", "padded", "wrap"]


def cell_len(text: str) -> int:
    """Return the width of a text in cells."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich import cells

    return cells.cell_len(text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text padded with spaces to the width of a column.

    Args:
        text: The text.
        width: The width of the column in cells.
        right: Whether the spaces go before it.
    """
    room = " " * max(0, width - cell_len(text))
    return room + text if right else text + room


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Return a text wrapped to lines; only a word that is longer than a line is split, and never a character.

    Args:
        text: The text; white space between words becomes one space.
        width: The width of a line in cells.
        first: The indent of the first line.
        rest: The indent of the others.
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
    # At least two cells: one character may need both.
    room = max(2, room)
    if cell_len(word) <= room:
        yield word
    else:
        from rich.cells import chop_cells

        yield from chop_cells(word, room)
