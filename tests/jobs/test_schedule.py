"""When which job is polled: pure, so without any clock."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.jobs import schedule
from bms_async.jobs.schedule import (
    DurationProfile,
    failure_delay,
    next_poll_delay,
    unprofiled_poll_delay,
    update_profile,
)


def learned(jobs: Sequence[Sequence[float]]) -> DurationProfile:
    profile = None
    for durations in jobs:
        profile = update_profile(profile, durations)
    assert profile is not None
    return profile


def drawn(median: float, jobs: int, *, seed: int = 1) -> list[list[float]]:
    rng = random.Random(seed)
    return [[median * rng.lognormvariate(0, 0.2)] for _ in range(jobs)]


def polls(profile: DurationProfile | None, *, until: float, total: int = 1, load: float = 1.0) -> Iterator[float]:
    """The ages at which a job is polled of which nothing ends."""
    age = 0.0
    while age < until:
        age += next_poll_delay(age=age, profile=profile, total=total, remaining=total, load=load)
        yield age


def gaps(ages: Iterator[float]) -> list[float]:
    return [round(after - before, 6) for before, after in pairwise([0.0, *ages])]


def test_a_kind_of_job_that_nothing_is_known_of_is_polled_soon_and_then_by_its_age() -> None:
    between = gaps(polls(None, until=3600))
    assert between[:2] == [1.0, 1.0]
    assert between == sorted(between)
    assert between[-1] == 15.0


def test_the_first_polls_come_when_jobs_of_the_kind_have_ended_before() -> None:
    profile = learned(drawn(300, 40))
    ages = list(polls(profile, until=600))
    assert len([age for age in ages if age < 150]) <= 6
    assert len([age for age in ages if 200 <= age < 450]) >= 25


def test_polls_are_the_densest_where_most_ends_were() -> None:
    profile = learned(drawn(300, 40))
    around = {age: next_poll_delay(age=age, profile=profile) for age in (100.0, 290.0)}
    assert around[290.0] < 6 < around[100.0]


def test_a_job_is_never_left_alone_for_longer_than_is_said() -> None:
    between = gaps(polls(learned(drawn(7200, 40)), until=20_000))
    assert max(between) == 30.0
    assert between[-1] == 10.0


def test_two_jobs_of_one_server_are_not_yet_enough_to_know_a_kind_by() -> None:
    assert next_poll_delay(age=0, profile=learned(drawn(300, 2))) == 1.0
    assert next_poll_delay(age=0, profile=learned(drawn(300, 3))) > 10.0
    assert next_poll_delay(age=0, profile=learned([[290.0, 300.0, 310.0]])) > 10.0


def test_what_was_long_ago_is_forgotten_in_favour_of_what_is_now() -> None:
    profile = learned([*drawn(900, 100), *drawn(60, 150, seed=2)])
    assert len([age for age in polls(profile, until=90) if age < 90]) >= 15


def test_batches_are_polled_more_often_than_jobs_of_one_server() -> None:
    profile = learned(drawn(300, 40))
    alone = len([age for age in polls(profile, until=400) if age > 200])
    together = len([age for age in polls(profile, until=400, total=1000) if age > 200])
    assert alone < together <= 2 * alone


def test_a_batch_that_is_behind_is_polled_more_often_and_one_that_is_ahead_less() -> None:
    profile = learned([[200.0 + index for index in range(100)]] * 10)
    delays = [next_poll_delay(age=260, profile=profile, total=100, remaining=left) for left in (100, 40, 5)]
    assert delays == sorted(delays)
    assert delays[0] < delays[-1]


def test_more_load_thins_out_all_polls_and_moves_the_first_one_hardly() -> None:
    profile = learned(drawn(300, 40))
    few = list(polls(profile, until=600, load=10.0))
    assert len(few) <= len(list(polls(profile, until=600))) / 6
    assert 150 < few[0] < 300


def test_nothing_learned_changes_nothing() -> None:
    assert update_profile(None, []) is None
    profile = learned(drawn(300, 5))
    assert update_profile(profile, []) is profile


def test_failed_polls_are_made_again_after_ever_longer_and_at_most_half_a_minute() -> None:
    assert [failure_delay(number) for number in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert failure_delay(10**6) == 30


def test_what_nothing_is_known_of_keeps_within_the_rate() -> None:
    assert unprofiled_poll_delay(age=0, live=1, rate=30) == 1.0
    assert unprofiled_poll_delay(age=100, live=1, rate=30) == 10.0
    assert unprofiled_poll_delay(age=1000, live=3000, rate=30) == 100.0


DURATIONS = st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), min_size=1, max_size=8)


@given(DURATIONS, st.floats(0, 1e6), st.integers(1, 1000), st.data(), st.floats(1, 1000))
def test_whatever_was_learned_a_poll_comes_and_not_too_soon(
    jobs: list[list[float]], age: float, total: int, data: st.DataObject, load: float
) -> None:
    left = data.draw(st.integers(0, total))
    delay = next_poll_delay(age=age, profile=learned(jobs), total=total, remaining=left, load=load)
    assert 1.0 <= delay <= 30.0 * load
    assert 0 < schedule.demand(delay, load) <= 1.0


@given(DURATIONS)
def test_a_course_is_a_law(jobs: list[list[float]]) -> None:
    profile = learned(jobs)
    assert all(
        math.isfinite(value)
        for curve in (profile.remaining, profile.poll_curve_many, profile.poll_curve_few)
        for value in curve
    )
    assert list(profile.remaining) == sorted(profile.remaining, reverse=True)
    assert list(profile.poll_curve_many) == sorted(profile.poll_curve_many)
    assert list(profile.poll_curve_few) == sorted(profile.poll_curve_few)
    assert profile.remaining[-1] == pytest.approx(0.0, abs=1e-9)
