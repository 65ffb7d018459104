"""What a client needs of ``bms.power`` before anybody uses it: the window of its wishes, and its counters."""

from __future__ import annotations

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.validation.common import is_number

MAX_WINDOW = 60.0
"""Seconds in which wishes may gather at most."""


class PowerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of ``bms.power``.

    Attributes:
        wishes: How many wishes there were.
        joined: How many of them joined one that was not answered yet.
        waiting: For how many servers a wish waits to be sent.
        under_way: For how many servers one is under way.
        calls: How many batches were sent; parts of refused ones and servers that were busy are not counted.
    """

    wishes: int
    joined: int
    waiting: int
    under_way: int
    calls: int


def check_window(value: object) -> None:
    """Check the seconds in which wishes gather.

    Raises:
        InvalidRequestError: They are no such number.
    """
    if not is_number(value) or not 0 <= value <= MAX_WINDOW:
        raise InvalidRequestError("wish_window", value, f"expected 0 to {MAX_WINDOW:g} seconds")
