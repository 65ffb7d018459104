"""Wishes and desired states of a scenario, as plain data."""

from __future__ import annotations

from typing import Literal

import msgspec


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who wishes something for one server.

    Attributes:
        after: How many seconds after its deed.
        server: Which of the deed's servers.
        leaves_after: Seconds after which the waiting for it is cancelled.
        capitals: Whether the id is written in capitals.
    """

    after: float
    server: int
    action: Literal["start", "stop", "reboot"]
    leaves_after: float | None = None
    capitals: bool = False


class WishMany(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Wishes from as many tasks, for `count` servers from the `first` on."""

    at: float
    first: int
    count: int
    wishes: tuple[Wish, ...]

    @property
    def longest_chain(self) -> int:
        """How many wishes there are for one server at most."""
        servers = [wish.server for wish in self.wishes]
        return max(map(servers.count, set(servers)), default=0)
