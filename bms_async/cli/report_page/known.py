"""What a page asks of those who know more of servers than their ids."""

from __future__ import annotations

from typing import Protocol

from bms_async.cli.access.known import KnownServer

__all__ = ["Known", "NothingKnown"]


class Known(Protocol):
    """What is known of servers beside their ids."""

    def __len__(self) -> int:
        """Return of how many something is known."""
        ...

    def get(self, server_id: str) -> KnownServer:
        """Return what is known of a server."""
        ...


class NothingKnown:
    """Nothing is known of any server."""

    def __len__(self) -> int:
        return 0

    def get(self, server_id: str) -> KnownServer:  # noqa: ARG002 - the same for all
        """Return what is known of a server: nothing."""
        return KnownServer()
