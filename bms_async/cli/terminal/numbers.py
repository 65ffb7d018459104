"""Numbers as people type them. Pure, and quick to import."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["read_seconds", "read_share"]

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
# Compiled when a number was typed, which most commands have none of.
_SECONDS: Final = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhd]?)"
_SHARE: Final = r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s?(%?)"


def read_seconds(text: str, *, needs_unit: bool = False) -> float | None:
    """Return the seconds that a text is, such as ``900``, ``15m`` or ``30d``; None if it is no time.

    Args:
        text: The text.
        needs_unit: Whether a number alone is no time: what it is a number of would be guessed.
    """
    found = re.fullmatch(_SECONDS, text.strip())
    if found is None or (needs_unit and not found[2]):
        return None
    return float(found[1]) * _UNITS[found[2]]


def read_share(text: str) -> float | None:
    """Return the share that a text is, such as ``0.02`` or ``2%``; None if it is none from 0 to 1.

    Args:
        text: The text.
    """
    from decimal import Decimal

    found = re.fullmatch(_SHARE, text.strip())
    if found is None:
        return None
    # As it is written: 0.7 % are 0.007, and not the float next to it.
    share = Decimal(found[1]).scaleb(-2 if found[2] else 0)
    return float(share) if share <= 1 else None
