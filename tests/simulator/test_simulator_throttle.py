"""The three ways of counting a minute, and the books that no throttle touches."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.simulator import Cloud, CloudSettings, FixedWindow, SlidingWindow, TokenBucket, Unlimited
from bms_async.simulator.core.throttle import MINUTE, OperationCounter, RateLimitGate, Throttle


def steps(most: float = 90.0) -> st.SearchStrategy[list[float]]:
    """Arrival times, on a grid of milliseconds so that sums of floats stay harmless."""
    gaps = st.lists(st.one_of(st.just(0), st.integers(0, int(most * 1000))), max_size=60)
    return gaps.map(lambda each: [sum(each[: i + 1]) / 1000 for i in range(len(each))])


def worst(times: list[float]) -> int:
    """The most times in any window of a minute that is open at its left end."""
    return max((sum(t - MINUTE < u <= t for u in times) for t in times), default=0)


def admitted(throttle: Throttle, times: list[float]) -> list[float]:
    return [t for t in times if throttle.admit(t) == 0.0]


@given(times=steps(), limit=st.integers(1, 8))
def test_a_sliding_window_never_admits_more_than_its_limit_in_any_minute(times: list[float], limit: int) -> None:
    assert worst(admitted(SlidingWindow(limit), times)) <= limit


@given(times=steps(), limit=st.integers(1, 8))
def test_a_sliding_window_refuses_only_when_its_minute_is_full(times: list[float], limit: int) -> None:
    throttle = SlidingWindow(limit)
    passed: list[float] = []
    for t in times:
        wait = throttle.admit(t)
        full = sum(t - MINUTE < u for u in passed) >= limit
        assert (wait > 0.0) == full
        if wait == 0.0:
            passed.append(t)


@given(times=steps(), limit=st.integers(1, 8), phase=st.integers(0, 59))
def test_a_fixed_window_admits_its_limit_between_two_boundaries(times: list[float], limit: int, phase: int) -> None:
    passed = admitted(FixedWindow(limit, phase), times)
    windows = [math.floor((t - phase) / MINUTE) for t in passed]
    assert max((windows.count(each) for each in windows), default=0) <= limit


def test_a_fixed_window_lets_twice_its_limit_through_around_a_boundary() -> None:
    throttle = FixedWindow(5, phase=3.0)
    passed = admitted(throttle, [62.9] * 9 + [63.0] * 9)
    assert len(passed) == 10


@given(times=steps(), limit=st.integers(1, 8))
def test_a_token_bucket_never_admits_more_than_it_held_and_got(times: list[float], limit: int) -> None:
    passed = admitted(TokenBucket(limit), times)
    for i, first in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= limit + (passed[j] - first) * limit / MINUTE + 1e-6


def test_a_token_bucket_refills_evenly() -> None:
    throttle = TokenBucket(60)
    assert len(admitted(throttle, [0.0] * 100)) == 60
    assert throttle.admit(0.5) == pytest.approx(0.5)
    assert throttle.admit(1.0) == 0.0


@pytest.mark.parametrize("throttle", [FixedWindow(1, 7.0), SlidingWindow(1), TokenBucket(1)])
def test_whoever_waits_as_long_as_told_is_let_in(throttle: Throttle) -> None:
    assert throttle.admit(100.0) == 0.0
    wait = throttle.admit(111.0)
    assert 0.0 < wait <= MINUTE
    assert throttle.admit(111.0 + wait) == 0.0


def test_no_throttle_lets_everything_in() -> None:
    assert admitted(Unlimited(), [0.0] * 5000) == [0.0] * 5000


@given(times=steps())
def test_the_books_find_the_worst_minute_exactly(times: list[float]) -> None:
    book = OperationCounter()
    for t in times:
        book.count(t)
    read = book.read(50)
    assert read.worst_minute == worst(times)
    assert read.arrived == len(times)
    assert (read.first, read.last) == ((times[0], times[-1]) if times else (None, None))


def test_calls_exactly_a_minute_apart_share_no_window() -> None:
    book = OperationCounter()
    for t in (0.1, 60.1, 120.1, 180.1):
        book.count(t)
    assert book.worst_minute == 1


@given(times=steps(10.0), kind=st.sampled_from(["fixed", "sliding", "bucket", "none"]))
def test_whatever_the_throttle_the_books_count_the_refused_calls_too(times: list[float], kind: str) -> None:
    gate = RateLimitGate(CloudSettings(servers=0, throttle=kind, limits={"servers.stop": 3}))  # type: ignore[arg-type]
    waits = [gate.arrive("servers.stop", t)[1] for t in times]
    books = gate.call_counts()
    refused = sum(wait > 0.0 for wait in waits)
    assert books.refused == refused
    if times:
        book = books.operations["servers.stop"]
        assert (book.arrived, book.refused, book.worst_minute) == (len(times), refused, worst(times))
        assert book.limit == 3


def test_each_call_is_told_its_number() -> None:
    gate = RateLimitGate(CloudSettings(servers=0))
    numbers = [gate.arrive(name, 0.0)[0] for name in ("jobs.get", "servers.get", "jobs.get")]
    assert numbers == [1, 1, 2]


def test_power_operations_have_budgets_of_their_own() -> None:
    gate = RateLimitGate(CloudSettings(servers=0))
    refused = [
        gate.arrive(name, 0.0)[1] > 0.0
        for name in ("servers.start", "servers.stop", "servers.reboot")
        for _ in range(50)
    ]
    assert not any(refused)


@pytest.mark.parametrize("throttle", ["fixed", "sliding", "bucket"])
def test_power_operations_can_share_one_budget(throttle: str) -> None:
    settings = CloudSettings(servers=0, shared_power_budget=True, throttle=throttle)  # type: ignore[arg-type]
    gate = RateLimitGate(settings)
    names = ["servers.start", "servers.stop", "servers.reboot"] * 20
    refused = sum(gate.arrive(name, 100.0)[1] > 0.0 for name in names)
    books = gate.call_counts()
    assert refused == books.refused == 10
    assert books.operations["servers.action"].worst_minute == 60
    assert sum(books.operations[name].refused for name in set(names)) == 10


def test_the_phase_of_a_fixed_window_comes_from_the_seed() -> None:
    def turn(seed: int) -> float:
        gate = RateLimitGate(CloudSettings(servers=0, seed=seed, throttle="fixed", limits={"jobs.get": 1}))
        gate.arrive("jobs.get", 0.0)
        return gate.arrive("jobs.get", 0.0)[1]

    assert turn(1) == turn(1)
    assert len({turn(seed) for seed in range(10)}) == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": -1},
        {"fail_share": 1.5},
        {"stopped_share": -0.1},
        {"job_seconds": (5.0, 1.0)},
        {"latency": (-1.0, 1.0)},
        {"limits": {"servers.fly": 1}},
        {"limits": {"servers.stop": 0}},
        {"token": ""},
        {"job_hidden_seconds": -1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CloudSettings(**wrong)  # type: ignore[arg-type]


def test_a_cloud_is_made_again_from_its_seed() -> None:
    settings = CloudSettings(servers=500, seed=3, fail_share=0.02, stopped_share=0.1)
    one, other = (Cloud(settings, lambda: 5.0) for _ in range(2))
    assert list(one.servers) == list(other.servers)
    assert [each.faulty for each in one.servers.values()] == [each.faulty for each in other.servers.values()]
    assert sum(each.faulty for each in one.servers.values()) == 10
    assert one.count_servers() == {"ACTIVE": 450, "SHUTOFF": 50, "HARD_REBOOT": 0}
    assert list(one.servers) != list(Cloud(CloudSettings(servers=500, seed=4)).servers)


def test_ids_are_uuids_and_all_different() -> None:
    import uuid

    ids = list(Cloud(CloudSettings(servers=2000)).servers)
    assert len(set(ids)) == 2000
    assert all(str(uuid.UUID(each)) == each and uuid.UUID(each).version == 4 for each in ids)
    assert all(a != b for a, b in pairwise(ids))
