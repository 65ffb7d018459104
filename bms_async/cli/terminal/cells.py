"""Text width on a terminal: a Chinese character takes two cells, a combining accent none."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["cell_len", "cut", "fold", "padded", "wrap"]


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


def fold(text: str, width: int, *, rest: str = "") -> str:
    """Return a text whose lines end between words; a word that is longer than a line, such as a path, stays whole.

    Args:
        text: The text; lines that are short enough stay as they are.
        width: The width of a line in cells.
        rest: The indent of what goes on in another line, beside that of the line itself.
    """
    return "\n".join(line if cell_len(line) <= width else _folded(line, width, rest) for line in text.split("\n"))


def _folded(text: str, width: int, rest: str) -> str:
    indent = text[: len(text) - len(text.lstrip())]
    lines, line = list[str](), ""
    for word in text.split():
        longer = f"{line} {word}" if line else indent + word
        if line and cell_len(longer) > width:
            lines.append(line)
            longer = indent + rest + word
        line = longer
    return "\n".join([*lines, line])


def cut(text: str, width: int) -> str:
    """Return a text cut to a width, with a mark at its end.

    Args:
        text: The text.
        width: Its greatest width in cells.
    """
    if cell_len(text) <= width:
        return text
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, max(0, width - 1)).rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _pieces(word: str, room: int) -> Iterator[str]:
    # At least two cells: one character may need both.
    room = max(2, room)
    if cell_len(word) <= room:
        yield word
    else:
        from rich.cells import chop_cells

        yield from chop_cells(word, room)
