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


class Want(msgspec.Struct, frozen=True, omit_defaults=True):
    """A status that is desired of `count` servers from the `first` of the deed's on.

    Attributes:
        after: How many seconds after its deed.
        status: None to forget them.
        replace: Whether all others are forgotten.
    """

    after: float
    status: Literal["ACTIVE", "SHUTOFF"] | None
    first: int
    count: int
    replace: bool = False


class Drifted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server that changes by itself, or by the hand of another operator, who takes some seconds.

    Attributes:
        after: How many seconds after its deed.
        server: Which of the deed's servers.
    """

    after: float
    server: int
    status: Literal["ACTIVE", "SHUTOFF", "ERROR"]
    seconds: float = 0.0


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replica that is killed in the middle of what it does, or closed, and has a successor after some seconds.

    Or its journal does not answer for so long, and it goes on.
    """

    after: float
    replica: int
    kind: Literal["killed", "closed", "stalls"] = "killed"
    seconds: float = 5.0


class Reconcile(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A reconciler over servers of its own.

    Attributes:
        count: How many servers there are.
        wanted: Of how many of them something may be desired; the others are to be left alone.
        restarts: When it is left, and for how many seconds nobody is there.
        wishes: What others wish for single servers of these.
        stays: Seconds that it goes on once all is as desired.
        replicas: How many processes keep the same states by one journal; 0 for one that has none.
        losses: What becomes of these.
        room: How many servers its rollout lets be unavailable at once; None for no rollout.
    """

    at: float
    first: int
    count: int
    wanted: int
    resync: float
    backoff: tuple[float, float]
    wave_size: int
    wants: tuple[Want, ...]
    drifts: tuple[Drifted, ...] = ()
    restarts: tuple[tuple[float, float], ...] = ()
    wishes: tuple[Wish, ...] = ()
    stays: float = 0.0
    replicas: int = 0
    losses: tuple[Loss, ...] = ()
    room: int | None = None

    @property
    def at_once(self) -> int:
        """How many servers may be under way at once."""
        return self.wave_size if self.room is None else min(self.wave_size, self.room)

    @property
    def last_word(self) -> float:
        """When everything has been said and done to its servers, in seconds after its beginning."""
        return max(
            *(want.after for want in self.wants),
            *(drift.after + drift.seconds for drift in self.drifts),
            *(after + gap for after, gap in self.restarts),
            *(loss.after + loss.seconds for loss in self.losses),
            *(wish.after for wish in self.wishes),
            0.0,
        )
