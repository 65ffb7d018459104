"""When a rollout may begin something, by the local clock, over every kind of change of it."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bms_async.errors import InvalidRequestError
from bms_async.fleet.rollout import window as module
from bms_async.fleet.rollout.window import Window

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)
NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)
"""A Wednesday."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def changes(window: Window, since: str, until: str) -> list[str]:
    """The moments in UTC at which a window changes, the first of them an opening; None of them may change nothing."""
    at, end, found = utc(since), utc(until), []
    assert not window.is_open(at)
    while (change := window.next_change(at)) is not None and change <= end:
        assert window.is_open(change) is not window.is_open(change - MICROSECOND)
        found.append(f"{change:%m-%d %H:%M}")
        at = change
    return found


@pytest.mark.parametrize(
    ("hours", "opened", "closed"),
    [
        ("Sat,Sun 22:00-04:00", ["05-18 22:00", "05-19 22:00"], ["05-19 04:00", "05-20 04:00"]),
        ("Mon-Fri 09:00-17:00", ["05-15 09:00", "05-16 09:00"], ["05-15 17:00", "05-16 17:00"]),
        ("22:00-04:00", ["05-14 22:00", "05-15 22:00"], ["05-15 04:00", "05-16 04:00"]),
        ("22:00-00:00", ["05-14 22:00", "05-15 22:00"], ["05-15 00:00", "05-16 00:00"]),
        ("Sat 20:00-24:00; Sun 00:00-02:00", ["05-18 20:00"], ["05-19 02:00"]),
        ("Sun 22:00-24:00; Mon 00:00-02:00", ["05-19 22:00"], ["05-20 02:00"]),
        ("Wed 08:00-12:00; Wed 10:00-14:00; Wed 11:00-11:30", ["05-15 08:00"], ["05-15 14:00"]),
        ("Sat-Mon 10:00-11:00", ["05-18 10:00", "05-19 10:00", "05-20 10:00"], ["05-18 11:00", "05-19 11:00"]),
        ("sat-MON,  Wed   10:00 - 11:00", ["05-15 10:00", "05-18 10:00"], ["05-15 11:00", "05-18 11:00"]),
        ("Wed-Wed 10:00-11:00 ;Wed 12:00-13:00", ["05-15 10:00", "05-15 12:00"], ["05-15 11:00", "05-15 13:00"]),
        ("Fri-Thu 23:59-24:00", ["05-14 23:59", "05-15 23:59"], ["05-15 00:00", "05-16 00:00"]),
    ],
)
def test_hours_open_and_close_when_they_say(hours: str, opened: list[str], closed: list[str]) -> None:
    found = changes(Window(hours), "2024-05-14 18:00", "2024-05-21 18:00")
    assert found[::2][: len(opened)] == opened
    assert found[1::2][: len(closed)] == closed


