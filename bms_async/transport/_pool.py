"""The pool of idle connections, reused last in, first out (rule R3).

In HTTP a connection that its server is just closing looks like one that it keeps. A request that is sent on the former
fails, and nothing proves that the server had not read it. Two bounds make this rare. A connection is not used after
15 s of idleness, which is sooner than servers close theirs, or earlier if the server announces less. And a request that
must not be repeated uses only a connection that was idle for at most `MAX_IDLE_FOR_UNSAFE` seconds, or a new one.

The connection used last goes first, so that few connections stay in use and the others expire. One that has failed does
not come back: the view of its state may be wrong.

Rejected: testing a connection with a request before it is reused, which costs a round trip and proves nothing about the
next one; and repeating a request that failed on a reused connection, which may execute it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods of requests that may be repeated (RFC 9110)."""

MAX_IDLE_FOR_UNSAFE = 1.0
"""The maximum idle time, in seconds, of a connection for a request that must not be repeated."""

MAX_IDLE = 15.0
"""Seconds that a connection may be idle, unless its server announces less."""


class Poolable(Protocol):
    """An object that owns a connection."""

    @property
    def usable(self) -> bool:
        """Whether the connection is open, and has received nothing unrequested."""
        ...

    @property
    def idle_limit(self) -> float:
        """Seconds that the connection may be idle."""
        ...


M = TypeVar("M", bound=Poolable)


class IdlePool(Generic[M]):
    """Idle connections by route, those used last at the end.

    Args:
        drop: Called with each connection that leaves the pool without being used; it closes the connection.
    """

    __slots__ = ("_drop", "_routes", "count")

    def __init__(self, drop: Callable[[M], object]) -> None:
        self._drop = drop
        self._routes: dict[Hashable, list[tuple[M, float]]] = {}
        self.count = 0
        """The number of idle connections, over all routes."""

    def put(self, route: Hashable, member: M, now: float) -> None:
        """Keep a connection for the next request.

        Args:
            route: The route of the connection.
            member: The connection.
            now: The loop's time, in seconds.
        """
        members = self._routes.get(route)
        if members is None:
            members = self._routes[route] = []
        members.append((member, now))
        self.count += 1

    def pop(self, route: Hashable, now: float, *, replayable: bool) -> M | None:
        """Take the connection that was used last; None if there is none that is safe to use.

        Args:
            route: The route of the request.
            now: The loop's time, in seconds.
            replayable: Whether the request may be repeated.
        """
        members = self._routes.get(route)
        while members:
            member, idle_since = members[-1]
            idle, limit = now - idle_since, member.idle_limit
            expired = idle > limit or not member.usable
            if not expired and not replayable and idle > min(MAX_IDLE_FOR_UNSAFE, limit / 2):
                return None
            members.pop()
            self.count -= 1
            if not expired:
                return member
            self._drop(member)
        return None

    def drop_oldest(self) -> None:
        """Drop the connection that has been idle for longest."""
        members = min(filter(None, self._routes.values()), key=lambda members: members[0][1], default=None)
        if members is not None:
            self.count -= 1
            self._drop(members.pop(0)[0])

    def drop_expired(self, now: float) -> None:
        """Drop the connections that are not going to be used any more.

        Args:
            now: The loop's time, in seconds.
        """
        for route, members in list(self._routes.items()):
            kept, dropped = [], []
            for member, since in members:
                if member.usable and now - since <= member.idle_limit:
                    kept.append((member, since))
                else:
                    dropped.append(member)
            self.count -= len(dropped)
            if kept:
                self._routes[route] = kept
            else:
                del self._routes[route]
            for member in dropped:
                self._drop(member)

    def drop_all(self) -> None:
        """Drop all connections."""
        routes, self._routes, self.count = self._routes, {}, 0
        for members in routes.values():
            for member, _ in members:
                self._drop(member)
