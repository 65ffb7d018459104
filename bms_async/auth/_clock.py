"""The cloud's clock, by which signed requests are dated: this machine's, corrected by an offset."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bms_async.errors import ConfigurationError
from bms_async.wire import HttpRequest, HttpResponse
from bms_async.wire.signing import DATE_HEADER

TOLERANCE = 60.0
"""Accepted difference of the two clocks, in seconds. Gateways accept 15 minutes; a response takes seconds to arrive."""

_log = logging.getLogger("bms_async.auth")

_SENT_DATE = "%Y%m%dT%H%M%SZ"


class CloudClock:
    """The time of the cloud, as far as it is known.

    Args:
        clock: Returns the local time, timezone-aware; None for this machine's.

    Raises:
        ConfigurationError: `clock` returns a naive datetime.
    """

    __slots__ = ("_offset", "_time")

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        if clock is not None and clock().tzinfo is None:
            raise ConfigurationError(
                "AkSkAuth: clock: expected an aware datetime, got a naive one; return datetime.now(UTC)"
            )
        self._time = time.time if clock is None else functools.partial(_unix, clock)
        self._offset = 0.0

    def now(self) -> int:
        """Return the cloud's time, in whole seconds since 1970."""
        return int(self._time() + self._offset)

    def adjust_from(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Adopt the clock of a refusal if it differs from ours; return whether the request had a wrong date.

        Args:
            request: The request as it was signed.
            response: The refusal; its ``Date`` is the cloud's time.
        """
        cloud_time = _read_date(response.header("Date"))
        if cloud_time is None:
            return False
        ahead = cloud_time.timestamp() - self._time() - self._offset
        if abs(ahead) > TOLERANCE:
            self._offset += round(ahead)
            _log.warning(
                "%s was refused: this machine's clock is %.0f s %s the cloud's; from now on requests use the cloud's",
                request.operation,
                abs(ahead),
                "behind" if ahead > 0 else "ahead of",
            )
            return True
        # The offset is right now, but this request may have been signed before another call adjusted it.
        dated = _read_sent_date(request.headers.get(DATE_HEADER))
        return dated is not None and abs((cloud_time - dated).total_seconds()) > TOLERANCE


def _unix(clock: Callable[[], datetime]) -> float:
    return clock().timestamp()


def _read_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _read_sent_date(value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.strptime(value, _SENT_DATE).replace(tzinfo=UTC)
    except ValueError:
        return None