@pytest.mark.parametrize(
    ("hours", "zone", "since", "expected"),
    [
        # 02:00 becomes 03:00 at 01:00 UTC.
        ("02:30-05:00", "Europe/Berlin", "2024-03-30 20:00", ["03-31 01:00", "03-31 03:00"]),
        ("22:00-04:00", "Europe/Berlin", "2024-03-30 20:00", ["03-30 21:00", "03-31 02:00"]),
        ("22:00-02:30", "Europe/Berlin", "2024-03-30 20:00", ["03-30 21:00", "03-31 01:00"]),
        ("02:00-03:00", "Europe/Berlin", "2024-03-30 20:00", []),
        ("01:00-02:00; 03:00-04:00", "Europe/Berlin", "2024-03-30 20:00", ["03-31 00:00", "03-31 02:00"]),
        # 03:00 becomes 02:00 at 01:00 UTC.
        ("22:00-02:30", "Europe/Berlin", "2024-10-26 19:00", ["10-26 20:00", "10-27 00:30"]),
        ("02:00-03:00", "Europe/Berlin", "2024-10-26 19:00", ["10-27 00:00", "10-27 02:00"]),
        ("02:30-02:45", "Europe/Berlin", "2024-10-26 19:00", ["10-27 00:30", "10-27 00:45"]),
        ("01:00-02:15; 02:30-04:00", "Europe/Berlin", "2024-10-26 19:00",
         ["10-26 23:00", "10-27 00:15", "10-27 00:30", "10-27 03:00"]),
        # Half an hour: 02:00 becomes 02:30 at 15:30 UTC, and 02:00 becomes 01:30 at 15:00 UTC.
        ("02:10-03:00", "Australia/Lord_Howe", "2024-10-05 12:00", ["10-05 15:30", "10-05 16:00"]),
        ("01:30-02:00", "Australia/Lord_Howe", "2024-04-06 12:00", ["04-06 14:30", "04-06 15:30"]),
        ("00:00-01:45", "Australia/Lord_Howe", "2024-04-06 12:00", ["04-06 13:00", "04-06 14:45"]),
        # Thursday the 29th is followed by Saturday the 31st at 10:00 UTC.
        ("Fri 09:00-17:00", "Pacific/Apia", "2011-12-30 00:00", []),
        ("Fri 22:00-04:00", "Pacific/Apia", "2011-12-30 00:00", ["12-30 10:00", "12-30 14:00"]),
        ("Thu 22:00-04:00", "Pacific/Apia", "2011-12-30 00:00", ["12-30 08:00", "12-30 10:00"]),
        ("22:00-04:00", "Pacific/Apia", "2011-12-30 00:00", ["12-30 08:00", "12-30 14:00"]),
        ("Thu 15:00-24:00; Sat 00:00-03:00", "Pacific/Apia", "2011-12-30 00:00", ["12-30 01:00", "12-30 13:00"]),
        # Midnight becomes 01:00 at 04:00 UTC, and 24:00 becomes 23:00 at 03:00 UTC.
        ("Sun 00:00-04:00", "America/Santiago", "2024-09-08 00:00", ["09-08 04:00", "09-08 07:00"]),
        ("Sat 22:00-24:00", "America/Santiago", "2024-09-08 00:00", ["09-08 02:00", "09-08 04:00"]),
        ("Sat 22:00-24:00", "America/Santiago", "2024-04-06 23:00", ["04-07 01:00", "04-07 04:00"]),
        ("Sun 00:00-01:00", "America/Santiago", "2024-04-06 23:00", ["04-07 04:00", "04-07 05:00"]),
        # Midnight becomes 01:00 at 22:00 UTC, and 24:00 becomes 23:00 at 21:00 UTC.
        ("Sun 00:30-04:00", "Asia/Beirut", "2024-03-30 12:00", ["03-30 22:00", "03-31 01:00"]),
        ("Sat 23:00-24:00", "Asia/Beirut", "2024-10-26 12:00", ["10-26 20:00", "10-26 22:00"]),
        # 01:00 becomes midnight at 05:00 UTC.
        ("Sat 22:00-24:00", "America/Havana", "2024-11-03 00:00", ["11-03 02:00", "11-03 04:00"]),
        ("Sun 00:00-00:30", "America/Havana", "2024-11-03 00:00", ["11-03 04:00", "11-03 04:30"]),
        # One minute after midnight it becomes 23:01 of the day before, at 02:31 UTC.
        ("Sat 23:00-24:00", "America/St_Johns", "2006-10-29 00:00", ["10-29 01:30", "10-29 02:30"]),
        ("Sun 00:00-00:30", "America/St_Johns", "2006-10-29 00:00", ["10-29 02:30", "10-29 04:00"]),
        # The end of a day becomes the next day: 23:00 becomes midnight at 01:00 UTC.
        ("Sat 23:30-04:00", "America/Nuuk", "2024-03-30 20:00", ["03-31 01:00", "03-31 05:00"]),
        ("Sat 23:15-23:45", "America/Nuuk", "2024-03-30 20:00", []),
        # From a rule and not from the table of a zone.
        ("02:30-05:00", "Europe/Berlin", "2050-03-26 20:00", ["03-27 01:00", "03-27 03:00"]),
        ("22:00-02:30", "Europe/Berlin", "2050-10-29 19:00", ["10-29 20:00", "10-30 00:30"]),
    ],
)  # fmt: skip
def test_hours_follow_a_local_clock_that_is_changed(hours: str, zone: str, since: str, expected: list[str]) -> None:
    until = utc(since) + timedelta(hours=18)
    assert changes(Window(hours, zone=zone), since, f"{until:%Y-%m-%d %H:%M}")[:4] == expected


