"""A server as it was named, and where. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["READABLE", "Word", "shown"]

_MOST: Final = 40
_MAX_NAME: Final = 255

READABLE: Final = (
    "one id or name a line, CSV with a header such as id,name, a list in JSON, or what `bms servers list` or the"
    " openstack client prints"
)
"""What a file of servers may look like, for messages."""


class Word(NamedTuple):
    """An id or a name.

    Attributes:
        text: It.
        source: The file, or ``standard input``; empty for an argument of the command.
        number: The number of its line, or of its item in JSON; 0 for an argument.
        unit: What is counted: ``line`` or ``item``.
    """

    text: str
    source: str = ""
    number: int = 0
    unit: str = "line"

    @property
    def where(self) -> str:
        """Where it is, for people; empty for an argument."""
        return f"{strip_control_chars(self.source)}, {self.unit} {self.number}" if self.source else ""

    @property
    def may_be_name(self) -> bool:
        """Whether a server can have it for a name."""
        return self.text.isprintable() and 0 < len(self.text) <= _MAX_NAME and self.text == self.text.strip()


def shown(text: str) -> str:
    """Return what somebody has typed or written, short enough for a message, in quotes."""
    short = text if len(text) <= _MOST else f"{text[:_MOST]}..."
    return f"'{strip_control_chars(short)}'"
