"""When not to send a request for a token: after a refusal, and during an outage (rule R8).

Clouds lock an account after about five wrong passwords within a quarter of an hour, and people log in to it as well. So
`LockoutGuard` is a circuit breaker. A refused password is sent again after 30 s, after 3 minutes, and then once in
15 minutes: three times in the first quarter of an hour and once in each later one. Until then calls get the refusal
without a request. A password that is accepted closes the breaker.

It also trips when a token that replaced a refused one is refused within `YOUNG` seconds. The identity service accepts
the password then, and the cloud rejects every token; one more token would be one more refusal.

`OutageBackoff` bounds the load on an identity service that fails otherwise: after a failed renewal one request at a
time is sent, 1 to 10 s apart, however many calls need a token.

Rejected: a constant pause, because one that is short enough after a typing error would lock the account of a program
that runs all night; and giving up for good, because passwords are changed while programs run.
"""

from __future__ import annotations

import math

import anyio

from bms_async.errors import AuthenticationError

from ._keystone import OPERATION

YOUNG = 60.0
"""Seconds of age below which a refused replacement (a token or a key) means that a further one would be refused too."""

_MIN_LOCKOUT_PAUSE, _PAUSE_GROWTH, _MAX_LOCKOUT_PAUSE = 30.0, 6, 900.0
_MIN_BACKOFF, _MAX_BACKOFF = 1.0, 10.0

_MAY_LOCK = "an account is locked after a few failed attempts"
_USELESS = "a new token would be refused too"


class LockoutGuard:
    """A circuit breaker for requests that were refused: each further refusal keeps it open for longer."""

    __slots__ = ("_pause", "_reason", "_refusal", "_tripped_at", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._tripped_at = self._until = -math.inf
        self._refusal: AuthenticationError | None = None
        self._reason = ""

    def trip(self, refusal: AuthenticationError | None, now: float, *, young: bool = False) -> None:
        """Record a refusal.

        Args:
            refusal: The error for callers until the pause is over; None if they get none.
            now: The loop's time.
            young: Whether a new token was refused, and not the password.
        """
        if now - self._until > _MAX_LOCKOUT_PAUSE:
            # The former problem was solved meanwhile; this is another one.
            self._pause = 0.0
        self._pause = min(max(_MIN_LOCKOUT_PAUSE, _PAUSE_GROWTH * self._pause), _MAX_LOCKOUT_PAUSE)
        self._tripped_at, self._until = now, now + self._pause
        self._refusal = refusal
        self._reason = _USELESS if young else _MAY_LOCK

    def reset(self) -> None:
        """Record that a token was issued: the password is right, but the token may be refused like the last one."""
        if self._reason != _USELESS:
            self._pause = 0.0
        self._refusal, self._tripped_at = None, math.inf

    @property
    def until(self) -> float:
        """The end of the pause, by the loop's clock."""
        return self._until

    def is_tripped(self, now: float) -> bool:
        """Return whether the pause after a refusal still lasts."""
        # Before `_tripped_at` it is another event loop's clock, which says nothing here.
        return self._tripped_at <= now < self._until

    def check(self, now: float) -> None:
        """Raise the refusal while the pause lasts."""
        refusal = self._refusal
        if refusal is None or not self.is_tripped(now):
            return
        raise AuthenticationError(
            status=refusal.status,
            code=refusal.code,
            message=f"{refusal.message}; not asked again, and will not be for {max(self._until - now, 0.1):.1f} s: "
            f"{self._reason}",
            request_id=refusal.request_id,
            operation=OPERATION,
        )


class OutageBackoff:
    """Spaces out requests to an identity service that fails, however many calls need a token."""

    __slots__ = ("_delay", "_until")

    def __init__(self) -> None:
        self._delay = 0.0
        self._until = -math.inf

    @property
    def is_active(self) -> bool:
        """Whether the last renewal failed."""
        return self._delay > 0

    def record_failure(self, now: float) -> None:
        """Record that a renewal failed."""
        self._delay = min(max(_MIN_BACKOFF, 2 * self._delay), _MAX_BACKOFF)
        self._until = now + self._delay

    async def wait(self) -> None:
        """Wait until the next request may be sent."""
        await anyio.sleep(max(0.0, self._until - anyio.current_time()))


def is_young(issued_at: float, now: float) -> bool:
    """Return whether a token or key is so new that another one would be refused like it.

    Args:
        issued_at: When it was issued.
        now: The time by the same clock. A negative age is by another event loop's clock, and counts as old.
    """
    return 0 <= now - issued_at < YOUNG
