"""The limits of an account, and the pace of what should be even."""

from __future__ import annotations

import re

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import ConfigurationError, Limits
from bms_async.api import operations
from bms_async.limits import DOCUMENTED_LIMITS, Pacer
from tests.limits.test_window import worst_window
from tests.support.virtual_clock import run_virtually


def test_the_limits_are_as_documented() -> None:
    assert dict(DOCUMENTED_LIMITS) == {
        "flavors.list": 500,
        "jobs.get": 2000,
        "quotas.get": 500,
        "servers.attach_volume": 100,
        "servers.delete_windows_password": 50,
        "servers.detach_volume": 100,
        "servers.get": 1000,
        "servers.get_windows_password": 50,
        "servers.list": 500,
        "servers.list_interfaces": 500,
        "servers.list_volumes": 500,
        "servers.reboot": 50,
        "servers.reinstall_os": 50,
        "servers.rename": 100,
        "servers.start": 50,
        "servers.stop": 50,
        "servers.update_metadata": 100,
        "versions.get": 2000,
        "versions.list": 2000,
    }
    limits = Limits()
    assert {name: limits[name].limit for name in DOCUMENTED_LIMITS} == dict(DOCUMENTED_LIMITS)


def test_one_limit_can_be_changed_or_lifted_and_the_others_stay() -> None:
    limits = Limits({"servers.stop": 20, "jobs.get": None})
    assert limits["servers.stop"].limit == 20
    assert limits["jobs.get"].limit is None
    assert limits["servers.start"].limit == 50
    assert repr(limits) == "Limits({'jobs.get': None, 'servers.stop': 20})"


def test_every_call_can_be_given_a_limit() -> None:
    for operation in operations():
        assert Limits({operation.name: 7})[operation.name].limit == 7


def test_unlimited_limits_nothing() -> None:
    limits = Limits.unlimited()
    assert all(limits[name].limit is None for name in DOCUMENTED_LIMITS)
    assert repr(limits) == "Limits.unlimited()"


def test_a_native_call_has_no_limit_until_one_is_set() -> None:
    assert Limits()["nova.servers.get"].limit is None
    assert Limits({"nova.servers.get": 30})["nova.servers.get"].limit == 30


def test_the_same_operation_has_the_same_limiter_for_everybody() -> None:
    limits = Limits()
    assert limits["servers.stop"] is limits["servers.stop"]
    assert limits["servers.stop"] is not limits["servers.start"]


def test_one_setting_makes_start_stop_and_reboot_share_one_budget() -> None:
    limits = Limits({"servers.stop": 30}, shared_power_budget=True)
    assert limits["servers.start"] is limits["servers.stop"] is limits["servers.reboot"]
    assert limits["servers.reboot"].limit == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server.stop": 20}, "did you mean 'servers.stop'?"),
        ({"": 20}, "not the name of an operation"),
        ({"servers.stop": 0}, "expected a whole number of calls a minute above 0"),
        ({"servers.stop": -5}, "expected a whole number of calls a minute above 0"),
        ({"servers.stop": True}, "expected a whole number of calls a minute above 0"),
        ({"servers.stop": 2.5}, "expected a whole number of calls a minute above 0"),
    ],
)
def test_limits_that_cannot_be_are_refused_with_what_would_be_right(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        Limits(changes)


@pytest.mark.parametrize("reserve", [-0.1, 1, 2])
def test_a_reserve_is_a_share(reserve: float) -> None:
    with pytest.raises(ConfigurationError, match="a share"):
        Limits(reserve=reserve)


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 300), st.integers(1, 20))
def test_no_window_holds_more_turns_than_the_pace_allows(quota: int, burst: int) -> None:
    turns: list[float] = []

    async def main() -> None:
        pace = Pacer(quota, burst=burst)
        for _ in range(quota * 3):
            await pace.acquire()
            turns.append(anyio.current_time())

    run_virtually(main)
    assert worst_window(turns) <= quota


def test_a_pace_is_even_after_its_burst() -> None:
    async def main() -> None:
        pace = Pacer(1800)
        await pace.acquire()
        begun = anyio.current_time()
        for _ in range(600):
            await pace.acquire()
        assert 600 / (anyio.current_time() - begun) == pytest.approx(pace.rate, rel=0.03)

    run_virtually(main)


def test_those_who_wait_for_the_first_import_share_one_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def import_slowly() -> None:
        await anyio.sleep(1)

    monkeypatch.setattr("bms_async.limits.pacer._import_aiolimiter", import_slowly)
    turns: list[float] = []

    async def main() -> None:
        pace = Pacer(60, burst=2)

        async def poll() -> None:
            await pace.acquire()
            turns.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            for _ in range(70):
                tasks.start_soon(poll)

    run_virtually(main)
    assert worst_window(turns) <= 60


