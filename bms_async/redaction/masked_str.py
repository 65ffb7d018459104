"""What the cloud says that holds a secret: its own words as a value, and masked where they are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self, SupportsIndex

from .masking import MASK

_log = logging.getLogger("bms_async.redaction")


class MaskedStr(str):
    """A text of the cloud's in which a secret of ours stands, such as a job's ``fail_reason`` that echoes a password.

    It is the cloud's text byte for byte: it compares, hashes, encodes and slices as such. What tells of it is masked:
    its repr, ``str()`` of it, what an f-string makes of it, and its pickle; and so is what tells of a part of it.

    Args:
        text: What the cloud said.
        masked: What may be told of it.
    """

    __slots__ = ("masked",)

    masked: str

    def __new__(cls, text: str, masked: str) -> Self:
        """Hold a text, and what may be told of it."""
        made = super().__new__(cls, str.__str__(text))
        made.masked = masked
        return made

    def __repr__(self) -> str:
        return repr(self.masked)

    def __str__(self) -> str:
        return self.masked

    def __format__(self, spec: str) -> str:
        return format(self.masked, spec)

    def __getitem__(self, place: SupportsIndex | slice) -> MaskedStr:
        # What prints a long text prints its beginning.
        told = str.__getitem__(self.masked, place) if isinstance(place, slice) else MASK
        return MaskedStr(super().__getitem__(place), told)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[str], tuple[str]]:
        # A pickle is a store, and a secret is in none.
        return str, (self.masked,)


def mask_when_shown(text: str, redact: Callable[[str], str]) -> str:
    """Return a text of the cloud's that shows no secret when it is told; the same one where it has none.

    Args:
        text: What the cloud said.
        redact: Takes secrets out of a text.
    """
    told = str(text)
    masked = redact(told)
    return text if masked == told else MaskedStr(text, masked)


def shown_text(text: str | None) -> str | None:
    """Return what is told of a text of the cloud's, as a plain text for what writes it down; None for none."""
    return None if text is None else str(text)


def redact_safely(redact: Callable[[str], str], text: str) -> str:
    """Return a text without secrets; all of it is masked where that cannot be done.

    Args:
        redact: Takes secrets out of a text. It may be the application's, and raise anything.
        text: The text.
    """
    try:
        masked: object = redact(text)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the text is of an error that must not be lost for this one
        # Its type alone: what it says may well be the text that it was to take the secrets out of.
        _log.error("redact() raised %s; what it was to take secrets out of is masked as a whole", type(error).__name__)
        return MASK
    return masked if isinstance(masked, str) else MASK
