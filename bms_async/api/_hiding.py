"""Keeping what users send as secrets out of the errors that a cloud answers with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bms_async.errors import ApiError

_SHORTEST_SECRET = 4


@contextmanager
def hidden(*secrets: str | None) -> Iterator[None]:
    """Keep what was sent out of errors: a cloud or a proxy may echo it in its refusal.

    Args:
        secrets: What must not be told; None is nothing.
    """
    try:
        yield
    except ApiError as error:
        for each in (error, *error.previous):
            if isinstance(each, ApiError):
                _hide(each, [secret for secret in secrets if isinstance(secret, str) and secret])
        raise


def as_text(user_data: str | bytes | None) -> str | None:
    """Return injected data as an error may quote it; None for what is no text."""
    if user_data is None or isinstance(user_data, str):
        return user_data
    return bytes(user_data).decode(errors="replace")


def _hide(error: ApiError, secrets: list[str]) -> None:
    message = error.message
    for secret in secrets:
        message = message.replace(secret, "***")
        # A message is cut at a length, and a secret may be cut with it.
        longest = min(len(secret), len(message))
        cut = next((size for size in range(longest, _SHORTEST_SECRET - 1, -1) if message.endswith(secret[:size])), 0)
        if cut:
            message = message[: len(message) - cut] + "***"
    if message != error.message:
        error.args = tuple(str(part).replace(error.message, message) for part in error.args)
        error.message = message
