"""How long the cloud may tell nothing before a wait ends."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio
import msgspec

from bms_async.errors import InvalidRequestError

T = TypeVar("T")

_MIN_BOUND = 600.0
"""Seconds that each poll may take, however short the patience: it may have to wait for a slot."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client waits for news of a job or of a server, in seconds, each counted from the last news.

    ::

        async with BmsClient(..., patience=Patience(no_news=3 * 3600)) as bms:
            ...

    Every wait has an end: once one of these is over, the job is lost (`JobLostError`), and a fleet run reads the
    servers' own states. ``math.inf`` waits for ever.

    Attributes:
        not_found: How long a 404 is not believed: a job may be unknown for some seconds after it was accepted.
        unauthorized: How long there may be nothing but 401 and 403, or no credentials to be had.
        failing: How long there may be nothing but other failed polls; also how long one poll may take, if that is more
            than ten minutes.
        incomplete: How long a job that has ended may leave untold what became of a sub-job that it never showed.
        no_news: How long polls may succeed and show nothing new: no sub-job that begins or ends, no other status. It
            also holds for a sub-job that is shown as RUNNING in a job that has ended. Two hours by default: making a
            server, the slowest work there is, is commonly given half an hour, and a job of one server shows nothing
            in between; four times that leaves room for a busy cloud. Time in which polls failed does not count.

    Raises:
        InvalidRequestError: One of them is no number of seconds.
    """

    not_found: float = 60.0
    unauthorized: float = 300.0
    failing: float = 3600.0
    incomplete: float = 60.0
    no_news: float = 7200.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not value >= 0:
                raise InvalidRequestError(name, value, "expected seconds, 0 or more; math.inf waits for ever")


async def bounded_poll(poll: Awaitable[T], patience: Patience) -> T:
    """Await a poll for as long as polls may fail: credentials that never answer would have it go on for ever.

    Args:
        poll: The poll.
        patience: For how long polls may fail.

    Raises:
        TimeoutError: It has not ended by then.
    """
    longest = max(patience.failing, _MIN_BOUND)
    with anyio.move_on_after(longest):
        return await poll
    raise TimeoutError(f"the poll had no end for {longest:g} s: its credentials or its transport do not answer")