async def take(limits: Limits, calls: int, operation: str = "servers.stop") -> None:
    for _ in range(calls):
        (await limits[operation].acquire()).release()


def test_one_process_goes_on_where_another_has_ended_and_both_keep_within_the_limit() -> None:
    async def first() -> dict[str, list[float]]:
        limits = Limits()
        await take(limits, 30)
        await anyio.sleep(20)
        await take(limits, 10)
        await limits["servers.stop"].acquire()
        return limits.snapshot()

    async def second() -> list[float]:
        limits = Limits()
        limits.restore(spent)
        began = anyio.current_time()
        sent = []
        for _ in range(50):
            (await limits["servers.stop"].acquire()).release()
            sent.append(anyio.current_time() - began)
        return sent

    spent = run_virtually(first)
    assert spent == {"servers.stop": pytest.approx([40.01] * 30 + [60.01] * 11, abs=1e-3)}
    sent = run_virtually(second)
    assert sent == pytest.approx([0.0] * 9 + [40.01] * 30 + [60.01] * 11, abs=1e-3)


def test_what_is_past_counts_for_nothing_and_nothing_stays_away_longer_than_a_window() -> None:
    async def main() -> None:
        limits = Limits({"servers.stop": 3})
        limits.restore({"servers.stop": [1e9, -5, 0, 10]})
        assert limits.snapshot() == {"servers.stop": pytest.approx([10, 60.01], abs=1e-3)}
        assert limits["servers.stop"].statistics().free == 1

    run_virtually(main)


def test_what_another_process_spent_may_be_more_than_there_is_and_calls_wait_for_it_all() -> None:
    async def main() -> float:
        limits = Limits({"servers.stop": 2})
        limits.restore({"servers.stop": [30, 10, 20]})
        await take(limits, 1)
        return anyio.current_time()

    assert run_virtually(main) == pytest.approx(20, abs=1e-3)


def test_a_snapshot_has_a_shared_budget_once_and_none_without_a_limit() -> None:
    async def main() -> None:
        limits = Limits(shared_power_budget=True)
        await take(limits, 2, "servers.reboot")
        await take(limits, 2, "nova.servers.get")
        spent = limits.snapshot()
        assert [len(seconds) for seconds in spent.values()] == [2]
        other = Limits(shared_power_budget=True)
        other.restore(spent)
        assert other["servers.stop"].statistics().used == 2
        unlimited = Limits.unlimited()
        unlimited.restore(spent)
        assert unlimited.snapshot() == {}

    run_virtually(main)


@pytest.mark.parametrize(
    ("spent", "message"),
    [
        ({"nova.server.get": [1.0]}, "did you mean 'nova.servers.get'"),
        ({"servers.stopp": [1.0]}, "did you mean 'servers.stop'"),
        ({"servers.stop": [1.0, float("nan")]}, "expected a number of seconds, got nan"),
        ({"servers.stop": ["1"]}, "expected a number of seconds, got '1'"),
        ({"servers.stop": [True]}, "expected a number of seconds, got True"),
    ],
)
def test_what_cannot_have_been_spent_is_refused_as_a_whole(spent: dict[str, list[float]], message: str) -> None:
    async def main() -> None:
        limits = Limits()
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            limits.restore({"servers.start": [5.0]} | spent)
        assert limits.snapshot() == {}

    run_virtually(main)


@settings(max_examples=50)
@given(
    before=st.lists(st.floats(0, 30), max_size=12).map(sorted),
    rest=st.floats(0, 40),
    after=st.integers(0, 12),
)
def test_no_window_holds_more_than_the_limit_across_two_processes(before: list[float], rest: float, after: int) -> None:
    counted: list[float] = []

    async def play(limits: Limits, moments: list[float], base: float) -> None:
        for moment in moments:
            await anyio.sleep(max(0.0, moment - anyio.current_time()))
            slot = await limits["servers.stop"].acquire()
            counted.append(base + anyio.current_time())
            slot.release()

    async def first() -> tuple[dict[str, list[float]], float]:
        limits = Limits({"servers.stop": 5})
        await play(limits, before, 0.0)
        return limits.snapshot(), anyio.current_time()

    async def second() -> None:
        limits = Limits({"servers.stop": 5})
        limits.restore({name: [each - rest for each in seconds] for name, seconds in spent.items()})
        await play(limits, [0.0] * after, ended + rest)

    spent, ended = run_virtually(first)
    run_virtually(second)
    assert worst_window(counted) <= 5
