"""Texts for people. Pure, and quick to import."""

from __future__ import annotations

import re

__all__ = ["describe_os_error", "duration", "pluralize", "strip_class_names", "strip_control_chars", "verb_in"]

_HOUR = 3600

_CLASS = re.compile(r"\b[A-Z]\w*Error: (?:\[Errno -?\d+\] )?")
"""What Python puts before the system's words for what went wrong."""


def strip_control_chars(text: str) -> str:
    """Return a text with each control character replaced, so that it cannot move a cursor or begin a column."""
    # str(): the cloud's text may hold a secret that is masked only when it is converted.
    text = str(text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def strip_class_names(text: str) -> str:
    """Return the text of an error without the names of Python's classes for what led to it."""
    return _CLASS.sub("", text)


def describe_os_error(error: BaseException, *, names_file: bool = False) -> str:
    """Return what the system said, without the number of the error: ``No space left on device``.

    Args:
        error: The error; one that is not the system's has its own text.
        names_file: Whether the file is named in front of it.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return strip_class_names(str(error))
    names = names_file and error.filename is not None
    return f"{error.filename}: {error.strerror}" if names else error.strerror


def duration(seconds: float) -> str:
    """Return a duration for people: ``0:07``, ``12:30``, ``1:02:05``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, _HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def pluralize(count: int, noun: str) -> str:
    """Return ``1 server``, ``2 servers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def verb_in(call: str) -> str:
    """Return what a call about power does, in a word: ``stop`` of ``servers.stop``.

    Args:
        call: Its name.
    """
    return call.removeprefix("servers.")
