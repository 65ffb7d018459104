"""How long a job or a server may show nothing new before a wait for it ends."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio
import msgspec

from bms_async.errors import InvalidRequestError

T = TypeVar("T")

_MIN_POLL_TIMEOUT = 600.0
"""Seconds that each poll may take even if `Patience.failing` is less: it may have to wait for a slot."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """The grace periods of a wait for a job or a server, in seconds.

    ::

        async with BmsClient(..., patience=Patience(no_news=3 * 3600)) as bms:
            ...

    Every wait ends: once one of these periods is over, the job is lost (`JobLostError`), and a fleet run reads the
    servers' own states. ``math.inf`` waits for ever.

    Attributes:
        not_found: How long polls may return nothing but 404; a job may be unknown for some seconds after it was
            accepted.
        unauthorized: How long polls may fail with nothing but 401 and 403, or for want of credentials.
        failing: How long polls may fail in any other way; also the timeout of one poll, if it is above ten minutes.
        incomplete: How long a job that has ended may leave a sub-job out that it has never shown.
        no_news: How long successful polls may show no progress: no sub-job that begins or ends, no further status. This
            includes a sub-job that is shown as RUNNING in a job that has ended. Two hours by default: creating a
            server, the slowest work there is, is commonly given half an hour, and a job of one server shows nothing
            in between; four times that leaves room for a busy cloud. Time in which polls failed does not count.

    Raises:
        InvalidRequestError: A value is not a number of seconds, 0 or more.
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
    """Await a poll with a timeout: credentials or a transport that never return would have it go on for ever.

    Args:
        poll: The poll.
        patience: The client's patience; its `failing` is the timeout, but ten minutes at least.

    Raises:
        TimeoutError: The poll has not ended by then.
    """
    timeout = max(patience.failing, _MIN_POLL_TIMEOUT)
    with anyio.move_on_after(timeout):
        return await poll
    raise TimeoutError(f"the poll did not end within {timeout:g} s: its credentials or its transport do not return")
