"""When a run will have ended."""

from __future__ import annotations

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.cli.following.estimate import Durations, Estimate, RunPosition, estimate_end, time_of_last_call

SPENT = st.lists(st.floats(0.01, 60), max_size=30).map(sorted)


def play(calls: int, spent: list[float], capacity: int, still: float) -> float:
    """Send one call after the other, each as soon as a slot is there."""
    slots = [*spent, *[0.0] * (capacity - len(spent))]
    heapq.heapify(slots)
    for _ in range(len(spent) - capacity):
        heapq.heappop(slots)
    at = 0.0
    for _ in range(calls):
        at = max(at, heapq.heappop(slots), still)
        heapq.heappush(slots, at + 60)
    return at


@given(calls=st.integers(0, 200), spent=SPENT, capacity=st.integers(1, 40))
def test_the_last_call_goes_when_it_would_if_all_were_sent_one_by_one(
    calls: int, spent: list[float], capacity: int
) -> None:
    assert time_of_last_call(calls, spent=spent, capacity=capacity) == pytest.approx(play(calls, spent, capacity, 0.0))


@given(calls=st.integers(1, 100), spent=SPENT, capacity=st.integers(1, 40), still=st.floats(0, 300))
def test_nothing_goes_while_the_operation_stands_still(
    calls: int, spent: list[float], capacity: int, still: float
) -> None:
    told = time_of_last_call(calls, spent=spent, capacity=capacity, blocked=still)
    assert still <= told <= play(calls, spent, capacity, still) + 1e-6


@given(spent=SPENT, capacity=st.integers(1, 40), calls=st.integers(0, 100))
def test_more_calls_never_take_less_time(spent: list[float], capacity: int, calls: int) -> None:
    fewer, more = (time_of_last_call(each, spent=spent, capacity=capacity) for each in (calls, calls + 1))
    assert fewer <= more


def test_a_hundred_calls_of_fifty_a_minute_take_a_minute_and_one_more_takes_another() -> None:
    assert [time_of_last_call(calls, spent=[], capacity=50) for calls in (50, 51, 100, 101)] == [0, 60, 60, 120]
    assert time_of_last_call(10_000, spent=[], capacity=None) == 0


@given(st.lists(st.floats(0.06, 5_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_of_durations_is_at_most_a_tenth_too_long(seconds: list[float], share: float) -> None:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    exact = sorted(seconds)[math.ceil(share * len(seconds) - 1e-9) - 1]
    told = durations.quantile(share)
    assert told is not None
    assert exact * 0.999 <= told <= exact * 1.101


def of(*seconds: float) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    return durations


def standing(unasked: int = 0, in_flight: int = 0, wave: int | None = None, since_last: float = 0.0) -> RunPosition:
    return RunPosition(
        unasked=unasked, in_flight=in_flight, batch=min(1000, wave or 1000), wave=wave, since_last=since_last
    )


def test_before_any_server_has_ended_only_the_limit_is_known() -> None:
    told = estimate_end(standing(unasked=30_000, in_flight=50_000), Durations(), spent=[40.0] * 50, capacity=50)
    assert told == Estimate(40.0, is_lower_bound=True)
    assert estimate_end(standing(in_flight=10), Durations(), spent=[], capacity=50) == Estimate(
        0.0, is_lower_bound=True
    )


def test_the_last_servers_end_as_long_after_their_call_as_others_did() -> None:
    told = estimate_end(standing(unasked=30_000), of(*[10.0] * 100), spent=[40.0] * 50, capacity=50)
    assert told.seconds == pytest.approx(50, rel=0.02)
    assert not told.is_lower_bound


def test_once_all_are_asked_the_time_since_then_counts() -> None:
    told = estimate_end(standing(in_flight=5, since_last=6.0), of(*[10.0] * 100), spent=[], capacity=50)
    assert told.seconds == pytest.approx(4, abs=0.5)
    late = estimate_end(standing(in_flight=5, since_last=100.0), of(*[10.0] * 100), spent=[], capacity=50)
    assert late.seconds == pytest.approx(10)
    assert estimate_end(standing(), of(10.0), spent=[], capacity=50).seconds == 0


def test_the_fastest_alone_tell_only_the_least() -> None:
    assert estimate_end(standing(in_flight=500), of(*[2.0] * 10), spent=[], capacity=50).is_lower_bound


def test_a_wave_waits_for_the_one_before() -> None:
    told = estimate_end(standing(unasked=900, in_flight=100, wave=100), of(*[10.0] * 200), spent=[], capacity=50)
    assert told.seconds == pytest.approx(100, rel=0.1)


@given(
    unasked=st.integers(0, 10**6), in_flight=st.integers(0, 50_000), wave=st.none() | st.integers(1, 5000),
    since_last=st.floats(0, 1e5), durations=st.lists(st.floats(0, 1e5), max_size=20), spent=SPENT,
    capacity=st.none() | st.integers(1, 50), still=st.floats(0, 100),
)  # fmt: skip
def test_it_is_always_a_time_and_never_before_the_limit_lets_the_last_call_go(
    unasked: int, in_flight: int, wave: int | None, since_last: float, durations: list[float], spent: list[float],
    capacity: int | None, still: float,
) -> None:  # fmt: skip
    how = standing(unasked, in_flight, wave, since_last)
    told = estimate_end(how, of(*durations), spent=spent, capacity=capacity, blocked=still)
    calls = -(-unasked // how.batch)
    assert math.isfinite(told.seconds)
    assert told.seconds >= (time_of_last_call(calls, spent=spent, capacity=capacity, blocked=still) if calls else 0)