def test_a_window_read_in_utc_would_open_at_another_hour_once_summer_time_has_come() -> None:
    local, read_in_utc = Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin"), Window("Sat,Sun 21:00-03:00")
    night_before, night_of, night_after = utc("2024-03-24 20:30"), utc("2024-03-30 20:30"), utc("2024-03-31 19:30")
    assert local.next_change(night_before) == read_in_utc.next_change(night_before)
    assert [window.next_opening(night_of) for window in (local, read_in_utc)] == [utc("2024-03-30 21:00")] * 2
    assert [window.next_opening(night_after) for window in (local, read_in_utc)] == [
        utc("2024-03-31 20:00"),
        utc("2024-03-31 21:00"),
    ]
    assert local.is_open(utc("2024-03-31 01:59"))
    assert not local.is_open(utc("2024-03-31 02:00"))
    assert read_in_utc.is_open(utc("2024-03-31 02:00"))


def test_comparing_what_the_clock_shows_would_open_a_window_again_that_has_closed() -> None:
    window, place = Window("22:00-02:30", zone="Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Berlin")
    second_time = utc("2024-10-27 01:15")
    assert f"{second_time.astimezone(place):%H:%M}" == "02:15"
    assert not window.is_open(second_time)


def test_the_one_chance_of_a_week_that_spring_takes_comes_a_week_later() -> None:
    window = Window("Sun 02:10-02:50", zone="Europe/Berlin")
    assert window.next_change(utc("2024-03-24 02:00")) == utc("2024-04-07 00:10")
    nearly_always = Window("Sun 02:50-02:10", zone="Europe/Berlin")
    assert not nearly_always.is_open(utc("2024-03-25 12:00"))
    other_days = Window("Mon-Sat 00:00-24:00; Sun 00:00-02:10; Sun 02:50-24:00", zone="Europe/Berlin")
    assert other_days.next_change(utc("2024-03-24 02:00")) == utc("2024-04-07 00:10")


