"""The patience of the tests themselves, which grows with the machine."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from tests.conftest import HERE, SLOW, is_slow, pytest_configure
from tests.support.machine import Measured, measure, patience, slowness
from tests.support.virtual_clock import run_patiently, run_virtually

IDLE = Measured(cpu=0.04, wall=0.04, load=0.0, cores=2)


@pytest.mark.parametrize(
    ("machine", "times"),
    [
        (IDLE, 1.0),
        (IDLE._replace(cpu=0.02, wall=0.02), 1.0),
        (IDLE._replace(cpu=0.12, wall=0.12), 3.0),
        (IDLE._replace(wall=0.16), 4.0),
        (IDLE._replace(load=8.0), 5.0),
        (IDLE._replace(load=8.0, cores=16), 1.5),
        (IDLE._replace(wall=0.16, load=8.0), 5.0),
        (IDLE._replace(cpu=0.06, wall=0.12), 3.0),
        (IDLE._replace(load=1000.0), 10.0),
    ],
)
def test_a_machine_is_as_slow_as_its_core_and_those_it_is_shared_with(machine: Measured, times: float) -> None:
    assert slowness(machine) == pytest.approx(times)


def test_nothing_is_waited_for_less_long_than_on_an_idle_machine() -> None:
    assert measure() is measure()
    assert patience(60.0) == 60.0 * slowness(measure())


@pytest.mark.parametrize(
    ("option", "variable", "becomes"), [(None, None, "grown"), (7.0, None, 7.0), (None, "9", None)]
)
def test_a_test_may_take_as_long_as_this_machine_needs_unless_somebody_says_how_long(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    option: float | None,
    variable: str | None,
    becomes: float | str | None,
) -> None:
    monkeypatch.setattr(pytestconfig.option, "timeout", option)
    monkeypatch.delenv("PYTEST_TIMEOUT", raising=False)
    if variable is not None:
        monkeypatch.setenv("PYTEST_TIMEOUT", variable)
    pytest_configure(pytestconfig)
    assert pytestconfig.option.timeout == (patience(120.0) if becomes == "grown" else becomes)


def test_what_is_said_to_be_slow_is_there_and_the_rest_is_not_slow() -> None:
    assert [place for place in SLOW if not (HERE / place).exists()] == []
    assert is_slow(HERE / "cli" / "test_power.py")
    assert is_slow(HERE / "test_import.py")
    assert not is_slow(HERE / "test_slow_machines.py")


def test_what_was_collected_is_not_searched_for_garbage() -> None:
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize(("run", "patient"), [(run_patiently, True), (run_virtually, False)])
def test_on_the_clock_of_tests_with_a_store_no_timer_fires_before_a_slow_thread_has_answered(
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None], patient: bool
) -> None:
    happened: list[str] = []

    async def main() -> None:
        never, loop = threading.Event(), asyncio.get_running_loop()
        loop.call_later(0.01, happened.append, "timer")
        # In vain, and for ten times as long as the timer has.
        await loop.run_in_executor(None, never.wait, 0.1)
        happened.append("thread")
        await anyio.sleep(1)

    run(main)
    assert happened == (["thread", "timer"] if patient else ["timer", "thread"])
