"""What stands at the head of a page: which servers, where, as whom, how, and by which command."""

from __future__ import annotations

import getpass
import platform
import re
import shlex
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from bms_async import __version__
from bms_async.cli.access.place import Place
from bms_async.cli.help import ARGUMENTS
from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["PageHead", "command_line", "head_of"]

_MASK: Final = "***"
_CREDENTIALS: Final = re.compile(r"(?<=://)([^/\s@]*?):([^\s]*)@(?=[^@\s]*$)")
_QUERY: Final = re.compile(r"(?i)([?&;](?:[\w.-]*(?:pass|pwd|secret|token|key|auth|sig)[\w.-]*)=)[^&;#\s]*")
_NAMED: Final = re.compile(r"(?i)^([^=\s]*(?:pass|pwd|secret|token|credential)[^=\s]*=).+", re.DOTALL)
_STORES: Final = ("--journal", "--store", "--limits")


class PageHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a run beside its outcomes; what is not known is empty.

    Attributes:
        verb: What was done, in a word, such as ``reboot``.
        place: The cloud, the project and the user.
        key: The key of the run.
        host: The machine that the command ran on.
        ran_by: The user of that machine.
        command: The command line, without secrets.
        terms: How the servers were walked through, in words.
        version: The version of this package.
    """

    verb: str = ""
    place: Place | None = None
    key: str | None = None
    host: str = ""
    ran_by: str = ""
    command: str = ""
    terms: Sequence[str] = ()
    version: str = ""

    @property
    def project(self) -> str:
        """The project, as a title has it; empty if it is not known."""
        if self.place is None:
            return ""
        return self.place.project_name or self.place.project_id or ""


def head_of(verb: str, place: Place, key: str | None, terms: Sequence[str]) -> PageHead:
    """Return the head of the page about a run of this process.

    Args:
        verb: What is done, in a word.
        place: Where.
        key: The key of the run, None without one.
        terms: How, in words.
    """
    context = click.get_current_context(silent=True)
    arguments = () if context is None else context.meta.get(ARGUMENTS, ())
    return PageHead(
        verb=verb,
        place=place,
        key=key,
        host=platform.node(),
        ran_by=_user(),
        command=command_line(arguments) if arguments else "",
        terms=tuple(terms),
        version=__version__,
    )


def command_line(arguments: Sequence[str]) -> str:
    """Return the command as one would type it again, without the secrets that its arguments hold.

    Args:
        arguments: What stands behind ``bms``.
    """
    shown, before = ["bms"], ""
    for argument in arguments:
        option, is_joined, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        redacted = _redact(value, is_store=(option or before) in _STORES)
        if is_joined and _NAMED.match(f"{option}=x"):
            redacted = _MASK
        shown.append(shlex.quote(f"{option}={redacted}" if is_joined else redacted or option or argument))
        before = argument
    return strip_control_chars(" ".join(shown)).replace(f"'{_MASK}'", _MASK)


def _redact(value: str, *, is_store: bool) -> str:
    text = _QUERY.sub(rf"\1{_MASK}", _CREDENTIALS.sub(rf"\1:{_MASK}@", value))
    if is_store and "://" not in text and "@" in text:
        text = f"{_MASK}@{text.rpartition('@')[2]}"
    return _NAMED.sub(rf"\1{_MASK}", text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
