"""Faults by operation and occurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from bms_async.simulator import Cloud, CloudSettings
from bms_async.testing import (
    Answer,
    CutAfter,
    CutBefore,
    Delay,
    Fault,
    FaultPlan,
    GarbledJob,
    HalfBody,
    Throttled,
)

STOP = "servers.stop"


def calls(plan: FaultPlan, number: int, operation: str = STOP) -> list[Fault | None]:
    return [plan(operation, nth, "/") for nth in range(1, number + 1)]


def test_the_second_call_is_cut_and_the_others_go_well() -> None:
    plan = FaultPlan()
    plan.add(STOP, CutAfter(), nth=2)
    assert calls(plan, 3) == [None, CutAfter(), None]


def test_a_fault_is_for_its_operation_alone() -> None:
    plan = FaultPlan()
    plan.add(STOP, CutAfter())
    assert calls(plan, 2, "servers.start") == [None, None]
    assert calls(plan, 1) == [CutAfter()]


def test_calls_are_counted_from_when_the_fault_was_planned() -> None:
    plan = FaultPlan()
    calls(plan, 5)
    plan.add(STOP, CutAfter())
    assert calls(plan, 2) == [CutAfter(), None]


def test_a_fault_can_last_for_some_calls_or_for_ever() -> None:
    plan = FaultPlan()
    plan.add(STOP, Throttled(), nth=2, times=2)
    assert calls(plan, 4) == [None, Throttled(), Throttled(), None]
    plan.add(STOP, CutBefore(), times=None)
    assert calls(plan, 3) == [CutBefore()] * 3


def test_the_fault_that_was_planned_last_has_the_last_word() -> None:
    plan = FaultPlan()
    plan.add(STOP, CutBefore(), times=None)
    plan.add(STOP, Throttled(), nth=2)
    assert calls(plan, 3) == [CutBefore(), Throttled(), CutBefore()]


def test_what_has_not_happened_is_told() -> None:
    plan = FaultPlan()
    first = plan.add(STOP, CutBefore(), times=2)
    lasting = plan.add("jobs.get", Throttled(), times=None)
    assert plan.unused == [first, lasting] == plan.planned
    calls(plan, 1)
    calls(plan, 1, "jobs.get")
    assert (first.happened, lasting.happened) == (1, 1)
    assert plan.unused == [first]
    assert repr(first) == "<PlannedFault servers.stop, call 1 to 2: CutBefore()>"
    calls(plan, 1)
    assert plan.unused == []


def test_a_plan_can_be_dropped() -> None:
    plan = FaultPlan()
    plan.add(STOP, CutAfter(), times=None)
    plan.clear()
    assert calls(plan, 2) == [None, None]
    assert plan.unused == []


def test_it_is_a_hook_of_any_cloud() -> None:
    plan = FaultPlan()
    plan.add(STOP, CutAfter())
    cloud = Cloud(CloudSettings(servers=1), clock=lambda: 0.0)
    cloud.faults.append(plan)
    assert cloud.fault(STOP, 1, "/") == CutAfter()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"operation": "server.stop"}, "operation='server.stop'.*did you mean servers.stop"),
        ({"nth": 0}, "nth=0: expected a number from 1 on"),
        ({"nth": None}, "nth=None: expected a number from 1 on"),
        ({"nth": True}, "nth=True: expected a number from 1 on"),
        ({"times": 0}, "times=0"),
        ({"nth": 1.5}, "nth=1.5"),
        ({"fault": CutAfter}, r"fault=CutAfter, the class: expected a fault, such as CutAfter\(\)"),
        ({"fault": None}, "fault=NoneType"),
    ],
)
def test_a_plan_that_could_never_happen_is_refused(arguments: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"operation": STOP, "fault": CutAfter(), **arguments}
    with pytest.raises((ValueError, TypeError), match=told):
        FaultPlan().add(**given)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Answer(status=99), r"Answer\(status\): expected an HTTP status from 200 to 599, got 99"),
        (lambda: Delay(seconds=-1), r"Delay\(seconds\): expected .*, got -1"),
        (lambda: Delay(seconds=float("nan")), r"Delay\(seconds\): expected .*, got nan"),
        (lambda: Throttled(retry_after=-3), r"Throttled\(retry_after\): expected .*, got -3"),
        (lambda: HalfBody(share=1), r"HalfBody\(share\): expected a share from 0 to below 1, got 1"),
        (
            lambda: GarbledJob(how=cast("Any", ("shufled",))),
            r"GarbledJob\(how\): expected a tuple of shuffled.*, got \('shufled',\)",
        ),
        (lambda: GarbledJob(how=cast("Any", "shuffled")), r"GarbledJob\(how\): expected .*, got 'shuffled'"),
        (lambda: GarbledJob(how=("twice",), share=20), r"GarbledJob\(share\): expected .*, got 20"),
    ],
)
def test_a_fault_that_could_not_go_wrong_as_it_says_is_refused(make: Callable[[], Fault], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
