"""What a single call may have different from the client's other calls."""

from __future__ import annotations

import math
from typing import Any, Self

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.limits import Lane
from bms_async.wire import DEFAULT_RETRY, NO_RETRY, RetryPolicy


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How calls are made.

    Attributes:
        timeout: Seconds that one try may take once it is connected.
        total_timeout: Seconds that the whole call may take, its waiting and all its tries included; None for no end.
        retry: How it is tried again.
        lane: Who goes first when calls must wait; None leaves it to the call.
        max_wait: Seconds that it may wait for its slot; None for as long as the limit asks.
    """

    timeout: float = 60.0
    total_timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    lane: Lane | None = None
    max_wait: float | None = None

    def replace(self, **changes: Any) -> Self:
        """Return options with some of these changed; what is UNSET stays.

        Raises:
            InvalidRequestError: One of them cannot be right.
        """
        given = {name: value for name, value in changes.items() if value is not msgspec.UNSET}
        for name in ("timeout", "total_timeout", "max_wait"):
            if name in given and not (given[name] is None and name != "timeout"):
                _check_seconds(name, given[name], zero=name == "max_wait")
        if "retry" in given:
            given["retry"] = _check_retry(given["retry"])
        lane = given.get("lane")
        if lane is not None and not isinstance(lane, Lane):
            raise InvalidRequestError("lane", lane, "Lane.INTERACTIVE or Lane.BULK is needed, or None")
        return msgspec.structs.replace(self, **given)

    def unbounded(self) -> Self:
        """Return the same without a bound on waiting, for work that is meant to wait."""
        if self.total_timeout is None and self.max_wait is None:
            return self
        return msgspec.structs.replace(self, total_timeout=None, max_wait=None)


def _check_seconds(name: str, value: object, *, zero: bool) -> None:
    """Refuse what is no time to wait."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if not right or value < 0 or (value == 0 and not zero):  # type: ignore[operator]  # it is a number then
        raise InvalidRequestError(
            name, value, f"{'0' if zero else 'more than 0'} seconds are needed" + " or more" * zero
        )


def _check_retry(value: object) -> RetryPolicy:
    if value is None:
        return NO_RETRY
    if not isinstance(value, RetryPolicy):
        raise InvalidRequestError("retry", value, "a RetryPolicy is needed, or None for a single try")
    return value