@pytest.mark.parametrize("hours", ["00:00-24:00", "12:00-11:59; 11:00-12:00", "Sat-Fri 00:00-12:00; 12:00-00:00"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Apia"])
def test_a_window_that_is_always_open_never_changes(hours: str, zone: str) -> None:
    window = Window(hours, zone=zone)
    for at in (utc("2011-12-30 10:00"), utc("2024-03-31 01:00"), utc("2024-10-27 01:30"), NOON):
        assert window.is_open(at)
        assert window.next_change(at) is None
        assert window.next_opening(at) == at


def test_a_moment_may_be_of_any_zone() -> None:
    window = Window("22:00-04:00", zone="Europe/Berlin")
    for zone in (zoneinfo.ZoneInfo("Asia/Tokyo"), timezone(timedelta(hours=-9, minutes=-30)), UTC):
        at = utc("2024-07-01 20:00").astimezone(zone)
        assert window.is_open(at)
        assert not window.is_open(at - MICROSECOND)
        change = window.next_change(at)
        assert change == utc("2024-07-02 02:00")
        assert change is not None
        assert change.tzinfo is UTC
        assert window.next_opening(at).tzinfo is UTC


def test_the_next_opening_is_now_if_the_window_is_open() -> None:
    window = Window("Wed 10:00-14:00; Sat 10:00-14:00")
    assert window.next_opening(NOON) == NOON
    assert window.next_opening(utc("2024-05-15 14:00")) == utc("2024-05-18 10:00")
    assert window.next_opening(utc("2024-05-14 14:00")) == utc("2024-05-15 10:00")


@pytest.mark.parametrize(
    ("start", "seconds", "end"),
    [
        ("2024-03-29 12:00", 0, "2024-03-29 12:00"),
        ("2024-03-29 12:00", 1800, "2024-03-30 21:30"),
        ("2024-03-30 21:30", 1800.0, "2024-03-30 22:00"),
        ("2024-03-29 12:00", 5 * 3600, "2024-03-31 02:00"),
        ("2024-03-29 12:00", 5 * 3600 + 60, "2024-03-31 20:01"),
        ("2024-03-31 02:00", 6 * 3600 + 60, "2024-04-06 20:01"),
        ("2024-10-26 12:00", 7 * 3600, "2024-10-27 03:00"),
        ("2024-03-29 12:00", (5 + 6 + 20 * 12) * 3600, "2024-08-19 02:00"),
    ],
)
def test_open_time_is_counted_over_closed_hours_and_changes_of_the_clock(start: str, seconds: float, end: str) -> None:
    window = Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")
    assert window.after_open_seconds(utc(start), seconds) == utc(end)


@pytest.mark.parametrize("seconds", [700 * 3600, 1e300, 10**400])
def test_open_time_that_does_not_fit_in_half_a_year_has_no_end(seconds: float) -> None:
    assert Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin").after_open_seconds(NOON, seconds) is None
    assert Window("00:00-24:00").after_open_seconds(NOON, 700 * 3600) == NOON + timedelta(hours=700)


ZONES = {
    "Europe/Berlin": ["2024-03-31 01:00", "2024-10-27 01:00", "2050-03-27 01:00"],
    "America/New_York": ["2024-03-10 07:00", "2024-11-03 06:00"],
    "Australia/Lord_Howe": ["2024-10-05 15:30", "2024-04-06 15:00"],
    "Pacific/Apia": ["2011-12-30 10:00", "2011-09-24 14:00"],
    "America/Santiago": ["2024-09-08 04:00", "2024-04-07 03:00"],
    "Asia/Beirut": ["2024-03-30 22:00", "2024-10-26 21:00"],
    "America/Havana": ["2024-03-10 05:00", "2024-11-03 05:00"],
    "America/St_Johns": ["2006-10-29 02:31", "2006-04-02 03:31"],
    "America/Nuuk": ["2024-03-31 01:00", "2024-10-27 01:00"],
    "Africa/Casablanca": ["2024-03-10 02:00", "2024-04-14 02:00"],
    "Asia/Pyongyang": ["2018-05-04 15:00", "2015-08-14 15:00"],
    "Asia/Kathmandu": ["2024-06-15 00:00"],
    "UTC": ["2024-06-15 00:00"],
}
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@st.composite
def parts(draw: st.DrawFn) -> tuple[frozenset[int], int, int]:
    days = draw(st.frozensets(st.integers(0, 6), min_size=1))
    times = st.one_of(st.integers(0, 47).map(lambda half: 30 * half), st.integers(0, 1439), st.integers(0, 239))
    start, end = draw(times), draw(st.one_of(times, st.just(1440)))
    return days, start, end if end != start else (start + 1) % 1440


def written(drawn: list[tuple[frozenset[int], int, int]]) -> str:
    def clock(minute: int) -> str:
        return f"{minute // 60:02}:{minute % 60:02}"

    return "; ".join(
        f"{','.join(NAMES[day] for day in days)} {clock(start)}-{clock(end)}" for days, start, end in drawn
    )


def walk(drawn: list[tuple[frozenset[int], int, int]], zone: str, moments: list[datetime]) -> list[bool]:
    """Whether it is open at each moment: for each day's hours, as the clock is looked at minute by minute."""
    place = zoneinfo.ZoneInfo(zone)
    shown = [moment.astimezone(place).replace(tzinfo=None) for moment in moments]
    is_open = [False] * len(moments)
    first_day = shown[0].replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    for day in (first_day + timedelta(days=further) for further in range(9)):
        for days, start, end in drawn:
            if day.weekday() not in days:
                continue
            begin, close = day + start * MINUTE, day + (end if end > start else end + 1440) * MINUTE
            has_opened = False
            for index, local in enumerate(shown):
                has_opened = has_opened or local >= begin
                if has_opened and local >= close:
                    break
                is_open[index] = is_open[index] or has_opened
    return is_open


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(sorted(ZONES)))
    near = utc(draw(st.sampled_from(ZONES[zone])))
    return zone, near + draw(st.sampled_from([0, 0, 0, 24, -24, 5000])) * timedelta(hours=1)


@settings(deadline=None, max_examples=60)
@given(places(), st.lists(parts(), min_size=1, max_size=3))
@example(("Europe/Berlin", utc("2024-10-27 01:00")), [(frozenset(range(7)), 22 * 60, 150)])
@example(("Pacific/Apia", utc("2011-12-30 10:00")), [(frozenset({4}), 22 * 60, 240), (frozenset({3}), 0, 1440)])
@example(("America/St_Johns", utc("2006-10-29 02:31")), [(frozenset({6}), 0, 30), (frozenset({5}), 1380, 1440)])
def test_a_window_is_what_the_rule_says_minute_by_minute(
    place: tuple[str, datetime], drawn: list[tuple[frozenset[int], int, int]]
) -> None:
    zone, near = place
    moments = [near + minute * MINUTE for minute in range(-36 * 60, 36 * 60)]
    expected = walk(drawn, zone, moments)
    window = Window(written(drawn), zone=zone)
    assert [window.is_open(moment) for moment in moments] == expected

    turns = [moments[i] for i in range(1, len(moments)) if expected[i] is not expected[i - 1]]
    found, at = [], moments[0]
    while (change := window.next_change(at)) is not None and change <= moments[-1]:
        found.append(change)
        at = change
    assert found == turns

    opened = next((moment for moment, is_open in zip(moments, expected, strict=True) if is_open), None)
    assert opened is None or window.next_opening(moments[0]) == opened
    minutes = sum(expected)
    if minutes:
        last = max(moment for moment, is_open in zip(moments, expected, strict=True) if is_open)
        assert window.after_open_seconds(moments[0], minutes * 60) == last + MINUTE


@pytest.mark.parametrize(
    ("hours", "rule"),
    [
        ("", "HH:MM-HH:MM"),
        ("Sat", "HH:MM-HH:MM"),
        ("22:00", "HH:MM-HH:MM"),
        ("Sat 9:00-10:00", "HH:MM-HH:MM"),
        ("Sat 22:00-04:00;", "HH:MM-HH:MM"),
        ("Sat 22:00-04:00, Sun 22:00-04:00", "got 'sat 22:00'"),
        ("Sat 22:60-23:00", "HH:MM-HH:MM"),
        ("Sat 22:00\u201304:00", "HH:MM-HH:MM"),
        ("Sat \u0662\u0662:00-04:00", "HH:MM-HH:MM"),
        ("Sat\n22:00-04:00", "HH:MM-HH:MM"),
        ("Sat 22:00-04:00\n", "HH:MM-HH:MM"),
        ("24:00-04:00", "a start from 00:00 to 23:59"),
        ("22:00-24:01", "an end up to 24:00"),
        ("22:00-99:00", "an end up to 24:00"),
        ("04:00-04:00", "00:00-24:00"),
        ("Samstag 22:00-04:00", "got 'samstag'"),
        ("Sat,,Sun 22:00-04:00", "got ''"),
        ("Sat, 22:00-04:00", "got 'Sat,22:00-04:00'"),
        ("Sat Sun 22:00-04:00", "got 'sat sun'"),
        ("Sat-Sun-Mon 22:00-04:00", "got 'sun-mon'"),
        ("Sat,\u017fun 22:00-04:00", "Mon, Tue"),
        ("Sat 22:00-04:00" + " " * 150, "at most 150 characters"),
        (7, "a str"),
        (None, "a str"),
        (["22:00-04:00"], "a str"),
        (b"22:00-04:00", "a str"),
    ],
)
def test_hours_that_cannot_be_understood_are_refused_with_an_example(hours: str, rule: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        Window(hours)
    assert refusal.value.argument == "window"
    assert refusal.value.value == hours
    assert rule in refusal.value.rule
    assert '"Sat,Sun 22:00-04:00; Mon-Fri 23:00-24:00"' in refusal.value.rule
    Window("Sat,Sun 22:00-04:00; Mon-Fri 23:00-24:00")


@pytest.mark.parametrize(
    "zone",
    ["", "Berlin", "Europe", "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "localtime", "right/Europe/Berlin",
     "posix/UTC", "\ud800", "Europe/Berlin\0", "x" * 5000, "tzdata.zi", 7, None, ["UTC"]],
)  # fmt: skip
def test_a_zone_that_is_not_known_is_refused_with_an_example(zone: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        Window("22:00-04:00", zone=zone)
    assert refusal.value.argument == "zone"
    assert refusal.value.value == zone
    assert '"Europe/Berlin"' in refusal.value.rule


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def forget() -> None:
        zoneinfo.ZoneInfo.clear_cache()
        module._load_zone.cache_clear()

    places = zoneinfo.TZPATH
    for name in ["tzdata", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    forget()
    yield
    zoneinfo.reset_tzpath(to=places)
    forget()


@pytest.mark.usefixtures("no_database")
def test_a_machine_without_time_zones_says_what_to_install_and_still_knows_utc() -> None:
    with pytest.raises(
        InvalidRequestError, match="has no database of time zones; install the package tzdata"
    ) as refusal:
        Window("22:00-04:00", zone="Europe/Berlin")
    assert refusal.value.argument == "zone"
    assert Window("22:00-04:00").is_open(utc("2024-05-15 23:00"))


@pytest.mark.parametrize("at", [datetime(2024, 5, 15), "2024-05-15", None, 1715774400.0])  # noqa: DTZ001
def test_a_moment_that_is_not_an_aware_datetime_is_refused(at: datetime) -> None:
    window = Window("22:00-04:00")
    for ask in (window.is_open, window.next_change, window.next_opening):
        with pytest.raises(InvalidRequestError, match=r"^at=.*expected an aware datetime"):
            ask(at)
    with pytest.raises(InvalidRequestError, match=r"^start=.*expected an aware datetime"):
        window.after_open_seconds(at, 1)


def test_moments_at_the_ends_of_the_calendar_are_refused_and_those_near_them_are_not() -> None:
    window = Window("Sun 22:00-04:00", zone="Pacific/Apia")
    for at in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        with pytest.raises(InvalidRequestError, match="expected a year from 2 to 8999"):
            window.is_open(at)
    for at in (datetime(2, 1, 1, tzinfo=UTC), datetime(8999, 12, 31, 23, tzinfo=UTC)):
        assert window.next_change(at) is not None
        assert window.after_open_seconds(at, 1e9) is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "60", None])
def test_open_time_that_is_not_a_number_of_seconds_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidRequestError, match="expected a finite number of seconds, 0 or more"):
        Window("22:00-04:00").after_open_seconds(NOON, seconds)


def test_a_window_is_kept_as_its_two_texts() -> None:
    window = Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")
    window.is_open(NOON)
    encoded = msgspec.json.encode(window)
    assert encoded == b'{"hours":"Sat,Sun 22:00-04:00","zone":"Europe/Berlin"}'
    assert msgspec.json.decode(encoded, type=Window) == window
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=Window) == window
    assert msgspec.json.decode(b'{"hours":"22:00-04:00"}', type=Window) == Window("22:00-04:00", zone="UTC")
    assert pickle.loads(pickle.dumps(window)) == copy.deepcopy(window) == window
    assert len({window, Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")}) == 1


@pytest.mark.parametrize("kept", [b'{"hours":"Sat"}', b'{"hours":"22:00-04:00","zone":"Nowhere"}'])
def test_a_window_that_was_kept_is_checked_when_it_is_read(kept: bytes) -> None:
    with pytest.raises(msgspec.ValidationError, match="expected") as refusal:
        msgspec.json.decode(kept, type=Window)
    assert isinstance(refusal.value.__cause__, InvalidRequestError)


async def test_a_window_can_be_made_and_asked_in_the_event_loop() -> None:
    zoneinfo.ZoneInfo.clear_cache()
    module._load_zone.cache_clear()
    assert Window("22:00-04:00", zone="Europe/Paris").is_open(utc("2024-05-15 23:00"))


def test_a_window_is_shown_as_it_is_written() -> None:
    window = Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")
    assert repr(window) == 'Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")'
    assert eval(repr(window)) == window
    assert str(window) == "Sat,Sun 22:00-04:00 (Europe/Berlin)"


def test_a_window_knows_no_clock_of_its_own() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert "datetime" in imported
    assert not {"anyio", "asyncio", "random", "time"} & imported
    assert not any(word in inspect.getsource(module) for word in (".today(", ".utcnow(", "= datetime.now("))
