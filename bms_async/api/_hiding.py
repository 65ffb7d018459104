"""What users send as secrets, in the way in which an error may quote it."""

from __future__ import annotations

from bms_async.redaction import veil


def as_text(user_data: str | bytes | None) -> str | None:
    """Return injected data as an error may quote it; None for what is no text."""
    if user_data is None or isinstance(user_data, str):
        return user_data
    return veil(user_data).decode(errors="replace")
