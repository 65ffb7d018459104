"""Whether and when a call that failed is tried again: a decision, without a clock."""

from __future__ import annotations

import math

import msgspec

from bms_async.errors import (
    ApiError,
    CallError,
    DecodeError,
    InvalidRequestError,
    RateLimitedError,
    ResponseTooLargeError,
    TransportError,
)

from .operation import Safety

_RETRYABLE_STATUSES = frozenset({408, 500, 502, 503, 504})
_MAX_DOUBLINGS = 64

MAX_RETRY_AFTER = 3600.0
"""Seconds that a ``Retry-After`` is obeyed for; who asks for more is asked again after them."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a failed call is tried again.

    Attributes:
        attempts: Tries in all, the first one included.
        initial_delay: Seconds that the first delay is drawn from; it doubles with each try.
        max_delay: The longest delay in seconds that is drawn; what a ``Retry-After`` asks for is waited for, up to an
            hour.
        rate_limit_attempts: How often a call that was counted out (429) is sent again, beside the `attempts`; each time
            it waits until its operation may go on or, where that has no limit, like any other call that failed.

    Raises:
        InvalidRequestError: One of them cannot be.
    """

    attempts: int = 4
    initial_delay: float = 0.5
    max_delay: float = 120.0
    rate_limit_attempts: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, least in (("attempts", 1), ("rate_limit_attempts", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidRequestError(name, value, f"a whole number, {least} or more")
        for name in ("initial_delay", "max_delay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InvalidRequestError(name, value, "seconds, 0 or more")


DEFAULT_RETRY = RetryPolicy()
NO_RETRY = RetryPolicy(attempts=1, rate_limit_attempts=0)


def may_retry(safety: Safety, error: CallError) -> bool:
    """Tell whether a call may be sent again after this.

    What the cloud refused at the door was not done and may always be sent again. What it may have done may be
    repeated only when doing it twice is the same as once.
    """
    if isinstance(error, RateLimitedError):
        return True
    if isinstance(error, ResponseTooLargeError):
        return False
    if isinstance(error, TransportError):
        return safety is not Safety.UNSAFE or not error.maybe_delivered
    if isinstance(error, ApiError):
        return safety is not Safety.UNSAFE and error.status in _RETRYABLE_STATUSES
    return isinstance(error, DecodeError) and safety is Safety.READ


def retry_delay(policy: RetryPolicy, *, attempt: int, retry_after: float | None, jitter: float) -> float:
    """Return the seconds to wait before the next try.

    Args:
        policy: Whose `initial_delay` and `max_delay` count.
        attempt: How many tries have failed, from 1.
        retry_after: What ``Retry-After`` retry_after for; it wins, up to `MAX_RETRY_AFTER`.
        jitter: A random number in [0, 1): full jitter.
    """
    if retry_after is not None:
        return min(max(0.0, retry_after), MAX_RETRY_AFTER)
    ceiling: float = policy.initial_delay * 2 ** min(attempt - 1, _MAX_DOUBLINGS)
    return jitter * min(policy.max_delay, ceiling)
