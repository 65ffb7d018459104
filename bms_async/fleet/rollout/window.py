"""The hours of the week in which a rollout may begin something, by the local clock of a place: pure, without a clock.

It is guaranteed that `Window.is_open` and `Window.next_change` never contradict each other, and that both follow the
local clock over every change of it. Both therefore read one sorted list: the moments, in UTC, at which the window
changes in the weeks from a given one on. The list is made of local hours by one function, which returns the first
moment at which the local clock shows a given time or a later one. Nothing else here knows that clocks are changed.

Rejected: to compare the local time of a moment with the hours. In autumn "22:00-02:30" would open again after it had
closed, as the clock shows 02:00 twice, and a next change could only be found by trying one minute after the other.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import chain

import msgspec

from bms_async.errors import InvalidRequestError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_DAY = 24 * 60
_WEEK = 7 * _DAY

_MAX_TEXT = 150
"""Characters of the hours: so they are at most 12 intervals a day, and half a year of them takes no 25 ms."""

_WEEKS_AHEAD = 4
"""Weeks of a list of changes: a change of the clock may take the only one of a week, and that week may be the next."""

_MAX_WEEKS_OPEN = 27
"""Weeks that `Window.after_open_seconds` looks through: half a year."""

_YEARS = range(2, 9000)
"""Years in which a moment may be, so that no date near it is beyond what a datetime can hold."""

_ZONE_NAME = 'the IANA name of a time zone, such as "Europe/Berlin"'

_MACHINE_NAMES = ("localtime", "posixrules", "posix/", "right/")
"""Names that are no IANA names, but files beside them; what they mean differs from one machine to another."""


class Window(msgspec.Struct, frozen=True):
    """When a rollout may begin something, by the local clock of a place.

    ::

        Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")
        Window("Mon-Fri 09:00-12:00; Mon-Fri 13:00-17:00; Sat 09:00-12:00", zone="America/New_York")
        Window("22:00-04:00")

    It opens at the first moment at which the local clock shows the start on that day, or anything later. It closes at
    the first moment at which the local clock shows the end, or anything later.

    So where 02:00 is followed by 03:00 in spring, a start at 02:30 opens it at 03:00, and "02:00-03:00" does not open
    it at all that day. Where 03:00 is followed by 02:00 in autumn, "22:00-02:30" closes at the first 02:30 for good,
    and "02:00-03:00" is open for two hours.

    Attributes:
        hours: Days and hours, such as "Sat,Sun 22:00-04:00"; several are separated by ";". Days are names (Mon, Tue,
            Wed, Thu, Fri, Sat, Sun), ranges such as Sat-Mon, or several of them separated by ","; without days it is
            every day. Hours are from 00:00 to 24:00. An end that is not after the start is on the next day, and the
            day is the one of the start.
        zone: The IANA name of the local clock's time zone, such as "Europe/Berlin". Any but UTC needs a database of
            time zones, which most systems have; elsewhere it is the package tzdata.

    Raises:
        InvalidRequestError: The hours cannot be understood, or the zone is not known on this machine.
    """

    hours: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if not isinstance(self.hours, str) or len(self.hours) > _MAX_TEXT:
            raise _refuse(self.hours, f"a str of at most {_MAX_TEXT} characters")
        if not isinstance(self.zone, str) or self.zone.startswith(_MACHINE_NAMES):
            raise InvalidRequestError("zone", self.zone, f"expected {_ZONE_NAME}")
        _read_hours(self.hours)
        _load_zone(self.zone)

    def __repr__(self) -> str:
        return f'Window("{self.hours}", zone="{self.zone}")'

    def __str__(self) -> str:
        return f"{self.hours} ({self.zone})"

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone of the local clock."""
        return _load_zone(self.zone)

    def is_open(self, at: datetime) -> bool:
        """Return whether something may begin at a moment: the start is in the window, the end is not.

        Args:
            at: The moment, an aware datetime of any zone.

        Raises:
            InvalidRequestError: It is not an aware datetime, or not of the years 2 to 8999.
        """
        moment = _check_moment("at", at)
        return bool(bisect_right(self._changes(moment), moment) % 2)

    def next_change(self, at: datetime) -> datetime | None:
        """Return the next moment after the given one at which `is_open` changes, in UTC; None if it is always open.

        Args:
            at: The moment, an aware datetime of any zone.

        Raises:
            InvalidRequestError: It is not an aware datetime, or not of the years 2 to 8999.
        """
        moment = _check_moment("at", at)
        if _read_hours(self.hours) == ((0, _WEEK),):
            return None
        changes = self._changes(moment)
        return changes[bisect_right(changes, moment)]

    def next_opening(self, at: datetime) -> datetime:
        """Return the first moment, from the given one on, at which something may begin, in UTC.

        Args:
            at: The moment, an aware datetime of any zone. It is returned itself if the window is open.

        Raises:
            InvalidRequestError: It is not an aware datetime, or not of the years 2 to 8999.
        """
        moment = _check_moment("at", at)
        changes = self._changes(moment)
        index = bisect_right(changes, moment)
        return moment if index % 2 else changes[index]

    def after_open_seconds(self, start: datetime, seconds: float) -> datetime | None:
        """Return when it will have been open for so long since a moment, in UTC; None if not within half a year.

        Args:
            start: The moment from which on open time counts, an aware datetime of any zone.
            seconds: How many seconds of open time; 0 returns the start itself, whether it is open or not.

        Raises:
            InvalidRequestError: The start is not an aware datetime, or not of the years 2 to 8999, or the seconds are
                not a finite number, 0 or more.
        """
        moment = _check_moment("start", start)
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not (is_number and 0 <= seconds < math.inf):
            raise InvalidRequestError("seconds", seconds, "expected a finite number of seconds, 0 or more")
        if not seconds:
            return moment
        # An int may be more than a float can hold.
        left = float(min(seconds, 2 * _MAX_WEEKS_OPEN * _WEEK * 60))
        monday = self._monday(moment)
        weeks = (_open_in_week(self.hours, self.zone, monday + 7 * week) for week in range(_MAX_WEEKS_OPEN))
        for opens, closes in chain.from_iterable(weeks):
            begin = max(opens, moment)
            length = (closes - begin).total_seconds()
            if length >= left:
                return begin + timedelta(seconds=left)
            left -= max(length, 0.0)
        return None

    def _monday(self, moment: datetime) -> int:
        today = moment.astimezone(_load_zone(self.zone)).toordinal()
        return today - (today - 1) % 7

    def _changes(self, moment: datetime) -> tuple[datetime, ...]:
        return _changes_from(self.hours, self.zone, self._monday(moment))


