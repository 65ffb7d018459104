"""When asking again would do harm: after a refusal, and while the identity service is out of order."""

from __future__ import annotations

import math

import anyio

from bms_async.errors import AuthenticationError

from ._keystone import OPERATION

YOUNG = 60.0
"""Seconds within which a token or a key that came for a refused one, and is refused too, is a refusal of its user."""

# After a refused password: clouds lock an account that is tried wrongly five times within a quarter of an hour, and
# people try too. So it is three times in the first, and once in each after that.
_SHORTEST_BRAKE, _BRAKE_GROWTH, _LONGEST_BRAKE = 30.0, 6, 900.0
# After a renewal that failed for good: thousands of polls and calls would else each ask four times, for hours.
_SHORTEST_REST, _LONGEST_REST = 1.0, 10.0

_LOCKED = "an account is locked after a few wrong tries"
_USELESS = "it would be refused like the one before"


class LockoutGuard:
    """Keeps what was refused from being asked for again at once, and longer each time that it is refused again."""

    __slots__ = ("_advice", "_pause", "_refusal", "_since", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._since = self._until = -math.inf
        self._refusal: AuthenticationError | None = None
        self._advice = ""

    def trip(self, refusal: AuthenticationError | None, now: float, *, young: bool = False) -> None:
        """Note a refusal.

        Args:
            refusal: What the cloud said; None where nothing is raised for it.
            now: The loop's time.
            young: Whether it is of a token that was given a moment ago, and not of the password.
        """
        if now - self._until > _LONGEST_BRAKE:
            # What was wrong then was mended since.
            self._pause = 0.0
        self._pause = min(max(_SHORTEST_BRAKE, _BRAKE_GROWTH * self._pause), _LONGEST_BRAKE)
        self._since, self._until = now, now + self._pause
        self._refusal = refusal
        self._advice = _USELESS if young else _LOCKED

    def reset(self) -> None:
        """Note that a token was given: the password is right, whereas the token may be refused like the one before."""
        if self._advice != _USELESS:
            self._pause = 0.0
        self._refusal, self._since = None, math.inf

    @property
    def until(self) -> float:
        """The moment from which it may be asked for again."""
        return self._until

    def is_on(self, now: float) -> bool:
        """Tell whether it may not be asked for yet."""
        # Of another event loop's time nothing is known.
        return self._since <= now < self._until

    def check(self, now: float) -> None:
        """Raise the refusal as long as it stands."""
        refusal = self._refusal
        if refusal is None or not self.is_on(now):
            return
        raise AuthenticationError(
            status=refusal.status,
            code=refusal.code,
            message=f"{refusal.message}; it was not asked again, and will not be for "
            f"{max(self._until - now, 0.1):.1f} s: {self._advice}",
            request_id=refusal.request_id,
            operation=OPERATION,
        )


class OutageBackoff:
    """Has an identity service that is out of order asked once in a while, however many calls need a token."""

    __slots__ = ("_rest", "_until")

    def __init__(self) -> None:
        self._rest = 0.0
        self._until = -math.inf

    @property
    def is_active(self) -> bool:
        """Whether nothing has been heard since a renewal failed."""
        return self._rest > 0

    def record_failure(self, now: float) -> None:
        """Note that a renewal failed."""
        self._rest = min(max(_SHORTEST_REST, 2 * self._rest), _LONGEST_REST)
        self._until = now + self._rest

    async def wait(self) -> None:
        """Wait until it may be asked again."""
        await anyio.sleep(max(0.0, self._until - anyio.current_time()))


def is_young(since: float, now: float) -> bool:
    """Tell whether what was given at a moment is refused too soon for a new one to help.

    Args:
        since: When it was given.
        now: The time, by the same clock; another event loop's tells nothing.
    """
    return 0 <= now - since < YOUNG
