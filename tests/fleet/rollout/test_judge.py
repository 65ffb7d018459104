"""The judge of rollouts finds each broken promise, and blames nothing that was kept."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from bms_async.simulator import Absence
from bms_async.testing import run_virtually
from tests.fleet.rollout._judge import Books, books_of, judge, racks, share, zones
from tests.support.clouds import simulated

NIGHT = datetime(2026, 3, 28, 21, tzinfo=UTC)
"""22:00 in Berlin, before the night in which the clocks go forward."""


def books(*absences: tuple[str, float, float], calls: tuple[float, ...] = ()) -> Books:
    return Books([Absence(name, "reboot", asked, back) for name, asked, back in absences], calls, NIGHT)


def rack(name: str) -> str:
    return name[0]


def in_berlin(at: datetime) -> bool:
    return at.astimezone(ZoneInfo("Europe/Berlin")).hour in {22, 23, 0, 1, 2, 3}


KEPT = books(("a1", 0.0, 60.0), ("b1", 0.0, 60.0), ("a2", 60.0, 120.0), ("b2", 60.0, 120.0))


def test_a_rollout_that_keeps_everything_is_not_blamed() -> None:
    judge(KEPT, group_of=rack, allowed=1, max_groups=2, pauses=[(60.0, 500.0)], is_open=in_berlin)
    judge(KEPT, allowed=2)
    judge(KEPT, canaries=["a1", "b1"])


def test_nothing_that_was_begun_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="nothing was begun"):
        judge(books())


def blamed(found: str, seen: Books, **promised: Any) -> None:
    with pytest.raises(AssertionError, match=found):
        judge(seen, **promised)


def test_one_more_of_a_group_than_allowed_is_found_with_its_moment() -> None:
    seen = books(("a1", 0.0, 60.0), ("a2", 59.9, 120.0), ("b1", 0.0, 60.0))
    blamed(r"a: 2 servers away at 59.900 s where 1 may be: a1, a2", seen, group_of=rack, allowed=1)
    judge(seen, group_of=rack, allowed=2)


def test_a_server_that_never_comes_back_takes_its_room_for_ever() -> None:
    seen = books(("a1", 0.0, math.inf), ("a2", 9000.0, 9060.0))
    blamed("a: 2 servers away at 9000", seen, group_of=rack, allowed=1)


def test_room_is_free_only_when_a_server_has_settled() -> None:
    seen = books(("a1", 0.0, 60.0), ("a2", 89.0, 150.0))
    judge(seen, group_of=rack, allowed=1, settle=29.0)
    blamed("a: 2 servers away at 89", seen, group_of=rack, allowed=1, settle=30.0)


def test_a_share_is_rounded_down_and_at_least_one() -> None:
    allowed = share(0.1, [f"a{n}" for n in range(29)] + ["b1", "b2"], rack)
    assert (allowed("a"), allowed("b")) == (2, 1)
    three = books(("a1", 0.0, 60.0), ("a2", 0.0, 60.0), ("a3", 0.0, 60.0))
    blamed("a: 3 servers away", three, group_of=rack, allowed=allowed)
    assert share(0.29, [f"a{n}" for n in range(100)], rack)("a") == 29


@pytest.mark.parametrize("back", [60.0, math.inf], ids=["well too late", "never well"])
def test_what_begins_before_a_canary_is_well_is_found(back: float) -> None:
    blamed(
        r"b1 was asked at 59.000 s, before canary a1", books(("a1", 0.0, back), ("b1", 59.0, 120.0)), canaries=["a1"]
    )


def test_what_begins_together_with_the_canaries_is_found() -> None:
    blamed("before canary a1", books(("a1", 0.0, 60.0), ("b1", 0.0, 60.0)), canaries=["a1"])


def test_what_begins_before_a_canary_has_settled_is_found() -> None:
    seen = books(("a1", 0.0, 60.0), ("b1", 70.0, 120.0))
    judge(seen, canaries=["a1"], settle=10.0)
    blamed("before canary a1", seen, canaries=["a1"], settle=11.0)


def test_a_canary_is_well_if_its_second_attempt_was() -> None:
    judge(books(("a1", 0.0, math.inf), ("a1", 100.0, 160.0), ("b1", 160.0, 220.0)), canaries=["a1"])


def test_one_group_too_many_is_found() -> None:
    seen = books(("a1", 0.0, 60.0), ("b1", 10.0, 70.0), ("a2", 61.0, 120.0))
    blamed("2 groups touched at 10.000 s where 1 may be", seen, group_of=rack, max_groups=1)
    # Between its servers a group is still touched.
    apart = books(("a1", 0.0, 60.0), ("b1", 61.0, 70.0), ("a2", 75.0, 120.0))
    blamed("2 groups touched at 61", apart, group_of=rack, max_groups=1)
    judge(books(("a1", 0.0, math.inf), ("b1", 900.0, 960.0)), group_of=rack, max_groups=1)


HOUR = 3600.0


@pytest.mark.parametrize(("at", "kept"), [(0.0, True), (4.9 * HOUR, True), (5.0 * HOUR, False), (-1.0, False)])
def test_what_begins_outside_of_the_window_is_found(at: float, kept: bool) -> None:
    # 22:00 to 04:00 lasts five hours in this night.
    seen = books(("a1", at, at + HOUR))
    if kept:
        judge(seen, is_open=in_berlin)
    else:
        blamed("outside of the window", seen, is_open=in_berlin)


def test_a_refused_call_outside_of_the_window_or_in_a_pause_is_found() -> None:
    seen = books(("a1", 0.0, 60.0), calls=(0.0, 6 * HOUR))
    blamed(r"21600.000 s, 2026-03-29 03:00:00\+00:00, outside of the window", seen, is_open=in_berlin)
    blamed("in the pause from 21599.000 to 21700.000 s", seen, pauses=[(21599.0, 21700.0)])


def test_what_was_sent_in_time_may_arrive_a_little_later() -> None:
    seen = books(("a1", 5.0 * HOUR + 0.2, 6.0 * HOUR))
    judge(seen, is_open=in_berlin, wire=0.3)
    blamed("outside of the window", seen, is_open=in_berlin, wire=0.1)
    paused = [(5.0 * HOUR, 7.0 * HOUR)]
    judge(seen, pauses=paused, wire=0.3)
    blamed("in the pause", seen, pauses=paused, wire=0.1)


def test_what_begins_when_a_pause_has_ended_is_not_blamed() -> None:
    judge(books(("a1", 0.0, 60.0), ("a2", 100.0, 160.0)), pauses=[(50.0, 100.0)])
    blamed("in the pause", books(("a1", 0.0, 60.0), ("a2", 99.0, 160.0)), pauses=[(50.0, 100.0)])


def test_one_of_several_runs_is_judged_by_itself() -> None:
    seen = books(("a1", 0.0, math.inf), ("a2", 500.0, 560.0), calls=(0.0, 500.0))
    assert seen.between(500.0, math.inf) == books(("a2", 500.0, 560.0), calls=(500.0,))._replace(calls=[500.0])


def test_a_cloud_s_own_books_are_judged() -> None:
    async def run() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(60.0, 60.0), boot_seconds=(30.0, 30.0)) as sim:
            first, second, third, *_ = sim.ids
            rack_of, zone_of = racks(sim.cloud), zones(sim.cloud)
            assert [rack_of(each) for each in sim.ids[3:5]] == ["rack-0", "rack-1"]
            assert [zone_of(each) for each in sim.ids[3:5]] == ["az-sim-1", "az-sim-2"]
            began = sim.cloud.now()
            await (await sim.bms.servers.reboot([first]))
            await anyio.sleep(30)
            await (await sim.bms.servers.reboot([second]))
            seen = books_of(sim.cloud)
            assert len(seen.calls) == 2
            assert seen.zero + timedelta(seconds=sim.cloud.now()) > NIGHT - timedelta(days=100_000)
            judge(seen, group_of=rack_of, allowed=1, canaries=[first], pauses=[(began + 1.0, began + 90.0)])
            # Its job has ended, and it boots: a rollout that counts from the end of jobs would go on here.
            await sim.bms.servers.reboot([third])
            seen = books_of(sim.cloud)
            blamed("rack-0: 2 servers away", seen, group_of=rack_of, allowed=1)
            blamed("az-sim-1: 2 servers away", seen, group_of=zone_of, allowed=1)

    run_virtually(run)


def test_each_promise_has_a_control() -> None:
    # Each of these is broken here, and found only by whoever asks for it.
    seen = books(("a1", 0.0, 60.0), ("a2", 1.0, 61.0), ("b1", 2.0, 62.0))
    promises: list[dict[str, Any]] = [
        {"allowed": 1},
        {"canaries": ["a1"]},
        {"group_of": rack, "max_groups": 1},
        {"is_open": closed},
        {"pauses": [(0.5, 10.0)]},
    ]
    judge(seen)
    for promise in promises:
        blamed(" s", seen, **promise)


def closed(_at: datetime) -> bool:
    return False
