"""How long a server is left alone after an attempt that failed: pure."""

from __future__ import annotations

import math

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.validation.common import is_number

_MAX_DOUBLINGS = 1000.0
"""No greater power of two is computed: it would not fit into a float."""


class Backoff(msgspec.Struct, frozen=True):
    """How long a server is left alone after each attempt that failed, growing up to a cap.

    Attributes:
        base: Seconds after the first attempt.
        cap: Seconds after any attempt, at most.
        factor: By how much the time grows with each attempt.
        jitter: The share of the time, 0 to 1, by which it is made shorter at random, so that servers that failed
            together are not all tried together.

    Raises:
        InvalidRequestError: A value is invalid.
    """

    base: float = 60.0
    cap: float = 3600.0
    factor: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not (is_number(self.base) and 0 < self.base < math.inf):
            raise InvalidRequestError("base", self.base, "expected a number of seconds above 0")
        if not (is_number(self.cap) and self.base <= self.cap < math.inf):
            raise InvalidRequestError("cap", self.cap, f"expected a number of seconds, {self.base:g} (base) or more")
        if not (is_number(self.factor) and 1 <= self.factor < math.inf):
            raise InvalidRequestError("factor", self.factor, "expected a number, 1 or more")
        if not (is_number(self.jitter) and 0 <= self.jitter <= 1):
            raise InvalidRequestError("jitter", self.jitter, "expected a share from 0 to 1")

    def delay(self, attempts: int, random: float) -> float:
        """Return the seconds for which a server is left alone.

        Args:
            attempts: How many attempts in a row have failed, at least 1.
            random: A number from 0 to 1 that was drawn for this.
        """
        doublings = min(_MAX_DOUBLINGS, (attempts - 1) * math.log2(self.factor))
        seconds = min(self.cap, self.base * math.exp2(doublings))
        return seconds * (1 - self.jitter * random)
