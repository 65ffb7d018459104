"""Numbers as people type them. Pure, and quick to import."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["read_share"]

_SHARE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s?(%?)")


def read_share(text: str) -> float | None:
    """Return the share that a text is, such as ``0.02`` or ``2%``; None if it is none from 0 to 1.

    Args:
        text: The text.
    """
    from decimal import Decimal

    found = _SHARE.fullmatch(text.strip())
    if found is None:
        return None
    # As it is written: 0.7 % are 0.007, and not the float next to it.
    share = Decimal(found[1]).scaleb(-2 if found[2] else 0)
    return float(share) if share <= 1 else None
