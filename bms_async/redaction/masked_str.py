"""Texts of the cloud's that hold a secret: unchanged as values, masked where they are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self, SupportsIndex

from .masking import MASK

_log = logging.getLogger("bms_async.redaction")


class MaskedStr(str):
    """A text of the cloud's that contains a secret of ours, such as a job's ``fail_reason`` that echoes a password.

    It is the cloud's text byte for byte, and compares, hashes, encodes and slices as such. Its repr, ``str()``, pickle
    and place in an f-string are masked, and so are those of its slices.

    Args:
        text: The cloud's text.
        masked: The same text, without the secret.
    """

    __slots__ = ("masked",)

    masked: str

    def __new__(cls, text: str, masked: str) -> Self:
        """Create the str with its masked form."""
        self = super().__new__(cls, str.__str__(text))
        self.masked = masked
        return self

    def __repr__(self) -> str:
        return repr(self.masked)

    def __str__(self) -> str:
        return self.masked

    def __format__(self, spec: str) -> str:
        return format(self.masked, spec)

    def __getitem__(self, index: SupportsIndex | slice) -> MaskedStr:
        # Masked too, for code that prints a long text prints its beginning.
        masked = str.__getitem__(self.masked, index) if isinstance(index, slice) else MASK
        return MaskedStr(super().__getitem__(index), masked)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[str], tuple[str]]:
        # A pickle is a store, and no store has a secret.
        return str, (self.masked,)


def mask_when_shown(text: str, redact: Callable[[str], str]) -> str:
    """Return a text that is masked wherever it is shown; the text itself if it contains no secret.

    Args:
        text: The cloud's text.
        redact: Removes secrets from a text.
    """
    shown = str(text)
    masked = redact(shown)
    return text if masked == shown else MaskedStr(text, masked)


def shown_text(text: str | None) -> str | None:
    """Return a text of the cloud's in its masked form, as a plain str for an encoder; None for None."""
    return None if text is None else str(text)


def redact_safely(redact: Callable[[str], str], text: str) -> str:
    """Return a text without secrets; if `redact` raises, the whole text is masked.

    Args:
        redact: Removes secrets from a text. It may be the application's code, and raise anything.
        text: The text.
    """
    try:
        masked: object = redact(text)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the text belongs to an error that must not be lost
        # Its type alone: its message may quote the text that has the secrets.
        _log.error("redact() raised %s; the whole text is masked instead", type(error).__name__)
        return MASK
    return masked if isinstance(masked, str) else MASK
