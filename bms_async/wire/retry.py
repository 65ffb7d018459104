"""Whether and when a failed call is retried (rule R3): a decision, without a clock.

What it guarantees: a reboot reaches a server at most once for each request, since no call is repeated that may have
been executed and would do more the second time.

How: every operation states its `Safety`. A rate-limited call (429, "over limit") was rejected before execution, so any
may be sent again. A call whose result is unknown (no response, 408, 5xx) is sent again only if it reads, or if doing it
twice is the same as once. A reboot or a creation is never repeated once it may have reached the cloud: its error says
so, in `maybe_delivered` or `maybe_done`. A response that cannot be decoded is fetched again for a read only, since the
cloud has acted by then.

Delays are full jitter over an exponential ceiling. A ``Retry-After`` overrides them, for up to an hour. The decision is
pure: no clock and no randomness in here. The session adds the budget of retries that all calls share.

Rejected: the retries of the HTTP libraries and of tenacity or stamina. They judge by the status or the exception alone;
none knows whether an operation is safe to repeat, whether a request was sent, or how long its rate limiter will wait.
"""

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
"""Maximum ``Retry-After`` that is obeyed, in seconds; after a longer one the call is retried after this time."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed call is retried, and after which delays.

    Attributes:
        attempts: Maximum number of attempts, the first one included.
        initial_delay: Upper bound of the first delay, in seconds; it doubles with each attempt.
        max_delay: Upper bound of any delay, in seconds; a ``Retry-After`` may be longer, up to an hour.
        rate_limit_attempts: How often a rate-limited call (429) is sent again, in addition to the `attempts`. Each time
            it waits for its operation's rate limiter or, where the operation has no limit, for the usual delay.

    Raises:
        InvalidRequestError: A value is out of range.
    """

    attempts: int = 4
    initial_delay: float = 0.5
    max_delay: float = 120.0
    rate_limit_attempts: int = 10

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        for name, minimum in (("attempts", 1), ("rate_limit_attempts", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise InvalidRequestError(name, value, f"expected an int of at least {minimum}")
        for name in ("initial_delay", "max_delay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InvalidRequestError(name, value, "expected a number of seconds, at least 0")


DEFAULT_RETRY = RetryPolicy()
NO_RETRY = RetryPolicy(attempts=1, rate_limit_attempts=0)


def may_retry(safety: Safety, error: CallError) -> bool:
    """Return whether a call may be sent again after an error.

    A request that was rejected before execution (429) may always be sent again. One that the cloud may have executed
    may be repeated only if doing it twice is the same as once.
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
    """Return the seconds to wait before the next attempt.

    Args:
        policy: The source of `initial_delay` and `max_delay`.
        attempt: How many attempts have failed, from 1.
        retry_after: The ``Retry-After`` of the response, in seconds; it overrides the policy, up to `MAX_RETRY_AFTER`.
        jitter: A random number in [0, 1): full jitter.
    """
    if retry_after is not None:
        return min(max(0.0, retry_after), MAX_RETRY_AFTER)
    ceiling: float = policy.initial_delay * 2 ** min(attempt - 1, _MAX_DOUBLINGS)
    return jitter * min(policy.max_delay, ceiling)