def _check_moment(argument: str, value: datetime) -> datetime:
    """Return the moment in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidRequestError(argument, value, "expected an aware datetime, such as datetime.now(UTC)")
    if value.year not in _YEARS:
        raise InvalidRequestError(argument, value, f"expected a year from {_YEARS[0]} to {_YEARS[-1]}")
    return value.astimezone(UTC)


@lru_cache(maxsize=64)
def _load_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    # Most runs have no window, and the time zones take long to import.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequestError("zone", name, _why_unknown()) from None


def _why_unknown() -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        ZoneInfo("UTC")
    except ZoneInfoNotFoundError:
        return (
            "expected a time zone that this machine knows, but it has no database of time zones; install the package "
            'tzdata ("pip install tzdata", or that of the system), or use "UTC"'
        )
    return (
        f"expected {_ZONE_NAME}; if it is one, the database of time zones of this machine lacks it: install or update "
        'the package tzdata ("pip install tzdata", or that of the system)'
    )


@lru_cache(maxsize=64)
def _read_hours(text: str) -> tuple[tuple[int, int], ...]:
    """Return the open intervals of a week in minutes from the Monday's 00:00: in order, apart, none beyond the week."""
    pieces: list[tuple[int, int]] = []
    for part in text.split(";"):
        days, start, end = _read_part(text, part)
        for day in days:
            begin, close = day * _DAY + start, day * _DAY + end
            pieces.append((begin, min(close, _WEEK)))
            if close > _WEEK:
                pieces.append((0, close - _WEEK))
    return tuple(_merge(sorted(pieces)))


