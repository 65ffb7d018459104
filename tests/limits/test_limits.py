"""The limits of an account, and the pace of what should be even."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import ConfigurationError, Limits
from bms_async.api import operations
from bms_async.limits import DOCUMENTED_LIMITS, Pace
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
    ("changes", "told"),
    [
        ({"server.stop": 20}, "did you mean 'servers.stop'?"),
        ({"": 20}, "not the name of an operation"),
        ({"servers.stop": 0}, "a whole number of calls a minute above 0"),
        ({"servers.stop": -5}, "a whole number of calls a minute above 0"),
        ({"servers.stop": True}, "a whole number of calls a minute above 0"),
        ({"servers.stop": 2.5}, "a whole number of calls a minute above 0"),
    ],
)
def test_limits_that_cannot_be_are_refused_with_what_would_be_right(changes: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told.replace("?", r"\?")):
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
        pace = Pace(quota, burst=burst)
        for _ in range(quota * 3):
            await pace.acquire()
            turns.append(anyio.current_time())

    run_virtually(main)
    assert worst_window(turns) <= quota


def test_a_pace_is_even_after_its_burst() -> None:
    async def main() -> None:
        pace = Pace(1800)
        await pace.acquire()
        begun = anyio.current_time()
        for _ in range(600):
            await pace.acquire()
        assert 600 / (anyio.current_time() - begun) == pytest.approx(pace.rate, rel=0.03)

    run_virtually(main)
