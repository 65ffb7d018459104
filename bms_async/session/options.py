"""The options of a session: whatever `with_options` can change for some of a client's calls."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.limits import Lane
from bms_async.wire import DEFAULT_RETRY, NO_RETRY, RetryPolicy


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How calls are made.

    Attributes:
        timeout: Seconds that one attempt may take once it is connected.
        total_timeout: Seconds that the whole call may take, waiting and all attempts included; None for no bound.
        retry: How it is retried.
        lane: The lane that calls wait in; None leaves it to the call.
        max_wait: Seconds that a call may wait for its slot; None for as long as the limit requires.
    """

    timeout: float = 60.0
    total_timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    lane: Lane | None = None
    max_wait: float | None = None

    def replace(self, **changes: Any) -> Self:
        """Return options with some values replaced; those that are UNSET stay.

        Raises:
            InvalidRequestError: A value is invalid.
        """
        given = {name: value for name, value in changes.items() if value is not msgspec.UNSET}
        for name in ("timeout", "total_timeout", "max_wait"):
            if name in given and not (given[name] is None and name != "timeout"):
                _check_seconds(name, given[name], zero=name == "max_wait")
        if "retry" in given:
            given["retry"] = _check_retry(given["retry"])
        lane = given.get("lane")
        if lane is not None and not isinstance(lane, Lane):
            raise InvalidRequestError("lane", lane, "expected Lane.INTERACTIVE or Lane.BULK, or None")
        return msgspec.structs.replace(self, **given)

    def unbounded(self) -> Self:
        """Return the same options without a bound on waiting, for work that is meant to wait."""
        if self.total_timeout is None and self.max_wait is None:
            return self
        return msgspec.structs.replace(self, total_timeout=None, max_wait=None)


def _check_seconds(name: str, value: object, *, zero: bool) -> None:
    # A NaN compares as neither.
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or (zero and value == 0)):
        raise InvalidRequestError(name, value, f"expected a number of seconds, {'0 or more' if zero else 'above 0'}")


def _check_retry(value: object) -> RetryPolicy:
    if value is None:
        return NO_RETRY
    if not isinstance(value, RetryPolicy):
        raise InvalidRequestError("retry", value, "expected a RetryPolicy, or None for a single attempt")
    return value