def _read_part(text: str, part: str) -> tuple[set[int], int, int]:
    words = " ".join(filter(None, part.split(" ")))
    for mark in ",-":
        words = words.replace(f" {mark}", mark).replace(f"{mark} ", mark)
    days, _, hours = words.rpartition(" ")
    match = re.fullmatch(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", hours)
    if match is None:
        raise _refuse(text, f"hours as HH:MM-HH:MM, got {hours!r}")
    start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if start >= _DAY or end > _DAY:
        raise _refuse(text, f"a start from 00:00 to 23:59 and an end up to 24:00, got {hours!r}")
    if start == end:
        raise _refuse(text, f"an end that differs from the start, got {hours!r}; for a whole day write 00:00-24:00")
    return _read_days(text, days), start, end if end > start else end + _DAY


def _read_days(text: str, days: str) -> set[int]:
    if not days:
        return set(range(7))
    found: set[int] = set()
    for item in days.lower().split(","):
        first, dash, last = item.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in _DAYS:
                raise _refuse(text, f"the days Mon, Tue, Wed, Thu, Fri, Sat and Sun, got {name!r}")
        begin = _DAYS.index(first)
        length = (_DAYS.index(last) - begin) % 7 if dash else 0
        found.update((begin + further) % 7 for further in range(length + 1))
    return found


def _refuse(text: object, expected: str) -> InvalidRequestError:
    return InvalidRequestError(
        "window", text, f'expected {expected}; an example is "Sat,Sun 22:00-04:00; Mon-Fri 23:00-24:00"'
    )


def _merge(intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join those that overlap or touch, of intervals in the order of their starts."""
    current: tuple[int, int] | None = None
    for begin, end in intervals:
        if current is not None and begin <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current is not None:
            yield current
        current = begin, end
    if current is not None:
        yield current


@lru_cache(maxsize=128)
def _changes_from(hours: str, zone: str, monday: int) -> tuple[datetime, ...]:
    """Return openings and closings in turn, from the week of that Monday on."""
    changes: list[datetime] = []
    for week in range(_WEEKS_AHEAD):
        for opens, closes in _open_in_week(hours, zone, monday + 7 * week):
            # Over the end of a week, or with the hours between them gone in spring.
            if changes and opens <= changes[-1]:
                changes[-1] = closes
            else:
                changes += opens, closes
    return tuple(changes)


@lru_cache(maxsize=256)
def _open_in_week(hours: str, zone: str, monday: int) -> tuple[tuple[datetime, datetime], ...]:
    """Return when the window is open in the local week of that Monday (the proleptic ordinal of its date)."""
    place = _load_zone(zone)
    # What is added to an aware datetime moves what the clock shows.
    midnight = datetime.fromordinal(monday).replace(tzinfo=place)
    moments = (
        tuple(_first_moment(midnight + timedelta(minutes=minute), place) for minute in interval)
        for interval in _read_hours(hours)
    )
    return tuple((opens, closes) for opens, closes in moments if opens < closes)


def _first_moment(shown: datetime, place: tzinfo) -> datetime:
    """Return the first moment, in UTC, at which the local clock of a place shows that time or a later one."""
    # Of a time that is shown twice fold=0 is the first.
    again = shown.replace(fold=1)
    if shown.utcoffset() == again.utcoffset():
        return shown.astimezone(UTC)
    late, early = shown.astimezone(UTC), again.astimezone(UTC)
    if early > late:
        return late
    # The clock never shows it; it jumps over it at some second after `early`, and by `late` it has.
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        # Of one zone, so that what the clock shows is compared and not the moments.
        if middle.astimezone(place) >= shown:
            late = middle
        else:
            early = middle
    return late
