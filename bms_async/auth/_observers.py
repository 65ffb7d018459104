"""Who is told of new tokens and keys: the hooks of every client that uses the credentials."""

from __future__ import annotations

import asyncio

from .base import Notify


class Observers:
    """The clients that are told.

    Args:
        credentials: What to call the credentials.
    """

    __slots__ = ("_credentials", "_tells")

    def __init__(self, credentials: str) -> None:
        self._credentials = credentials
        self._tells: list[tuple[Notify, asyncio.AbstractEventLoop]] = []

    def add(self, tell: Notify) -> None:
        """Tell one more, from its loop."""
        # A client that was never closed is gone with its loop.
        alive = [(other, loop) for other, loop in self._tells if not loop.is_closed()]
        self._tells = [*alive, (tell, asyncio.get_running_loop())]

    def remove(self, tell: Notify) -> None:
        """Tell one less."""
        self._tells = [(other, loop) for other, loop in self._tells if other != tell]

    def notify(self, seconds: float, *, lifetime: float | None = None, error: BaseException | None = None) -> None:
        """Tell all that credentials were renewed, or in vain.

        Args:
            seconds: How long it took.
            lifetime: Seconds for which what came is good.
            error: Why nothing came.
        """
        if not self._tells:
            return
        from bms_async.hooks import CredentialsRenewalEnded  # noqa: PLC0415 - most clients have no hooks

        name = None if error is None else type(error).__name__
        event = CredentialsRenewalEnded(credentials=self._credentials, seconds=seconds, lifetime=lifetime, error=name)
        for tell, _ in self._tells:
            tell(event)
