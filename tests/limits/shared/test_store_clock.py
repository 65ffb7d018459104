"""A store's clock that gains is seen by the answers, however they travel, and one that does not is never suspected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.limits.shared.store_clock import StoreClock

TRIPS = st.lists(
    st.tuples(
        st.floats(0.001, 40), st.floats(0, 3, exclude_max=True), st.floats(0, 3, exclude_max=True)
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


@given(trips=TRIPS, ahead=st.floats(-1e6, 1e6), rate=st.floats(-0.0005, 0.0005))
def test_a_clock_as_wrong_as_clocks_are_is_never_suspected(
    trips: list[tuple[float, float, float]], ahead: float, rate: float
) -> None:
    clock, now = StoreClock(60), 0.0
    for pause, there, back in trips:
        sent = now + pause
        shown = ahead + (sent + there) * (1 + rate)
        now = sent + there + back
        assert clock.goes_on(shown, sent=sent, received=now)


@given(trips=TRIPS, jump=st.floats(0.2, 1e6), at=st.integers(0, 59))
def test_a_jump_that_is_longer_than_the_trips_is_seen_by_the_next_answer_within_a_window(
    trips: list[tuple[float, float, float]], jump: float, at: int
) -> None:
    clock, now, ahead = StoreClock(60), 0.0, 0.0
    for number, (pause, there, back) in enumerate(trips):
        sent = now + pause % 20
        seen_before = number > 0
        if number == at:
            ahead = jump + there + back + trips[number - 1][1] if number else jump
        now = sent + there + back
        steady = clock.goes_on(sent + there + ahead, sent=sent, received=now)
        if number == at:
            assert steady is not seen_before
            return
        assert steady


@pytest.mark.parametrize("between", [0.05, 0.25, 1.0, 5.0])
def test_a_clock_that_is_set_ahead_by_a_tenth_of_its_time_is_seen_within_seconds(between: float) -> None:
    clock, now = StoreClock(60), 0.0
    seen: list[float] = []
    for _ in range(round(30 / between)):
        now += between
        if not clock.goes_on(now * 1.083, sent=now - 0.001, received=now + 0.001):
            seen.append(now)
    assert seen
    assert seen[0] <= 2 + 2 * between


def test_two_answers_alone_would_not_show_it() -> None:
    now = 0.0
    for _ in range(600):
        clock = StoreClock(60)
        assert clock.goes_on(now * 1.083, sent=now, received=now)
        assert clock.goes_on((now + 0.05) * 1.083, sent=now + 0.05, received=now + 0.05)
        now += 0.05


def test_after_a_jump_it_is_the_new_time_that_counts() -> None:
    clock = StoreClock(60)
    assert clock.goes_on(100.0, sent=0.0, received=0.0)
    assert not clock.goes_on(171.0, sent=1.0, received=1.0)
    assert clock.goes_on(172.0, sent=2.0, received=2.0)


def test_a_clock_that_was_set_back_and_comes_forward_again_is_seen_too() -> None:
    clock = StoreClock(60)
    assert clock.goes_on(100.0, sent=0.0, received=0.0)
    assert clock.goes_on(51.0, sent=1.0, received=1.0)
    assert not clock.goes_on(102.0, sent=2.0, received=2.0)
