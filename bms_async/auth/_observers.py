"""The clients whose hooks are notified of new tokens and keys."""

from __future__ import annotations

import asyncio

from .base import Notify


class Observers:
    """The clients that use some credentials, to be notified when these are renewed.

    Args:
        credentials: The name of the credentials in events.
    """

    __slots__ = ("_credentials", "_registered")

    def __init__(self, credentials: str) -> None:
        self._credentials = credentials
        self._registered: list[tuple[Notify, asyncio.AbstractEventLoop]] = []

    def add(self, notify: Notify) -> None:
        """Add an observer, on the running loop."""
        # Drop observers whose loop is closed: their client was never closed and cannot unregister.
        alive = [(other, loop) for other, loop in self._registered if not loop.is_closed()]
        self._registered = [*alive, (notify, asyncio.get_running_loop())]

    def remove(self, notify: Notify) -> None:
        """Remove an observer."""
        self._registered = [(other, loop) for other, loop in self._registered if other != notify]

    def notify(self, seconds: float, *, lifetime: float | None = None, error: BaseException | None = None) -> None:
        """Notify all observers that a renewal has ended.

        Args:
            seconds: Its duration.
            lifetime: Seconds for which the new token is valid.
            error: Why the renewal failed.
        """
        if not self._registered:
            return
        from bms_async.hooks import CredentialsRenewalEnded  # noqa: PLC0415 - most clients have no hooks

        name = None if error is None else type(error).__name__
        event = CredentialsRenewalEnded(credentials=self._credentials, seconds=seconds, lifetime=lifetime, error=name)
        for notify, _ in self._registered:
            notify(event)
