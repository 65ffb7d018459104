"""Wishes for servers, and the order of those for one server: pure."""

from __future__ import annotations

from typing import Generic, TypeVar

W = TypeVar("W")


class Wish(Generic[W]):
    """What is wished for a server, by one waiter or many.

    Attributes:
        server_id: The server, canonical.
        action: Such as ``servers.stop``.
        since: When it came to its queue, by the loop's clock.
        waiters: Those that wait for its outcome, in order; none once all have left.
        is_sent: Whether the cloud may have got it.
        later: Wishes for other actions that came after it, each of which waits for the end of the one before.
    """

    __slots__ = ("action", "is_sent", "later", "server_id", "since", "waiters")

    def __init__(self, server_id: str, action: str) -> None:
        self.server_id = server_id
        self.action = action
        self.since = 0.0
        self.waiters: dict[W, None] = {}
        self.is_sent = False
        self.later: list[Wish[W]] = []

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for it any more, and it was not sent."""
        return not self.waiters and not self.is_sent


class Wishes(Generic[W]):
    """All wishes that have no outcome yet: for each server the one whose turn it is, and those behind it.

    A wish joins the last one for its server where that is for the same action: it is what the server is on its way to.
    Where it is for another one, it waits for its end.
    """

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: dict[str, Wish[W]] = {}

    def __len__(self) -> int:
        return len(self._first)

    def get(self, server_id: str) -> Wish[W] | None:
        """Return the wish whose turn it is for a server, None if there is none."""
        return self._first.get(server_id)

    def add(self, server_id: str, action: str, waiter: W) -> tuple[Wish[W], bool, bool]:
        """Add a wish.

        Args:
            server_id: The server, canonical.
            action: Such as ``servers.stop``.
            waiter: What waits for its outcome.

        Returns:
            The wish that the waiter is now part of, whether it is a new one, and whether its turn has come just now.
        """
        first = self._first.get(server_id)
        if first is None:
            wish = self._first[server_id] = Wish[W](server_id, action)
            wish.waiters[waiter] = None
            return wish, True, True
        last = first.later[-1] if first.later else first
        is_new = last.action != action
        if is_new:
            last = Wish[W](server_id, action)
            first.later.append(last)
        last.waiters[waiter] = None
        return last, is_new, False

    def leave(self, server_id: str, waiter: W) -> Wish[W] | None:
        """Remove a waiter; a wish behind another one goes with its last waiter.

        Returns:
            The wish whose turn it is, if that was its last waiter and it was not sent; the caller ends it.
        """
        first = self._first.get(server_id)
        if first is None:
            return None
        if waiter in first.waiters:
            del first.waiters[waiter]
            return first if first.is_abandoned else None
        for wish in first.later:
            if waiter in wish.waiters:
                del wish.waiters[waiter]
                if not wish.waiters:
                    first.later.remove(wish)
                    _join_equal(first)
                break
        return None

    def pop(self, server_id: str) -> tuple[Wish[W] | None, Wish[W] | None]:
        """Remove the wish of a server whose turn it was; return it, and the one whose turn comes now."""
        wish = self._first.pop(server_id, None)
        if wish is None or not wish.later:
            return wish, None
        following, *rest = wish.later
        following.later = rest
        self._first[server_id] = following
        return wish, following


def _join_equal(first: Wish[W]) -> None:
    """Join wishes for the same action that stand one behind the other, since the one between them is gone."""
    kept = first
    for wish in first.later.copy():
        if wish.action == kept.action:
            kept.waiters |= wish.waiters
            first.later.remove(wish)
        else:
            kept = wish
