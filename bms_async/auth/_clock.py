"""The cloud's clock, by which requests are dated: ours, and what it is found to be wrong by."""

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
"""Seconds that our clock and the cloud's may differ; a gateway bears 15 minutes, an answer is seconds on its way."""

_log = logging.getLogger("bms_async.auth")

_SENT_DATE = "%Y%m%dT%H%M%SZ"


class CloudClock:
    """Tells the cloud's time.

    Args:
        clock: Returns ours, aware; None for this machine's.

    Raises:
        ConfigurationError: It is not aware.
    """

    __slots__ = ("_offset", "_time")

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        if clock is not None and clock().tzinfo is None:
            raise ConfigurationError("AkSkAuth: clock must return an aware datetime, as datetime.now(UTC) does")
        self._time = time.time if clock is None else functools.partial(_unix, clock)
        self._offset = 0.0

    def second(self) -> int:
        """Return the time, in whole seconds since 1970."""
        return int(self._time() + self._offset)

    def correct(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Go by the clock of who refused a request, if that may be why; tell whether the request was dated wrongly.

        Args:
            request: As it was signed.
            response: The refusal, which tells the time there.
        """
        theirs = _read_date(response.header("Date"))
        if theirs is None:
            return False
        ahead = theirs.timestamp() - self._time() - self._offset
        if abs(ahead) > TOLERANCE:
            self._offset += round(ahead)
            _log.warning(
                "%s was refused: this machine's clock is %.0f s %s the cloud's; requests are dated by the cloud's now",
                request.operation,
                abs(ahead),
                "behind" if ahead > 0 else "ahead of",
            )
            return True
        # The clock is right, but this request may have been signed before another call corrected it.
        dated = _read_sent_date(request.headers.get(DATE_HEADER))
        return dated is not None and abs((theirs - dated).total_seconds()) > TOLERANCE


def _unix(clock: Callable[[], datetime]) -> float:
    return clock().timestamp()


def _read_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_sent_date(value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.strptime(value, _SENT_DATE).replace(tzinfo=UTC)
    except ValueError:
        return None
